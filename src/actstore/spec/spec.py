"""The run spec: a TOML file, validated on load, frozen afterwards."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    Field,
    SkipValidation,
    StrictFloat,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from actstore.case_rules import CaseRules
from actstore.conditions import CHANNEL_SEPARATOR, ONE_CHANNEL, ORIGINAL_CONDITION, REPEATS, Condition
from actstore.errors import SpecError
from actstore.paths import given
from actstore.spec.cluster import Cluster, cluster_of_kind
from actstore.spec.encoding import encoding_of
from actstore.spec.explain import Explain, check_explanations
from actstore.spec.intervene import Intervene, check_interventions
from actstore.spec.labels import Labels
from actstore.spec.precision import Precision
from actstore.spec.problems import problems
from actstore.spec.toml_tables import (
    Axes,
    Controls,
    Data,
    Model,
    NormalizationWindow,
    Perturbation,
    Run,
    StoreTable,
)
from actstore.spec.trained import Trained, with_trained
from actstore.spec.values import TomlTable, resolved
from actstore.spec.visualise import Visualise
from actstore.store.files.base import Location

AXES_MISSING = (
    "data.axes is missing, which a 3D network needs: it has to see the axes in the order of its training, and runs in "
    'any other without an error. Set data.axes = "nibabel" or "monai" if it was trained on arrays (i, j, k), as these '
    'two read a file, or "simpleitk" if on (k, j, i), as SimpleITK and nnU-Net read it'
)


class Spec(TomlTable):
    """A validated run spec. Relative paths are resolved against ``folder``, from which it was read."""

    data: Data
    model: Model
    #: None of them leaves the original alone.
    perturb: tuple[Perturbation, ...] = ()
    controls: Controls = Controls()
    store: StoreTable
    run: Run = Run()
    #: Where to compute. Not stored with the results.
    cluster: Cluster = Field(default=Cluster(), exclude=True)
    #: What `actstore visualise` does. Not part of the capture, and not stored with its results.
    visualise: Visualise = Field(default=Visualise(), exclude=True)
    #: What `actstore explain` does, one table a group of the store. Likewise.
    explain: tuple[Explain, ...] = Field(default=(), exclude=True)
    #: What `actstore intervene` does, one table a group of the store. Likewise.
    intervene: tuple[Intervene, ...] = Field(default=(), exclude=True)
    #: Thresholds of the case rules that differ from the defaults, named as in `CaseRules`.
    cases: dict[str, StrictInt | StrictFloat] = Field(default={})
    folder: Path = Field(default=Path("."), exclude=True)
    #: What ``model.nnunet`` or ``model.bundle`` names, as it was read.
    trained: Annotated[Trained | None, SkipValidation] = Field(default=None, exclude=True, repr=False)

    @field_validator("cases")
    @classmethod
    def _thresholds(cls, cases: dict[str, int | float]) -> dict[str, int | float]:
        known = [field.name for field in fields(CaseRules)]
        for name in cases:
            if name not in known:
                raise ValueError(f"unknown threshold {name!r}: there are {', '.join(known)}")
        try:
            CaseRules(**cases)  # type: ignore[arg-type]
        except SpecError as error:
            raise ValueError(str(error)) from error
        return cases

    @model_validator(mode="after")
    def _consistent(self) -> Spec:
        known = ", ".join(self.data.classes)
        for i, perturbation in enumerate(self.perturb):
            for name in (*perturbation.targets, *filter(None, [perturbation.source])):
                if name not in self.data.classes:
                    raise ValueError(f"perturb[{i}] names the class {name!r}: data.classes has {known}")
            if perturbation.source in perturbation.targets:
                raise ValueError(f"perturb[{i}] fills {perturbation.source!r} with itself: choose another source")
        names = [condition.name for condition in self.conditions]
        check_explanations(self.explain, names, self.data.classes, len(self.data.preprocess.size))
        check_interventions(self.intervene, self.conditions, self.data.classes, classified=self.data.classified)
        if self.data.classified:
            self._check_images()
        for condition, count in Counter(map(_in_order, self.conditions)).items():
            if count > 1:
                raise ValueError(f"condition {condition.name} is listed {count} times: keep one")
        if self.data.channels or self.data.format != "nnunet":
            self._check_channels()
        if self.data.axes is None and not self.sliced:
            raise ValueError(AXES_MISSING)
        return self

    def _check_images(self) -> None:
        if self.controls.region:
            raise ValueError("controls.region is of segmentations: a class of images is the whole image, take it out")
        if sources := [p.source for p in self.perturb if p.source]:
            raise ValueError(f"perturb: fills with the class {sources[0]!r}, which is no part of an image: take it out")
        if self.trained is not None:
            raise ValueError(f'model.{self.trained.kind} segments: data.format = "images" takes a classifier')

    def _check_channels(self) -> None:
        for i, perturbation in enumerate(self.perturb):
            for name in perturbation.channels or ():
                if name not in self.input_channels:
                    known = ", ".join(self.input_channels)
                    raise ValueError(f"perturb[{i}] names the input channel {name!r}: the data set has {known}")
        joined: dict[str, set[str]] = {}
        for chosen in (set(p.channels or ()) for p in self.perturb):
            text = CHANNEL_SEPARATOR.join(name for name in self.input_channels if name in chosen)
            if joined.setdefault(text, chosen) != chosen:
                ambiguous = next(name for name in sorted(chosen | joined[text]) if CHANNEL_SEPARATOR in name)
                raise ValueError(
                    f"two perturbations name other input channels, and both are called {text!r} in a store: give "
                    f"{ambiguous!r} a name without {CHANNEL_SEPARATOR!r} in data.channels"
                )
        every = set(self.input_channels)
        alike: dict[Condition, Condition] = {}
        for condition in self.conditions:
            changed = () if set(condition.channels) == every else condition.channels
            other = alike.setdefault(_in_order(replace(condition, channels=changed)), condition)
            if other is not condition:
                raise ValueError(
                    f"{other.name} and {condition.name} change the same input channels, which are all that the data "
                    "set has: keep one"
                )

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All conditions of the run in order: the original, perturbations, their controls, repeats of the original."""
        perturbed = [c for p in self.perturb for c in p.conditions]
        controls = [c.control for c in perturbed] if self.controls.region else []
        return (ORIGINAL_CONDITION, *perturbed, *controls, *(REPEATS if self.controls.noise else ()))

    @property
    def labels(self) -> Labels:
        """The exclusive classes of masks and predictions, and what each of ``data.classes`` is made of."""
        return self.data.labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """Background, then the exclusive classes by rising label value: the output channels of a softmax in order.

        Of images without the background.
        """
        return self.labels.names

    @property
    def input_channels(self) -> tuple[str, ...]:
        """Names of the input channels in the network's order, once `with_channels` has taken those of the data set."""
        return self.data.channels or ONE_CHANNEL

    @property
    def axes(self) -> Axes:
        """``data.axes``, with its default for a 2D network."""
        return self.data.axes or "nibabel"

    @property
    def axis_order(self) -> tuple[int, int, int]:
        """The file's axes (0, 1, 2 for i, j, k) in the order in which arrays have them, (slice, y, x) or (z, y, x)."""
        if self.axes == "simpleitk":
            return (2, 1, 0)
        return (2, 0, 1) if self.sliced else (0, 1, 2)

    @property
    def slice_axis(self) -> int:
        """The axis of a volume in memory, (slice, y, x) or (z, y, x), along which the file has its slices (k)."""
        return self.axis_order.index(2)

    @property
    def sliced(self) -> bool:
        """Whether the network sees slices, not volumes."""
        return len(self.data.preprocess.size) == 2

    @property
    def spatial_dims(self) -> tuple[str, ...]:
        """("y", "x") or ("z", "y", "x")."""
        return ("z", "y", "x")[-len(self.data.preprocess.size) :]

    @property
    def window(self) -> NormalizationWindow:
        """``data.preprocess.window``, with its default resolved: rescaling would disturb a comparison with controls."""
        preprocess = self.data.preprocess
        controlled = self.controls.region and preprocess.normalize != "none"
        return preprocess.window or ("original" if controlled else "perturbed")

    def with_channels(self, names: tuple[str, ...]) -> Spec:
        """This spec with the input channels that its data set was found to have.

        Raises
        ------
        SpecError
            if a perturbation names another channel.
        """
        if names == self.input_channels:
            spec = self
        else:
            spec = self.model_copy(update={"data": self.data.model_copy(update={"channels": names})})
        try:
            spec._check_channels()
        except ValueError as error:
            raise SpecError(str(error)) from error
        return spec

    def with_precision(self, precision: Precision | None) -> Spec:
        """This spec with another ``run.precision``; unchanged for ``None``."""
        if precision is None:
            return self
        return self.model_copy(update={"run": self.run.model_copy(update={"precision": precision})})

    def with_cluster(self, kind: str | None) -> Spec:
        """This spec with another ``cluster.kind``; unchanged for ``None``.

        Raises
        ------
        SpecError
            if the kind is unknown, or needs settings that the spec does not have.
        """
        return self.model_copy(update={"cluster": cluster_of_kind(self.cluster, kind)})

    def identity(self) -> dict[str, Any]:
        """The settings that decide the stored numbers, as plain JSON: no locations, nothing about how to compute."""
        dump = self.model_dump(mode="json")
        # Only values other than the default, so that stores from before these settings existed can be continued.
        chosen = {"geometry": self.data.geometry, "unrepeatable": self.model.unrepeatable}
        unusual: dict[str, Any] = {name: value for name, value in chosen.items() if value not in ("check", "refuse")}
        given = {"regions_class_order": dump["data"].get("regions_class_order"), "output": dump["model"].get("output")}
        unusual |= {name: value for name, value in given.items() if value is not None}
        if self.data.classified:
            unusual["images"] = {"colour": self.data.images.colour}
        if self.model.channels_last:
            unusual["channels_last"] = dump["model"]["channels_last"]
        if self.input_channels != ONE_CHANNEL:
            unusual["channels"] = list(self.input_channels)
        if self.axis_order != (2, 0, 1):
            unusual["axes"] = "simpleitk" if self.axes == "simpleitk" else "nibabel"
        for perturbation in dump["perturb"]:
            if perturbation["channels"] is None:
                del perturbation["channels"]
        preprocess = dump["data"]["preprocess"]
        del preprocess["window"]
        if self.window == "original" and preprocess["normalize"] != "none":
            preprocess["window"] = self.window
        return {
            **unusual,
            "classes": dump["data"]["classes"],
            "preprocess": preprocess,
            **(
                {"factory": dump["model"]["factory"], "arguments": dump["model"]["arguments"]}
                if self.trained is None
                else {self.trained.kind: self.trained.identity}
            ),
            "layers": dump["model"]["layers"],
            "perturb": dump["perturb"],
            "controls": dump["controls"],
            "dtype": dump["store"]["dtype"],
            "mantissa_bits": dump["store"]["mantissa_bits"],
            "keep": dump["store"]["keep"],
            "precision": dump["run"]["precision"],
            "seed": dump["run"]["seed"],
        }

    @classmethod
    def from_mapping(
        cls, content: Mapping[str, Any], *, folder: Path = Path("."), name: str = "spec", stored: bool = False
    ) -> Spec:
        """Validate ``content``, and resolve its paths against ``folder`` and its normalisation window.

        What ``model.nnunet`` or ``model.bundle`` says is read from there. A ``stored`` spec, which holds it already, is
        read anew.

        Raises
        ------
        SpecError
            naming each offending key, its value and what is valid.
        ModelError
            if the result folder or bundle is incomplete.
        """
        for key, why in (("folder", "paths are relative to the spec's own folder"), ("trained", "it is read")):
            if key in content:
                raise SpecError(f"{name}: unknown key {key!r}: take it out, {why}")
        content, trained = with_trained(content, folder, name=name, stored=stored)
        try:
            spec = cls.model_validate({**content, "folder": folder, "trained": trained})
        except ValidationError as error:
            raise SpecError(f"{name}: {problems(error)}") from error
        weights = spec.model.weights
        sources = {key: path and resolved(folder, path) for key, path in _sources(spec.model).items()}
        preprocess = spec.data.preprocess.model_copy(update={"window": spec.window})
        data = {"root": resolved(folder, spec.data.root), "preprocess": preprocess}
        return spec.model_copy(
            update={
                "data": spec.data.model_copy(update=data),
                "model": spec.model.model_copy(
                    update={**sources, "weights": weights and _resolve_weights(folder, weights)}
                ),
                "store": spec.store.model_copy(update={"path": _resolve_location(folder, spec.store.path)}),
                "cluster": spec.cluster.below(folder),
            }
        )


