"""Exceptions of actstore. Each message names the thing, its value and the mend, in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class ActstoreError(Exception):
    """Base of every error that a user can cause or mend. ``str(error)`` is one line for a person to read."""


class SpecError(ActstoreError):
    """A run spec that cannot be used: unknown key, wrong type, impossible value."""


class DataError(ActstoreError):
    """An image, a mask or a data folder that cannot be used."""


class ModelError(ActstoreError):
    """A model factory, checkpoint or layer pattern that cannot be used."""


class PlanError(ActstoreError):
    """A run that cannot fit: memory, disk or a store whose layout is too small."""


class StoreError(ActstoreError):
    """A store that is missing, damaged, of another run, or of a newer schema."""


class DamageError(StoreError):
    """A file of a store that is missing, or not as it was written: not one that could not be reached."""


class ClusterError(ActstoreError):
    """Workers or a scheduler that do not start, are not reached, are lost, or differ from this process."""


class MissingError(ActstoreError, ImportError):
    """A library that is not installed; the message names the extra of actstore that brings it."""


class BlockError(ActstoreError):
    """Failure of one block. Carries the block's volume; survives pickling between workers and client."""

    def __init__(self, volume: str, message: str) -> None:
        super().__init__(volume, message)
        self.volume = volume
        self.message = message

    def __str__(self) -> str:
        return f"{self.volume}: {self.message}"


#: The extra that brings each library which plain actstore does not need, by the name that it is imported by.
EXTRAS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "distributed",
            "monai",
            "nibabel",
            "PIL",
            "psutil",
            "pydantic",
            "pydantic_core",
            "safetensors",
            "skimage",
            "torch",
        ),
        "capture",
    ),
    **dict.fromkeys(
        ("bokeh", "cachetools", "holoviews", "jinja2", "markupsafe", "matplotlib", "panel", "param"), "views"
    ),
    "pydicom": "dicom",
    "nnunetv2": "nnunet",
    "pyarrow": "parquet",
    "sklearn": "representations",
    "openTSNE": "tsne",
    "obstore": "s3",
    "dask_jobqueue": "slurm",
    "dask_kubernetes": "kubernetes",
    "dask_cuda": "cuda",
}


@contextmanager
def needing(purpose: str) -> Iterator[None]:
    """Name the extra to install where an import inside finds no library of :data:`EXTRAS`.

    Parameters
    ----------
    purpose
        what needs it, the subject of the message.

    Raises
    ------
    MissingError
        instead of ``ModuleNotFoundError``, for these libraries alone.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in EXTRAS:
            raise
        raise MissingError(
            f"{purpose} needs {library}, which is not installed: pip install 'actstore[{EXTRAS[library]}]'"
        ) from error


def one_line(error: BaseException) -> str:
    """The message of ``error`` on one line, led by its class name where actstore did not word it."""
    text = " ".join(str(error).split())
    if isinstance(error, ActstoreError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
