"""Finds the volumes of a data set on disk and reads them."""

from __future__ import annotations

import os

from actstore.data import acdc, images, nnunet
from actstore.data.folders import broken_link
from actstore.data.images import BlockFiles, ImageGroup
from actstore.data.nifti import digest_files
from actstore.data.pairing import Discovery
from actstore.errors import DataError
from actstore.spec import toml_tables
from actstore.units import shown


def find_volumes(data: toml_tables.Data) -> tuple[BlockFiles, ...]:
    """The volumes that ``data`` asks for, sorted by key. Reads names, ``Info.cfg`` and ``dataset.json``, no image.

    The format ``phantom`` generates its data set first where ``data.root`` does not exist.

    Raises
    ------
    DataError
        if the root is missing or holds no volume, or a requested patient is missing; if an image has no mask, a mask no
        image, or a volume two files; if a file or folder of a volume cannot be reached or is slightly misnamed; if the
        phantom cannot be written.
    """
    return discover(data).volumes


def digest_block(file: BlockFiles) -> bytes:
    """SHA-256 of all that a block's source files hold, 32 bytes, as its volume or images have it.

    Raises
    ------
    DataError
        if a file cannot be read.
    """
    return file.digest if isinstance(file, ImageGroup) else digest_files(file)


def discover(data: toml_tables.Data) -> Discovery:
    """The volumes that ``data`` asks for, as `find_volumes`, other files that were left out, and the input channels.

    Channels are named by ``data.channels``, or else by ``dataset.json`` of nnU-Net's layout if there are several.

    Raises
    ------
    DataError
        as `find_volumes`.
    """
    if data.format == "images" and os.path.exists(data.root):
        return images.find(data)
    if data.format == "phantom" and not os.path.exists(data.root):
        from actstore.data.phantom import write_phantom

        write_phantom(data.root, patients=data.phantom.patients, seed=data.phantom.seed)
    elif data.format == "phantom":
        from actstore.data.phantom import check_seed

        check_seed(data.root, data.phantom.seed)
    if not os.path.exists(data.root):
        why = broken_link(data.root) or "no such folder, or none that can be reached; correct data.root"
        raise DataError(f"{shown(data.root)}: {why}")
    find = nnunet.find if data.format == "nnunet" else acdc.find
    return find(data.root, data.patients, data.channels)
