"""Saliency maps: the gradient of a class score with respect to the image says, in one backward pass, where the class is.

    M_ij = max_c |∂S_k / ∂I_cij|

S_k is the logit, never the softmax probability, which can also grow by making other classes less likely.

K. Simonyan, A. Vedaldi, A. Zisserman, Deep Inside Convolutional Networks: Visualising Image Classification Models and
Saliency Maps, 2013, arXiv:1312.6034.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """The network in evaluation mode, its gradients switched off for parameters; everything as before on leaving."""
    mode = network.training
    wanted = [p.requires_grad for p in network.parameters()]
    network.eval().requires_grad_(False)
    try:
        yield network
    finally:
        network.train(mode)
        for parameter, want in zip(network.parameters(), wanted, strict=True):
            parameter.requires_grad_(want)


def chosen_class(logits: Float[Tensor, "B K"], target: Int64[Tensor, " B"] | int | None) -> Int64[Tensor, " B"]:
    """The classes to explain: those given, or the predicted ones."""
    if logits.ndim != 2:
        raise ValueError(
            f"a classifier gives logits (B, K), got {tuple(logits.shape)}; explain one with a classifier on top."
        )
    if target is None:
        return logits.argmax(1)
    classes = torch.as_tensor(target, device=logits.device).expand(len(logits))
    if int(classes.min()) < 0 or int(classes.max()) >= logits.shape[1]:
        raise ValueError(f"target must be a class in 0 … {logits.shape[1] - 1}, got {classes.tolist()}.")
    return classes


def score_gradient(
    network: nn.Module, x: Float[Tensor, "B C H W"], target: Int64[Tensor, " B"] | int | None = None
) -> Float[Tensor, "B C H W"]:
    """∂S_k / ∂I of each image, in evaluation mode."""
    with evaluating(network), torch.enable_grad():
        image = x.detach().clone().requires_grad_()
        logits = network(image)
        scores = logits.gather(1, chosen_class(logits, target)[:, None])
        return torch.autograd.grad(scores.sum(), image)[0]


def saliency_map(
    network: nn.Module, x: Float[Tensor, "B C H W"], target: Int64[Tensor, " B"] | int | None = None
) -> Float[Tensor, "B H W"]:
    """Largest absolute gradient over the colour channels.

    Arguments:
        network: a classifier that returns logits.
        x: images (B, C, H, W).
        target: class of each image, or one for all; None explains the predicted one.

    Returns: maps (B, H, W), not negative.
    """
    return score_gradient(network, x, target).abs().amax(1)


def class_model_visualisation(
    network: nn.Module,
    target: int,
    shape: tuple[int, int, int],
    penalty: float = 1e-2,
    steps: int = 200,
    lr: float = 1.0,
    mean: Float[Tensor, " C"] | None = None,
) -> Float[Tensor, "C H W"]:
    """The image that a class likes best: argmax_I S_k(I) − λ ‖I‖², by gradient ascent from zero.

    Arguments:
        shape: (C, H, W) of the image, in the network's centred input space.
        penalty: λ.
        steps, lr: of plain gradient ascent.
        mean: training mean of each channel, added back at the end.
    """
    image = torch.zeros(1, *shape)
    for _ in range(steps):
        image = image + lr * (score_gradient(network, image, target) - 2 * penalty * image)
    return image[0] if mean is None else image[0] + mean.view(-1, 1, 1)


def deconvnet_map(
    network: nn.Module, x: Float[Tensor, "B C H W"], target: Int64[Tensor, " B"] | int | None = None
) -> Float[Tensor, "B C H W"]:
    """The deconvolutional network's projection of a class score, for comparison: it differs from the gradient only at ReLUs.

    There the backward signal is cut where the signal itself is negative, not where the forward activation was.
    M. Zeiler, R. Fergus, 2013, arXiv:1311.2901.
    """

    def rectify(module: nn.Module, into: tuple, out: tuple) -> tuple:
        return (out[0].clamp_min(0),)

    handles = [m.register_full_backward_hook(rectify) for m in network.modules() if isinstance(m, nn.ReLU)]
    try:
        return score_gradient(network, x, target)
    finally:
        for handle in handles:
            handle.remove()
