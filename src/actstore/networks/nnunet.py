"""Builds the network of an nnU-Net v2 result folder, with its weights, without running code of the checkpoint."""

from __future__ import annotations

import contextlib
import inspect
import io
import threading
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from actstore.errors import ModelError, needing, one_line
from actstore.networks.checkpoints import read_checkpoint
from actstore.networks.weights import load_weights
from actstore.spec.nnunet_results import ResultFolder
from actstore.units import shown

#: Two threads that both redirect what is printed may leave it redirected.
_QUIET = threading.RLock()


@contextlib.contextmanager
def nnunetv2_quiet() -> Iterator[None]:
    """Import nnunetv2 without its remarks on environment variables and old plans; name the extra that it needs.

    Not for what takes time: one thread at a time, and others print nothing meanwhile.
    """
    with (
        _QUIET,
        needing("an nnU-Net result folder"),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


@cache
def import_nnunetv2() -> None:
    """Import the modules of nnunetv2 that reading, preprocessing and patches need, once and quietly.

    Raises
    ------
    MissingError
        if it is not installed.
    """
    with nnunetv2_quiet():
        import nnunetv2.utilities.plans_handling.plans_handler  # noqa: F401


def managers(folder: ResultFolder) -> tuple[Any, Any]:
    """nnunetv2's ``PlansManager`` and ``ConfigurationManager`` of a folder, which convert old plans.

    Raises
    ------
    MissingError
        if nnunetv2 is not installed.
    ModelError
        if nnunetv2 cannot use the plans.
    """
    import_nnunetv2()
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    with nnunetv2_quiet():
        plans = PlansManager(folder.mutable_plans())
        try:
            return plans, plans.get_configuration(folder.configuration)
        except Exception as error:
            raise ModelError(
                f"{shown(folder.path)}: nnunetv2 cannot use its plans: {one_line(error)}; restore plans.json, or "
                "install the nnunetv2 that wrote it"
            ) from error


def build_network(folder: ResultFolder) -> nn.Module:
    """The network that the plans describe with the fold's weights, without deep supervision, on the CPU.

    The trainer class that the checkpoint names is imported only if the plans' network has other keys.

    Raises
    ------
    MissingError
        if nnunetv2 is not installed.
    ModelError
        if the network cannot be built, the checkpoint is of another configuration, or its weights do not fit.
    """
    plans, configuration = managers(folder)
    checkpoint = read_checkpoint(folder.weights)
    _check_configuration(folder, checkpoint)
    network = network_of_plans(folder)
    if _differs(network, checkpoint.get("network_weights")):
        network = _from_trainer(folder, plans, configuration, str(checkpoint.get("trainer_name")))
    load_weights(network, folder.weights)
    return network


def _check_configuration(folder: ResultFolder, checkpoint: Mapping[str, Any]) -> None:
    trained = (checkpoint.get("init_args") or {}).get("configuration")
    if trained is not None and trained != folder.configuration:
        raise ModelError(
            f"{shown(folder.weights)}: was trained as {trained}, its folder's name says {folder.configuration}; give "
            f"the folder the name that nnU-Net gave it"
        )


def network_of_plans(folder: ResultFolder) -> nn.Module:
    """The network that the plans describe, with untrained weights.

    Raises
    ------
    MissingError
        if nnunetv2 is not installed.
    ModelError
        if its network cannot be built.
    """
    _, configuration = managers(folder)
    name = configuration.network_arch_class_name
    try:
        with nnunetv2_quiet():
            from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

            return get_network_from_plans(  # type: ignore[no-any-return]
                name,
                configuration.network_arch_init_kwargs,
                configuration.network_arch_init_kwargs_req_import,
                len(folder.channels),
                folder.outputs,
                allow_init=False,
                deep_supervision=False,
            )
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{shown(folder.path)}: its network {name} cannot be built: {one_line(error)}; install the package that "
            "has it, in the version that it was trained with"
        ) from error


def _differs(network: nn.Module, weights: Any) -> bool:
    """Whether keys or shapes of ``weights`` are others than the network's."""
    if not isinstance(weights, dict):
        return False
    own = {name: value.shape for name, value in network.state_dict().items()}
    # Wrappers of several GPUs and of the compiler lead names with these.
    theirs = {
        name.removeprefix("module.").removeprefix("_orig_mod."): value.shape
        for name, value in weights.items()
        if isinstance(value, torch.Tensor)
    }
    return own != theirs


def _from_trainer(folder: ResultFolder, plans: Any, configuration: Any, trainer: str) -> nn.Module:
    """The network as the trainer builds it that the checkpoint names: nnunetv2 finds the class, and imports it."""
    try:
        with nnunetv2_quiet():
            build = _trainer_class(trainer).build_network_architecture
            sizes = len(folder.channels), folder.outputs
            if "plans_manager" in inspect.signature(build).parameters:
                return build(plans, configuration, *sizes, enable_deep_supervision=False)  # type: ignore[no-any-return]
            return build(  # type: ignore[no-any-return]
                configuration.network_arch_class_name,
                configuration.network_arch_init_kwargs,
                configuration.network_arch_init_kwargs_req_import,
                *sizes,
                enable_deep_supervision=False,
            )
    except Exception as error:
        raise ModelError(
            f"{shown(folder.path)}: its weights are not of the network that its plans describe, and its trainer "
            f"{trainer} cannot be asked for another: {one_line(error)}; install what the trainer needs"
        ) from error


def _trainer_class(name: str) -> Any:
    import nnunetv2
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    try:
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
    except ModuleNotFoundError:
        # Before nnunetv2 2.6, which also looks into folders of one's own.
        folder = str(Path(nnunetv2.__path__[0]) / "training" / "nnUNetTrainer")
        found = recursive_find_python_class(folder, name, "nnunetv2.training.nnUNetTrainer")
        if found is None:
            raise LookupError(f"nnunetv2 has no {name}") from None
        return found
    return recursive_find_trainer_class_by_name(name)
