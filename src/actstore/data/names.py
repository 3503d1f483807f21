"""Classifies file names: an image, a companion of images, or a name that may have been meant as an image."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

#: Endings that are read, in any case: nibabel writes ``.nii.gz``, other programs ``.NII.GZ``.
_READ = re.compile(r"\.nii(\.gz)?", re.IGNORECASE)
NIFTI = (".nii.gz", ".nii")
#: Endings of images in any format, alone or followed by more: ``.nii.gz.part``, ``.nii.zst``, ``.hdr~``.
_IMAGE = re.compile(
    r"\.(nii|img|hdr|mha|mhd|nrrd|nhdr|mgh|mgz|mnc|gipl|dcm|ima|tiff?|png|bmp|jpe?g|np[yz]|b2nd)(?![a-z0-9])",
    re.IGNORECASE,
)
_PACKED = re.compile(r"\.(bz2|zst|xz|lzma|lz4|7z|rar|zip|z|tar|tgz)$", re.IGNORECASE)
#: Endings of files that accompany images.
_CHECKSUM = re.compile(r"md5|sha1|sha256|sha512|json")
_COMPANION = re.compile(
    rf"{_CHECKSUM.pattern}|txt|md|rst|csv|tsv|xlsx?|ods|xml|ya?ml|toml|ini|cfg|conf|html?|pdf|docx?|log|out|err|py|ipynb|m|r"
    "|sh|bat|bval|bvec|lock|db|sqlite|ds_store"
)
#: Folders that file systems and their servers create.
_SYSTEM = frozenset({"lost+found", "$recycle.bin", "system volume information", "@eadir", "#recycle", "__macosx"})


class Split(NamedTuple):
    """A name and its ending, which may be empty."""

    stem: str
    ending: str


def stem(name: str, ending: str = "") -> str | None:
    """``name`` without its ending in any case; ``None`` for hidden files and files of another kind.

    ``ending`` is that of the data set's files, if it is not ``.nii`` or ``.nii.gz``.
    """
    if name.startswith("."):
        return None
    for suffix in (ending.lower(),) if ending else NIFTI:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return None


def split(name: str) -> Split:
    """``name`` split before the ending of an image, or else before its last dot."""
    found = _IMAGE.search(name, 1)
    cut = found.start() if found else name.rfind(".")
    return Split(name[:cut], name[cut:]) if cut > 0 else Split(name, "")


def looks_like_image(name: str) -> bool:
    """Whether ``name`` contains the ending of an image of any format, in any case, at its end or before more text."""
    return _IMAGE.search(name, 1) is not None and not is_companion(name)


def is_nifti(name: str) -> bool:
    """Whether ``name`` ends as a NIfTI file, or in a way that no image does."""
    return not looks_like_image(name) or name.lower().endswith(NIFTI)


def is_companion(name: str) -> bool:
    """Whether ``name`` is a file that accompanies images: a text, table, checksum or AppleDouble file (``._``)."""
    if name.startswith("._"):
        return True
    ending = name.rpartition(".")[2].lower()
    return (_COMPANION if _IMAGE.search(name, 1) is None else _CHECKSUM).fullmatch(ending) is not None


def is_hidden(name: str) -> bool:
    return name.startswith(".")


def is_system(name: str) -> bool:
    """Whether a folder of that name is hidden or belongs to the file system."""
    return is_hidden(name) or name.lower() in _SYSTEM


def mend_of(name: str, wanted: str, read: str = "") -> str:
    """Why the file ``name`` is not read, and how to turn it into ``wanted``. ``read`` is the ending as in `stem`."""
    _, ending = split(name)
    if ending.lower() == read.lower() if read else _READ.fullmatch(ending):
        return f"nearly a name of the layout: rename it to {wanted}, or move it away"
    if read and _IMAGE.match(ending):
        return f"this data set's files end in {read} (dataset.json): convert it to {wanted}, or move it away"
    if _PACKED.search(ending):
        return f"packed in another way than .gz: unpack it to {wanted}, or move it away"
    if re.match(r"\.nii(?![a-z0-9])", ending, re.IGNORECASE):
        return f"unfinished, or a copy under another name: fetch or rename it to {wanted}, or move it away"
    if _IMAGE.match(ending):
        return f"only .nii and .nii.gz are read: convert it to {wanted}, or move it away"
    return f"nearly a name of the layout: make it {wanted}, or move it away"


def composed(name: str) -> str:
    """``name`` in composed Unicode form. Some file systems return decomposed names, another spelling of ``é``."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """``name`` without differences that a reader or file system overlooks: case, letter width, spaces at the ends."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).strip().casefold())


def shape(name: str) -> str:
    """``name`` in lower case with ``#`` for each number: ``patient#`` for ``Patient012``."""
    return re.sub(r"[0-9]+", "#", folded(name))
