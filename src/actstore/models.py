"""Networks that ship with actstore, by the names that specs and stores give them."""

from __future__ import annotations

from torch import nn


def unet_heart_8_4_4() -> nn.Module:
    """MONAI UNet "UNetHeart 8-4-4": (batch, 1, y, x) to (batch, 4, y, x) logits of background, RV, MYO, LV."""
    from monai.networks.nets.unet import UNet

    return UNet(
        spatial_dims=2, in_channels=1, out_channels=4, channels=(8, 16, 32, 64), strides=(2, 2, 2), num_res_units=4
    )
