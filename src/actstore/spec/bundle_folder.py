"""What a MONAI bundle says of its network, from its JSON files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeGuard

from actstore.conditions import BACKGROUND
from actstore.errors import ModelError, one_line
from actstore.spec.trained_json import read_json
from actstore.store.fingerprint import digest_of
from actstore.units import by, shown

_WHAT = "a MONAI bundle"
#: Entries of ``inference.json`` that are used, and what each is.
NEEDED = {
    "network_def": "the network",
    "preprocessing": "the transforms before it",
    "inferer": "the windows in which it sees an image",
}


@dataclass(frozen=True)
class BundleFolder:
    """A folder with ``configs/inference.json``, ``configs/metadata.json`` and ``models/model.pt``. Picklable."""

    kind: ClassVar[str] = "bundle"
    #: ``data.axes`` of its arrays.
    axes: ClassVar[str] = "monai"
    path: Path
    #: The file of the inference configuration.
    config: Path
    #: Its content, unresolved.
    inference: Mapping[str, Any]
    metadata: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> BundleFolder:
        """Read and check the bundle's configuration, without running anything of it.

        Raises
        ------
        ModelError
            if files or entries are missing, or the metadata do not say what the classes, channels and windows are.
        """
        if not path.is_dir():
            raise ModelError(f"{shown(path)}: no such folder; correct model.bundle")
        files = [path / "configs" / f"inference.{ending}" for ending in ("json", "yaml", "yml")]
        config = next((file for file in files if file.exists()), None)
        if config is None:
            raise ModelError(f"{shown(path)}: is not {_WHAT}, which holds configs/inference.json; correct model.bundle")
        inference = read_json(config, _WHAT) if config.suffix == ".json" else _read_yaml(config)
        folder = cls(path, config, inference, read_json(path / "configs" / "metadata.json", _WHAT))
        folder._check()
        return folder

    def _check(self) -> None:
        where = shown(self.config)
        for key, what in NEEDED.items():
            if key not in self.inference:
                raise ModelError(f"{where}: has no {key!r}, {what}; add it, or write a factory for model.factory")
        for file in ("configs/metadata.json", "models/model.pt"):
            if not (self.path / file).is_file():
                raise ModelError(f"{shown(self.path / file)}: no such file, {_WHAT} needs it; download it again")
        if len(self.window) != 3:
            raise ModelError(
                f"{where}: its network sees {self.window}, a 2D window; 2D bundles are not supported, write a factory "
                "for model.factory"
            )
        _ = self.classes, self.channels

    @property
    def weights(self) -> Path:
        return self.path / "models" / "model.pt"

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the input channels in order."""
        return tuple(self._channel_def("inputs").values())

    @property
    def classes(self) -> dict[str, int]:
        """Label value of each class without the background: its output channel, or 1 where there is one alone.

        Raises
        ------
        ModelError
            if the metadata name several channels and no background.
        """
        found = list(self._channel_def("outputs").values())
        if found[0].lower() == BACKGROUND and len(found) > 1:
            return {name: i for i, name in enumerate(found) if i}
        if len(found) == 1:
            return {found[0]: 1}
        raise ModelError(
            f"{self._metadata}: outputs.channel_def names {', '.join(found)} and no background, so that labels of "
            "these channels are unknown; write a factory for model.factory, with the regions in data.classes"
        )

    @property
    def regions_class_order(self) -> None:
        """Channels are classes, not regions."""

    @property
    def outputs(self) -> int:
        """The network's output channels."""
        return len(self._channel_def("outputs"))

    @property
    def window(self) -> tuple[int, ...]:
        """The network's input in voxels, (z, y, x): the inferer's ``roi_size``, or the metadata's shape of images.

        Raises
        ------
        ModelError
            if neither is a list of sizes.
        """
        inferer = self.inference["inferer"]
        size = inferer.get("roi_size") if isinstance(inferer, Mapping) else None
        size = size if _is_size(size) else self._entry("inputs").get("spatial_shape")
        if not _is_size(size):
            raise ModelError(
                f"{shown(self.config)}: inferer.roi_size is no list of sizes, nor is inputs.spatial_shape of "
                f"{self._metadata}; write the size of the window there, in voxels"
            )
        return tuple(int(n) for n in size)

    @property
    def identity(self) -> dict[str, str]:
        """What decides the network's input and its labels, as JSON: digests of the configuration and the scripts."""
        scripts = {
            str(file.relative_to(self.path)): file.read_bytes().hex() for file in sorted(self.path.rglob("*.py"))
        }
        return {
            "inference": digest_of(self.inference),
            "metadata": digest_of(self.metadata.get("network_data_format")),
            **({"scripts": digest_of(scripts)} if scripts else {}),
        }

    @property
    def description(self) -> str:
        """One line for `plan`."""
        windows = f"windows of {by(self.window)}"
        return f"MONAI bundle {self.path.name}: its own preprocessing, {windows}; its configuration runs code"

    @property
    def _metadata(self) -> str:
        return shown(self.path / "configs" / "metadata.json")

    def _entry(self, side: str) -> Mapping[str, Any]:
        """The first input or output of ``network_data_format``."""
        entries = (self.metadata.get("network_data_format") or {}).get(side)
        if not isinstance(entries, Mapping) or not entries:
            raise ModelError(f"{self._metadata}: has no network_data_format.{side}; add it")
        first: Mapping[str, Any] = next(iter(entries.values()))
        return first

    def _channel_def(self, side: str) -> dict[int, str]:
        names = self._entry(side).get("channel_def")
        if (
            not isinstance(names, Mapping)
            or sorted(map(str, names)) != sorted(map(str, range(len(names))))
            or not names
        ):
            raise ModelError(
                f"{self._metadata}: {side}.channel_def is {names}, which does not name the channels 0, 1, …; correct it"
            )
        return {int(key): str(names[key]) for key in sorted(names, key=int)}


def _is_size(size: Any) -> TypeGuard[Sequence[int]]:
    return isinstance(size, list | tuple) and all(isinstance(n, int) and n > 0 for n in size) and len(size) > 0


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ModelError(f"{shown(path)}: cannot be read as YAML: {one_line(error)}; correct it") from error
    if not isinstance(content, dict):
        raise ModelError(f"{shown(path)}: holds a {type(content).__name__}, not a mapping; correct it")
    return content
