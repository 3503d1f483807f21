"""MONAI bundles with random weights, and a bundle's own preprocessing and inferer to compare with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer

from actstore.data.volume import VolumeFile
from actstore.networks.bundle import build_network, resolved
from actstore.spec.bundle_folder import BundleFolder

NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 4,
    "channels": [4, 8],
    "strides": [[2, 2, 1]],
    "num_res_units": 1,
    "norm": "instance",
}
LOADING = [{"_target_": "LoadImaged", "keys": "image"}, {"_target_": "EnsureChannelFirstd", "keys": "image"}]
SPACING = {"_target_": "Spacingd", "keys": "image", "pixdim": [3.0, 3.0, 8.0], "mode": "bilinear"}
INFERER = {"_target_": "SlidingWindowInferer", "roi_size": [48, 48, 8], "overlap": 0.5, "mode": "gaussian"}


def made_bundle(root: Path, *transforms: dict[str, Any], **entries: Any) -> Path:
    """A bundle whose transforms follow the loader. ``name=None`` takes an entry out of its configuration."""
    config = {
        "imports": ["$import glob"],
        "bundle_root": ".",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "datalist": "$sorted(glob.glob('/nowhere/*'))",
        "network_def": NETWORK,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": [*LOADING, *transforms]},
        "inferer": INFERER,
        **entries,
    }
    names = ("background", "RV", "MYO", "LV")
    data = {
        "inputs": {"image": {"num_channels": 1, "spatial_shape": [48, 48, 8], "channel_def": {"0": "MRI"}}},
        "outputs": {"pred": {"num_channels": 4, "channel_def": {str(i): name for i, name in enumerate(names)}}},
    }
    config = {name: value for name, value in config.items() if value is not None}
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    (root / "configs" / "inference.json").write_text(json.dumps(config), encoding="utf-8")
    (root / "configs" / "metadata.json").write_text(json.dumps({"network_data_format": data}), encoding="utf-8")
    (root / "models" / "model.pt").touch()
    return root


def save_weights(folder: BundleFolder, seed: int = 0) -> None:
    torch.manual_seed(seed)
    network = resolved(folder, "network_def")
    state = {name: torch.randn_like(value.float()) * 0.2 for name, value in network.state_dict().items()}
    torch.save({name: value.to(network.state_dict()[name].dtype) for name, value in state.items()}, folder.weights)


def own_input(folder: BundleFolder, file: VolumeFile) -> torch.Tensor:
    """What the bundle's ``preprocessing`` makes of the files: (channel, i, j, k)."""
    return resolved(folder, "preprocessing")({"image": str(file.images[0])})["image"].as_tensor()


def own_logits(folder: BundleFolder, image: torch.Tensor) -> np.ndarray:
    """What the bundle's inferer gives for it: (channel, i, j, k)."""
    inferer: SlidingWindowInferer = resolved(folder, "inferer")
    with torch.inference_mode():
        return inferer(image[None], build_network(folder).eval())[0].numpy()
