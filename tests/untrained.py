"""Checkpoints for tests that do not depend on how good they are."""

import torch

from ziggurat.data import load
from ziggurat.workflows.artifact import Artifact
from ziggurat.workflows.methods import make_learner, parse_method, shape_of


def untrained(method: str, data: str = "digits") -> Artifact:
    """A checkpoint without training."""
    torch.manual_seed(0)
    shape = shape_of(load(data))
    return Artifact(make_learner(parse_method(method), shape, 32).eval(), method, shape, data, None, 0, 32, {})
