"""Resolves the configuration of a MONAI bundle, and builds its network. This runs code that the bundle names."""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from torch import nn

from actstore.errors import ModelError, needing, one_line
from actstore.networks.weights import load_weights
from actstore.spec.bundle_folder import BundleFolder
from actstore.units import shown

#: The module search path and the filter of warnings belong to the process.
_RESOLVING = threading.RLock()


def resolved(folder: BundleFolder, key: str) -> Any:
    """An entry of the bundle's inference configuration as ``monai.bundle`` makes it, on the CPU.

    Configurations hold Python expressions and name classes, also in files beside them, and this runs them: only use
    bundles that you trust, as with a factory.

    Raises
    ------
    ModelError
        if the entry cannot be made.
    """
    with needing("a MONAI bundle"):
        from monai.bundle.config_parser import ConfigParser

    with _RESOLVING, _importable(str(folder.path)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parser = ConfigParser()
            parser.read_config(str(folder.config))
            parser["bundle_root"] = str(folder.path)
            if "device" in folder.inference:
                parser["device"] = "$torch.device('cpu')"
            parser.parse()
            if "imports" in folder.inference:
                parser.get_parsed_content("imports")
            return parser.get_parsed_content(key)
        except Exception as error:
            raise ModelError(
                f"{shown(folder.config)}: {key!r} cannot be made: {_cause(error)}; correct the configuration, or "
                "install what it names"
            ) from error


def build_network(folder: BundleFolder) -> nn.Module:
    """The bundle's network with the weights of ``models/model.pt``, on the CPU.

    Raises
    ------
    ModelError
        if the network cannot be made, or the weights do not fit.
    """
    network = resolved(folder, "network_def")
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"{shown(folder.config)}: 'network_def' makes a {type(network).__name__}, not a torch.nn.Module; correct it"
        )
    load_weights(network, folder.weights)
    return network


@contextlib.contextmanager
def _importable(folder: str) -> Iterator[None]:
    """Make the bundle's own scripts importable."""
    added = folder not in sys.path
    if added:
        sys.path.append(folder)
    try:
        yield
    finally:
        if added and folder in sys.path:
            sys.path.remove(folder)


def _cause(error: BaseException) -> str:
    """The innermost message: MONAI wraps it in advice on its debugger."""
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(error)
