"""Checks of objectives: losses as modules of their own, called with the arguments that their row names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ziggurat.data.batch import map_tensors
from ziggurat.testing.checking import Subject
from ziggurat.testing.examples import example

ROWS = 6


def arguments(s: Subject) -> tuple:
    """The example of the row's kinds, real numbers in float64."""
    return map_tensors(example(s.input, batch=ROWS), lambda x: x.double() if x.is_floating_point() else x)


def of_the_first(s: Subject) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The objective as a function of its first argument, which is what is learnt, and that argument."""
    first, *rest = arguments(s)
    return lambda x: s.one(x, *rest), first


def check_loss_is_a_scalar_or_one_a_row(s: Subject) -> None:
    """The loss is finite: one number, or one for each row of the last argument."""
    given = arguments(s)
    loss = s.one(*given)
    assert loss.ndim == 0 or loss.shape == given[-1].shape[:1], f"a loss of shape {tuple(loss.shape)}"
    assert torch.isfinite(loss).all() and loss.dtype == torch.float64, (
        "the loss is not finite, or not of the input's type"
    )


def check_gradient_is_the_numerical_one(s: Subject) -> None:
    """The gradient by the first argument equals differences of the loss, and is not zero."""
    function, x = of_the_first(s)
    x = x.requires_grad_()
    gradient = torch.autograd.grad(function(x).sum(), x)[0]
    assert gradient.any(), "the gradient is zero everywhere"
    direction = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        slope = (function(x + 1e-6 * direction) - function(x - 1e-6 * direction)).sum() / 2e-6
    along = float((gradient * direction).sum())
    assert abs(along - float(slope)) <= 1e-5 * max(1.0, abs(along)), (
        f"the gradient along a line is {along:.4g}, the loss rises by {float(slope):.4g}"
    )


def check_objective_is_pure(s: Subject) -> None:
    """Twice the same, without drawing random numbers or changing what it was given."""
    given = arguments(s)
    before, state = [x.clone() for x in given], torch.get_rng_state()
    assert torch.equal(s.one(*given), s.one(*given)), "two calls differ"
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True)), "an argument is changed in place"
    assert torch.equal(state, torch.get_rng_state()), "it draws from torch's global generator"


def check_large_values_stay_finite(s: Subject) -> None:
    """What is a thousand times as large, or the same in every row, gives a finite loss and gradient."""
    function, x = of_the_first(s)
    for extreme in (1e3 * x, x[:1].expand_as(x).clone()):
        extreme = extreme.requires_grad_()
        loss = function(extreme)
        assert torch.isfinite(loss).all(), "large or equal rows give a loss that is not finite"
        assert torch.isfinite(torch.autograd.grad(loss.sum(), extreme)[0]).all(), (
            "large or equal rows give a gradient that is not finite"
        )


OBJECTIVE = (
    check_loss_is_a_scalar_or_one_a_row,
    check_gradient_is_the_numerical_one,
    check_objective_is_pure,
    check_large_values_stay_finite,
)
