"""The volumes of a run, as blocks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from actstore.data.discovery import discover
from actstore.data.images import BlockFiles
from actstore.data.pairing import Discovery
from actstore.data.volume import VolumeHeader
from actstore.errors import DataError
from actstore.inputs.adapters import AnyPipeline, check_dataset, covered, grid_of, pipeline_of
from actstore.jobs.blocks import FILES_AT_ONCE, Block
from actstore.spec.spec import Spec
from actstore.units import counted, first_few


def read_headers(files: Sequence[BlockFiles], pipeline: AnyPipeline) -> list[tuple[VolumeHeader | None, str]]:
    """The header of each volume, ``None`` with the reason where it cannot be read."""

    def read(file: BlockFiles) -> tuple[VolumeHeader | None, str]:
        try:
            return grid_of(pipeline, file), ""
        except DataError as error:
            return None, str(error)

    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        return list(pool.map(read, files))


@dataclass(frozen=True)
class Scanned:
    """The data of a run."""

    blocks: tuple[Block, ...]
    #: Volumes whose header could not be read, with the reason; only their blocks fail.
    unreadable: tuple[tuple[str, str], ...]
    #: Whether patches of a volume overlap.
    overlap: bool


def find(spec: Spec) -> tuple[Spec, Discovery]:
    """Find the volumes of a spec. Also returns the spec, with the input channels that the data set has.

    Raises
    ------
    DataError
        if there are none, or the channels differ from those of the spec.
    """
    check_dataset(spec)
    discovery = discover(spec.data)
    return spec.with_channels(discovery.channels), discovery


def blocks_of(spec: Spec, names: Sequence[str]) -> tuple[Block, ...]:
    """The blocks of a run that has been captured, found again in its data set.

    Raises
    ------
    DataError
        if the data set is not there, or has other volumes than ``names``.
    """
    spec, discovery = find(spec)
    blocks = scan(spec, pipeline_of(spec), discovery).blocks
    if [block.name for block in blocks] != list(names):
        raise DataError(
            f"{spec.data.root} has other volumes than were captured "
            f"({first_few([block.name for block in blocks], 3)}): give the run's data set in data.root"
        )
    return blocks


def scan(spec: Spec, pipeline: AnyPipeline, discovery: Discovery) -> Scanned:
    """How the network's inputs cover the volumes that were found.

    Raises
    ------
    DataError
        if none can be read.
    """
    headers = read_headers(discovery.volumes, pipeline)
    windows = [[] if header is None else covered(header, pipeline) for header, _ in headers]
    blocks = tuple(
        Block(i, file, header, sum(map(len, covering)))
        for i, (file, (header, _), covering) in enumerate(zip(discovery.volumes, headers, windows, strict=True))
    )
    unreadable = tuple(
        (block.name, why) for block, (_, why) in zip(blocks, headers, strict=True) if block.header is None
    )
    if len(unreadable) == len(blocks):
        raise DataError(f"none of {counted(len(blocks), 'volume')} in {spec.data.root} can be read: {unreadable[0][1]}")
    return Scanned(blocks, unreadable, any(one.overlap for covering in windows for one in covering))
