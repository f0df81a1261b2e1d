"""Weights that others trained, on the images they were made for."""

import numpy as np
import pytest
import torch

from ziggurat import catalogue
from ziggurat.data.loading import load
from ziggurat.data.sources import locate
from ziggurat.vision.backbones.resnet import KEYS, cifar_resnet20

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@torch.no_grad()
def test_resnet20_with_public_weights_on_cifar10():
    """91.78 % on the original test images; these are JPEGs, whose loss costs about eleven points: 81.0 % of the 10,000 here."""
    try:
        path, images = locate("weights_resnet20_cifar10")[0], load("cifar10", "test")
    except FileNotFoundError as error:
        pytest.skip(f"data: {error}")
    with np.load(path, allow_pickle=False) as file:
        state = {name: torch.from_numpy(file[name]) for name in file.files}
    network = cifar_resnet20().eval()
    missing = network.load_state_dict(catalogue.translate(state, KEYS), strict=False).missing_keys
    assert all(name.endswith("num_batches_tracked") for name in missing)
    right = 0
    for rows in torch.arange(2_000).split(500):
        x = (images.inputs(rows) - MEAN.view(-1, 1, 1)) / STD.view(-1, 1, 1)
        right += int((network(x).argmax(1) == images.labels[rows]).sum())
    assert right / 2_000 == pytest.approx(0.81, abs=0.02)
