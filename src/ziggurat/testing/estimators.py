"""Checks of estimators: what is fitted at once, on rows or on a graph."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from sklearn.base import clone

from ziggurat.data.seeds import derive
from ziggurat.testing.checking import Reason, Skip, Subject
from ziggurat.testing.examples import ring_graph


def data(s: Subject) -> tuple[tuple, tuple]:
    """Arguments of `fit` and of `predict`."""
    if s.input == "graph":
        return (ring_graph(),), (ring_graph(),)
    rng = np.random.default_rng(derive(0, "rows"))
    y = np.arange(30) % 2
    x = np.abs(
        rng.normal(size=(30, 3)) + 2 * y[:, None]
    )  # some estimators take the positive orthant of the sphere only
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return (x, np.where(y == 1, 1, -1)), (x,)


def result(s: Subject, fitted: Any) -> np.ndarray:
    """What a fitted estimator says: predictions, or the embedding."""
    return np.asarray(fitted.predict(*data(s)[1]) if hasattr(fitted, "predict") else fitted.embedding_)


def check_fits(s: Subject) -> None:
    """`fit` returns itself, and what follows is finite."""
    estimator = s.make()
    assert estimator.fit(*data(s)[0]) is estimator, "fit does not return the estimator"
    assert np.isfinite(result(s, estimator)).all(), "the result is not finite"


def check_parameters_and_clone(s: Subject) -> None:
    """The constructor stores its arguments and nothing else; a clone has the same and is not fitted."""
    estimator = s.make()
    assert set(vars(estimator)) == set(estimator.get_params(deep=False)), (
        "the constructor does more than to store its arguments"
    )
    copied = clone(estimator.fit(*data(s)[0]))
    assert not [name for name in vars(copied) if name.endswith("_")], "a clone is fitted already"


def check_repeatable(s: Subject) -> None:
    """Fitted twice, it says the same."""
    first, second = (result(s, s.make().fit(*data(s)[0])) for _ in range(2))
    assert np.array_equal(first, second), "two fits with the same random_state differ"


def check_pickles(s: Subject) -> None:
    """A pickled and loaded copy says the same."""
    estimator = s.make().fit(*data(s)[0])
    assert np.array_equal(result(s, pickle.loads(pickle.dumps(estimator))), result(s, estimator)), (
        "a pickled copy differs"
    )


def check_unfitted_is_refused(s: Subject) -> Skip | None:
    """Asked before `fit`, it says so."""
    estimator = s.make()
    if not hasattr(estimator, "predict"):
        return Skip(Reason.CANNOT_TRANSFORM)
    try:
        estimator.predict(*data(s)[1])
    except ValueError as error:
        assert "fit" in str(error), f"the error does not say to call fit: {error}"
        return None
    raise AssertionError("an unfitted estimator predicts")


def check_bad_input_is_refused(s: Subject) -> None:
    """Numbers that are not finite, and edges to nodes that are not there, are a `ValueError`."""
    arguments = data(s)[0]
    if s.input == "graph":
        arguments[0].edge_index[0, 0] = 1000
    else:
        arguments[0][0, 0] = np.nan
    try:
        s.make().fit(*arguments)
    except ValueError:
        return
    raise AssertionError("bad input is accepted")


ESTIMATOR = (
    check_fits,
    check_parameters_and_clone,
    check_repeatable,
    check_pickles,
    check_unfitted_is_refused,
    check_bad_input_is_refused,
)
