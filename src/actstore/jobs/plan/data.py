"""The volumes of a run, as blocks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from actstore.data.discovery import discover
from actstore.data.nifti import read_header
from actstore.data.pairing import Discovery
from actstore.data.volume import VolumeFile, VolumeHeader
from actstore.errors import DataError
from actstore.inputs.adapters import check_dataset
from actstore.jobs.blocks import Block
from actstore.spec.spec import Spec
from actstore.units import counted


def read_headers(files: Sequence[VolumeFile], spec: Spec) -> list[tuple[VolumeHeader | None, str]]:
    def read(file: VolumeFile) -> tuple[VolumeHeader | None, str]:
        try:
            header = read_header(
                file,
                geometry=spec.data.geometry,
                sliced=spec.sliced,
                order=spec.axis_order,
                channels=len(spec.input_channels),
            )
            return header, ""
        except DataError as error:
            return None, str(error)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(read, files))


def samples_of(spec: Spec, header: VolumeHeader | None) -> int:
    if header is None:
        return 0
    return header.shape[0] if spec.sliced else 1


@dataclass(frozen=True)
class Scanned:
    """The data of a run."""

    #: With the input channels that the data set has.
    spec: Spec
    discovery: Discovery
    blocks: tuple[Block, ...]
    #: Volumes whose header could not be read, with the reason; only their blocks fail.
    unreadable: tuple[tuple[str, str], ...]


def scan(spec: Spec) -> Scanned:
    """Find the volumes of a spec and read their headers.

    Raises
    ------
    DataError
        if there are none, or none can be read.
    """
    check_dataset(spec)
    discovery = discover(spec.data)
    spec = spec.with_channels(discovery.channels)
    headers = read_headers(discovery.volumes, spec)
    blocks = tuple(
        Block(i, file, header, samples_of(spec, header))
        for i, (file, (header, _)) in enumerate(zip(discovery.volumes, headers, strict=True))
    )
    unreadable = tuple(
        (block.name, why) for block, (_, why) in zip(blocks, headers, strict=True) if block.header is None
    )
    if len(unreadable) == len(blocks):
        raise DataError(f"none of {counted(len(blocks), 'volume')} in {spec.data.root} can be read: {unreadable[0][1]}")
    return Scanned(spec, discovery, blocks, unreadable)