def _in_order(condition: Condition) -> Condition:
    """``condition`` with its channels in the order of the alphabet, so that two that are the same are equal."""
    return replace(condition, channels=tuple(sorted(condition.channels)))


def load_spec(path: str | Path) -> Spec:
    """Read and validate the TOML spec at ``path``; a leading ``~`` is the home folder.

    Raises
    ------
    SpecError
        if the file is missing, is not TOML, or holds an unknown key, a wrong type or an impossible value.

    Examples
    --------
    >>> spec = actstore.load_spec("run.toml")
    >>> spec.class_names
    ('background', 'RV', 'MYO', 'LV')
    """
    path = given(path, SpecError)
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise SpecError(f"{path}: no such spec file; give the path of a TOML run spec") from error
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}; check its permissions and disk") from error
    encoding = encoding_of(raw)
    if encoding not in ("utf-8", "utf-8-sig"):
        raise SpecError(f"{path}: is encoded as {encoding[:6].upper()}, TOML is UTF-8; save it as UTF-8")
    try:
        content = tomllib.loads(raw.decode(encoding))
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SpecError(
            f"{path}: not valid TOML: line {line} holds bytes that are not UTF-8; save it as UTF-8"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: not valid TOML: {error}; correct it there") from error
    return Spec.from_mapping(content, folder=path.resolve().parent, name=str(path))


def _sources(model: Model) -> dict[str, Path | None]:
    return {"nnunet": model.nnunet, "bundle": model.bundle}


def _resolve_location(folder: Path, location: Location) -> Location:
    return resolved(folder, location) if isinstance(location, Path) else location


def _resolve_weights(folder: Path, weights: Path) -> Path:
    """Resolve ``package:NAME`` to a file in ``actstore/weights``, and anything else as a path."""
    prefix, _, name = str(weights).partition(":")
    if prefix == "package" and name:
        return Path(str(files("actstore") / "weights" / name))
    return resolved(folder, weights)
