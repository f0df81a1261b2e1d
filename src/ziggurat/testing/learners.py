"""Checks of learners and learning rules, on eight samples that their feed makes."""

from __future__ import annotations

import contextlib
import copy
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from ziggurat.data.batch import Batch
from ziggurat.data.feeds import WholeGraph, feed
from ziggurat.nn.fitting import fit
from ziggurat.testing.checking import Reason, Skip, Subject
from ziggurat.testing.examples import example_images, ring_graph

SIZE = 16


def build(s: Subject) -> Any:
    """A fresh learner with seeded weights."""
    torch.manual_seed(0)
    return s.make()


def loader(learner: Any, seed: int = 0, batch_size: int = 8) -> Any:
    """A loader of the learner's own feed over a small data set."""
    if isinstance(learner.feed, WholeGraph):
        return feed(ring_graph(), learner.feed)
    return feed(example_images(8, size=SIZE), learner.feed, batch_size, seed)


def one_batch(s: Subject) -> Batch:
    """The first batch."""
    return next(iter(loader(build(s))))


def seeded_losses(learner: Any, batch: Batch) -> dict[str, Tensor]:
    """The learner's losses, drawn with a fixed seed."""
    torch.manual_seed(0)
    return learner.losses(batch)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two states are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def check_losses_are_scalars_or_one_a_sample(s: Subject) -> None:
    """Each term has no axis, or one value a sample, and is finite."""
    learner, batch = build(s), one_batch(s)
    terms = seeded_losses(learner, batch)
    assert terms, "losses() gives no term"
    for name, value in terms.items():
        assert value.ndim == 0 or tuple(value.shape) == (len(batch),), (
            f"the loss {name} has the shape {tuple(value.shape)}"
        )
        assert torch.isfinite(value).all(), f"the loss {name} is not finite"


def check_losses_are_pure(s: Subject) -> None:
    """Asking for the losses twice gives the same and changes no parameter."""
    learner, batch = build(s).eval(), one_batch(s)
    before = state(learner)
    first, second = seeded_losses(learner, batch), seeded_losses(learner, batch)
    assert all(torch.equal(first[k], second[k]) for k in first), "losses() gives something else the second time"
    assert same(before, state(learner)), "losses() changes the state of the learner"


def check_every_parameter_learns(s: Subject) -> None:
    """Every parameter that asks for a gradient gets one."""
    learner, batch = build(s), one_batch(s)
    learner.total(seeded_losses(learner, batch), batch).backward()
    for name, parameter in learner.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, f"the parameter {name} gets no gradient"


def check_overfits_eight_samples(s: Subject) -> None:
    """200 steps on one batch of eight samples bring its loss down by half, or half of the way to a bound of −1."""
    learner, batch = build(s), one_batch(s)

    def loss() -> float:
        learner.train()
        with torch.no_grad():
            return float(learner.total(seeded_losses(learner, batch), batch))

    before = loss()
    fit(learner, [batch], steps=200)
    after = loss()
    goal = before / 2 if before > 0 else (before - 1) / 2
    assert after <= goal, f"200 steps on eight samples bring the loss from {before:.3f} to {after:.3f} only"


def check_same_seed_same_weights(s: Subject) -> None:
    """Two trainings with one seed end in the same weights, bit for bit."""
    ends = []
    for _ in range(2):
        learner = build(s)
        fit(learner, loader(learner), steps=3, seed=5)
        ends.append(state(learner))
    assert same(*ends), "two trainings with the same seed differ"


class _Stopped(Exception):
    """Ends a training in the middle of an epoch, as a crash would."""


def check_resumes_exactly(s: Subject) -> None:
    """Stopped in the middle of an epoch and resumed from Lightning's checkpoint: the same weights as without the stop."""
    import lightning
    from lightning.pytorch.callbacks import Callback

    with TemporaryDirectory() as folder:
        path = Path(folder) / "stopped.ckpt"

        class Stop(Callback):
            def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
                if trainer.global_step == 2:
                    trainer.save_checkpoint(path)
                    raise _Stopped

        def train(callbacks: list[Callback], checkpoint: Path | None = None) -> Any:
            learner = build(s)
            trainer = lightning.Trainer(
                max_steps=6, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                enable_model_summary=False, default_root_dir=folder, use_distributed_sampler=False, callbacks=callbacks,
            )  # fmt: skip
            trainer.fit(
                learner, loader(learner, batch_size=2), ckpt_path=checkpoint, weights_only=True if checkpoint else None
            )
            return state(learner)

        want = train([])
        with contextlib.suppress(_Stopped):
            train([Stop()])
        assert same(train([], path), want), "a resumed training ends in other weights"


def check_weight_counts(s: Subject) -> Skip | None:
    """A sample of weight zero does not count in terms that have one value a sample."""
    learner, batch = build(s), one_batch(s)
    terms = {k: v for k, v in seeded_losses(learner, batch).items() if v.ndim}
    if not terms:
        return Skip(Reason.NO_BATCH)
    batch.weight = torch.zeros(len(batch)).index_fill(0, torch.tensor([0]), 1.0)
    want = sum(float(v[0].detach()) for v in terms.values())
    got = float(learner.total(terms, batch).detach())
    assert math.isclose(got, want, rel_tol=1e-4, abs_tol=1e-5), "batch.weight is not respected"
    return None


def check_stops_on_nan(s: Subject) -> None:
    """A sample that is not a number stops the training with the step in the message."""
    learner = build(s)
    batch = copy.deepcopy(one_batch(s))
    for value in (
        *batch.inputs,
        *getattr(batch, "views", ()),
        getattr(batch, "support", None),
        getattr(batch, "positive", None),
    ):
        if isinstance(value, Tensor) and value.is_floating_point():
            value.fill_(math.nan)
    try:
        fit(learner, [batch], steps=1)
    except FloatingPointError as error:
        assert "step 0" in str(error), f"the message does not name the step: {error}"
        return
    raise AssertionError("a loss that is not a number does not stop the training")


def check_represents(s: Subject) -> None:
    """`represent` gives one finite vector a sample (or node)."""
    learner, batch = build(s).eval(), one_batch(s)
    with torch.no_grad():
        vectors = learner.represent(*batch.inputs)
    assert vectors.ndim == 2 and len(vectors) == len(batch.inputs[0]), f"represent gives {tuple(vectors.shape)}"
    assert torch.isfinite(vectors).all(), "represent gives numbers that are not finite"


def check_predicts(s: Subject) -> Skip | None:
    """A learner whose score is "predict" gives logits, and after training tells the eight samples apart."""
    learner = build(s)
    if learner.score != "predict":
        return Skip(Reason.NO_CLASSES)
    batches = loader(learner)
    fit(learner, batches, steps=200)
    batch = next(iter(batches))
    with torch.no_grad():
        right = batch.pick(learner.predict(*batch.inputs)).argmax(1) == batch.target
    assert float(right.float().mean()) >= 0.8, "200 steps do not teach it to tell eight samples apart"
    return None


LEARNER = (
    check_losses_are_scalars_or_one_a_sample,
    check_losses_are_pure,
    check_every_parameter_learns,
    check_overfits_eight_samples,
    check_same_seed_same_weights,
    check_resumes_exactly,
    check_weight_counts,
    check_stops_on_nan,
    check_represents,
    check_predicts,
)
