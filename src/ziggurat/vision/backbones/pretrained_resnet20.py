"""The CIFAR ResNet-20 with public weights of CIFAR-10, as a frozen encoder and classifier.

The weights are those of Y. Idelbayev's repository akamaster/pytorch_resnet_cifar10 (`weights_resnet20_cifar10`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ziggurat.data.sources import locate
from ziggurat.vision.backbones.resnet import KEYS, ResNet, cifar_resnet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What the public weights expect of pixels in [0, 1], channel by channel."""


def pretrained_cifar_resnet20() -> ResNet:
    """The network with its public weights, in evaluation mode."""
    from ziggurat.catalogue import translate

    network = cifar_resnet(20)
    with np.load(locate("weights_resnet20_cifar10")[0], allow_pickle=False) as file:
        state = translate({name: torch.from_numpy(file[name]) for name in file.files}, KEYS)
    lacking = network.load_state_dict(state, strict=False).missing_keys
    assert all(name.endswith("num_batches_tracked") for name in lacking)
    return network.eval()


def normalised(images: Tensor) -> Tensor:
    """Pixels in [0, 1], of one channel or three, as the public weights want them."""
    mean, std = (torch.tensor(v, device=images.device).view(-1, 1, 1) for v in (MEAN, STD))
    return (images.expand(-1, 3, -1, -1) - mean) / std
