"""One method, one seed: trained within a budget, chosen on validation, measured once on the test part."""

from __future__ import annotations

import copy
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics.functional.classification import multiclass_f1_score

from ziggurat.data.feeds import ManyGraphs, WholeGraph, feed
from ziggurat.data.loading import channel_stats, load, splits, stratified
from ziggurat.data.sources import write_atomically
from ziggurat.data.transforms import row_normalize
from ziggurat.learning.features import encode, logits
from ziggurat.learning.probes import knn_probe, linear_probe
from ziggurat.learning.regression import Regression
from ziggurat.nn.fitting import Keep, fit
from ziggurat.nn.learner import Learner
from ziggurat.nn.profile import count_parameters, macs
from ziggurat.workflows.artifact import Artifact
from ziggurat.workflows.budget import Budget
from ziggurat.workflows.links import prepare_links, train_links
from ziggurat.workflows.methods import Method, make_embedding, make_learner, make_network, shape_of
from ziggurat.workflows.outcome import VALUES, Outcome, Prepared, Task, peak_memory_mb
from ziggurat.workflows.values import judge_values, prepare_values

WARMUP, TIMED = 3, 10
COLLAPSED = 0.1


class Curve(Callback):
    """Keeps about a hundred points of the training loss."""

    def __init__(self, steps: int) -> None:
        self.every = max(steps // 100, 1)
        self.points: list[tuple[int, float]] = []

    def on_train_batch_end(self, trainer: Any, learner: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step % self.every == 0:
            self.points.append((trainer.global_step, float(outputs["loss"])))

    def state_dict(self) -> dict[str, Any]:
        return {"points": self.points}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.points = [(int(step), float(loss)) for step, loss in state["points"]]


@dataclass
class Unfinished:
    """A training that may be killed at any time: what it is, how many steps it takes, and its last checkpoint.

    Arguments:
        path: without suffix; `.unfinished.json` and `.unfinished.ckpt` are added.
        about: what must be the same when it is resumed.
        seconds: between two checkpoints.
    """

    path: Path
    about: dict[str, Any]
    seconds: float = 30.0
    steps: int | None = None

    @property
    def checkpoint(self) -> Path:
        return self.path.with_name(f"{self.path.name}.unfinished.ckpt")

    @property
    def record(self) -> Path:
        return self.path.with_name(f"{self.path.name}.unfinished.json")

    def resume(self) -> None:
        """Takes over what is there; a `ValueError` where there is nothing, or another training."""
        if not self.record.is_file():
            raise ValueError(f"there is nothing to resume at {self.path}; run the same command without --resume.")
        try:
            there = json.loads(self.record.read_text())
        except ValueError:
            raise ValueError(f"{self.record} is damaged; run the same command without --resume.") from None
        other = [f"{k} {there['about'].get(k)} (now {v})" for k, v in self.about.items() if there["about"].get(k) != v]
        if other:
            raise ValueError(f"the unfinished training at {self.path} had {', '.join(other)}; give the same again.")
        self.steps = int(there["steps"])

    def forget(self) -> None:
        """Removes what is there, and what a checkpoint that was killed while it was written has left."""
        for cut_off in self.path.parent.glob(f".{self.checkpoint.name}.*"):
            cut_off.unlink(missing_ok=True)
        self.checkpoint.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def begin(self, steps: int) -> None:
        """Writes down what begins."""
        self.steps = steps
        write_atomically(self.record, json.dumps({"about": self.about, "steps": steps}).encode())


def prepare(name: str, seed: int = 0, task: Task = "classes") -> Prepared:
    """Loads a data set by name or path and splits it; the same for every method and seed."""
    data = load(name)
    if task == "links":
        return prepare_links(data, name)
    if getattr(data, "kind", None) == "graph":
        shape = shape_of(data)
        notes = [f"{data.num_nodes:,} nodes, {data.edge_index.shape[1]:,} edges, {len(shape.classes)} classes"]
        if float(data.x.min()) >= 0:
            data = row_normalize(data)
            notes.append("features are not negative: their rows were made to sum to one")
        if "train_mask" not in data:
            known = (data.y >= 0).nonzero().flatten()
            rest, test = stratified(data.y[known], 0.2, 0)
            train, valid = stratified(data.y[known[rest]], 0.1, 0)
            for part, rows in (("train", known[rest][train]), ("val", known[rest][valid]), ("test", known[test])):
                data[f"{part}_mask"] = torch.zeros(len(data.y), dtype=torch.bool).index_fill(0, rows, True)
        return Prepared(data.name, shape, graph=data, notes=tuple(notes))
    if getattr(data, "kind", None) == "graphs" and data.task == "regression":
        return prepare_values(data)
    if not hasattr(data, "task"):
        raise ValueError(f"{name} cannot be compared on: it is no set of samples with a class each, and no graph.")
    parts = splits(name, seed=seed)
    counts = torch.bincount(parts.train.labels, minlength=len(parts.train.classes))
    notes = [data.describe()]
    present = counts[counts > 0]
    if int(present.max()) > 3 * int(present.min()):
        notes.append(
            f"classes are not balanced: {int(present.min())} to {int(present.max())} samples; look at macro F1 too"
        )
    stats = channel_stats(parts.train) if data.kind == "image" else None
    return Prepared(data.name, shape_of(data), parts=parts, normalize=stats, notes=tuple(notes))


def loader_for(learner: Learner, data: Prepared, batch_size: int, seed: int) -> Any:
    """The loader of a learner's own feed over the training part."""
    if data.graph is not None:
        kind = learner.feed
        if not isinstance(kind, WholeGraph):  # a network of tables sees the nodes' features and no edges
            kind = WholeGraph(precompute=lambda graph: (graph.x,))
        return feed(data.graph, kind)
    assert data.parts is not None
    kind = ManyGraphs() if data.shape.kind == "graphs" else learner.feed
    return feed(data.parts.train, kind, batch_size, seed, data.normalize, drop_last=len(data.parts.train) > batch_size)


def seconds_per_step(learner: Learner, batches: Any, seed: int) -> float:
    """Time of a step, after some to warm up, on a copy: what is trained later is not touched."""

    class Clock(Callback):
        times: list[float] = []

        def on_train_batch_end(self, *_: Any) -> None:
            self.times.append(time.perf_counter())

    clock = Clock()
    clock.times = []
    fit(copy.deepcopy(learner), copy.copy(batches), steps=WARMUP + TIMED, seed=seed, callbacks=[clock])
    return (clock.times[-1] - clock.times[WARMUP - 1]) / (len(clock.times) - WARMUP)


def steps_of(budget: Budget, learner: Learner, batches: Any, seed: int) -> int:
    """The budget as optimiser steps of this method."""
    if budget.unit == "steps":
        return int(budget.amount)
    if budget.unit == "epochs":
        return int(budget.amount) * len(batches)
    return max(1, int(budget.amount / seconds_per_step(learner, batches, seed)))


def judged(learner: Learner, data: Prepared, batches: Any, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(validation labels, predictions, test labels, predictions) by the learner's score; what is tuned is tuned on validation."""
    if data.graph is not None:
        with torch.inference_mode():
            predicted = learner.predict(*batches.one.to(learner.device).inputs).argmax(1).cpu()
        valid, test = data.graph.val_mask, data.graph.test_mask
        return data.graph.y[valid], predicted[valid], data.graph.y[test], predicted[test]
    assert data.parts is not None
    train, valid, test = data.parts
    if learner.score == "predict":
        said = [logits(learner, part, normalize=data.normalize).argmax(1) for part in (valid, test)]
        return valid.labels, said[0], test.labels, said[1]
    features = [encode(learner, part, normalize=data.normalize) for part in (train, valid, test)]
    probes = (
        [linear_probe(c, seed) for c in (0.01, 1.0)]
        if learner.score == "linear_probe"
        else [knn_probe(k) for k in (5, 20)]
    )
    return fit_probe(probes, features, [part.labels for part in (train, valid, test)])


def answers(artifact: Artifact, data: Prepared, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """(labels, predictions) of a checkpoint on the test part of data with the same classes."""
    shape = artifact.shape
    if data.shape.classes != shape.classes or data.shape.features != shape.features:
        raise ValueError(
            f"{artifact.method} was trained on {artifact.data} ({len(shape.classes)} classes, {shape.features} numbers a sample); "
            f"{data.name} has {len(data.shape.classes)} classes and {data.shape.features} numbers."
        )
    data.normalize = artifact.normalize
    batches = loader_for(artifact.learner, data, artifact.batch_size, artifact.seed)
    return judged(artifact.learner.to(device), data, batches, artifact.seed)[2:]


def fit_probe(probes: list[Any], features: list[Tensor], labels: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The probe that does best on validation, fitted on the training part."""
    best: tuple[float, Any] = (-1.0, None)
    for probe in probes:
        probe.fit(features[0].numpy(), labels[0].numpy())
        best = max(
            best, (float(np.mean(probe.predict(features[1].numpy()) == labels[1].numpy())), probe), key=lambda b: b[0]
        )
    said = [torch.from_numpy(best[1].predict(f.numpy())) for f in features[1:]]
    return labels[1], said[0], labels[2], said[1]


def macro_f1(predicted: Tensor, labels: Tensor, classes: int) -> float:
    """Mean over classes of the harmonic mean of precision and recall."""
    return float(multiclass_f1_score(predicted, labels, num_classes=classes, average="macro"))


def train_embedding(method: Method, data: Prepared, seed: int) -> Outcome:
    """Fits a node embedding, which has no budget, and a logistic regression on it."""
    start = time.perf_counter()
    estimator = make_embedding(method, seed).fit(data.graph)
    vectors = torch.from_numpy(np.asarray(estimator.embedding_, dtype=np.float32))
    graph = data.graph
    masks = [graph.train_mask, graph.val_mask, graph.test_mask]
    probes = [linear_probe(c, seed) for c in (0.01, 0.1, 1.0)]
    result = fit_probe(probes, [vectors[m] for m in masks], [graph.y[m] for m in masks])
    outcome = Outcome(method.text, seed, train_seconds=time.perf_counter() - start, score="linear_probe")
    return finish(outcome, result, len(data.shape.classes))


def finish(outcome: Outcome, result: tuple[Tensor, Tensor, Tensor, Tensor], classes: int) -> Outcome:
    """Fills in accuracies and the peak memory of this process."""
    valid_y, valid_said, test_y, test_said = result
    outcome.valid_accuracy = float((valid_said == valid_y).float().mean())
    outcome.accuracy = float((test_said == test_y).float().mean())
    outcome.macro_f1 = macro_f1(test_said, test_y, classes)
    outcome.peak_memory_mb = peak_memory_mb()
    return outcome


def train_method(
    method: Method,
    data: Prepared,
    budget: Budget,
    seed: int,
    batch_size: int = 128,
    steps: int | None = None,
    device: str = "cpu",
    keep: Unfinished | None = None,
) -> tuple[Outcome, Artifact | None]:
    """Trains one method with one seed.

    Arguments:
        steps: of an earlier seed of the same method, so that a time budget is turned into steps once.
        keep: where to keep the training while it is unfinished; one that is there already is gone on with.

    Returns: the outcome, and the trained method (None for an embedding of nodes, and where links or values are predicted).
    """
    if data.links is not None:
        return train_links(method, data, budget, seed), None
    if method.contract == "embedding":
        return train_embedding(method, data, seed), None
    torch.manual_seed(seed)
    values = data.parts.train.labels if data.parts is not None and data.measures is VALUES else None
    learner: Learner = (
        make_learner(method, data.shape, batch_size)
        if values is None
        else Regression(make_network(method, data.shape), float(values.mean()), float(values.std()))
    )
    batches = loader_for(learner, data, batch_size, seed)
    steps = (keep.steps if keep else None) or steps or steps_of(budget, learner, batches, seed)
    if keep is not None:
        keep.begin(steps)
    curve = Curve(steps)
    start = time.perf_counter()
    fit(
        learner, batches, steps=steps, seed=seed, device=device, callbacks=[curve],
        keep=None if keep is None else Keep(keep.checkpoint, keep.seconds),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    learner = learner.to("cpu")
    outcome = Outcome(method.text, seed, steps=steps, train_seconds=seconds, score=learner.score, curve=curve.points)
    outcome.parameters = count_parameters(learner)
    if values is None:
        finish(outcome, judged(learner, data, batches, seed), len(data.shape.classes))
    else:
        judge_values(learner, data, outcome)
    example = given(data, batches, 1)
    function = learner.network
    outcome.macs = macs(function, *example)
    many = given(data, batches, 64)
    with torch.inference_mode():
        begin = time.perf_counter()
        rows = len(function(*many))
        outcome.inference_per_second = rows / (time.perf_counter() - begin)
        monitor = getattr(learner, "monitor", None)
        if monitor is not None and data.parts is not None:
            spread = float(monitor(data.parts.valid.inputs(range(min(256, len(data.parts.valid))))))
            if spread < COLLAPSED:
                outcome.warnings.append(
                    f"{method.text} has collapsed: the spread of its features is {spread:.3f} of a healthy one."
                )
    if values is not None:
        return outcome, None
    metrics = {"accuracy": outcome.accuracy, "macro_f1": outcome.macro_f1, "valid_accuracy": outcome.valid_accuracy}
    artifact = Artifact(learner, method.text, data.shape, data.name, data.normalize, seed, batch_size, metrics)
    return outcome, artifact


def given(data: Prepared, batches: Any, count: int) -> tuple[Any, ...]:
    """What a network takes for up to `count` samples of the test part, or for the whole graph."""
    if data.parts is None:
        return next(iter(batches)).inputs
    inputs = data.parts.test.inputs(range(min(count, len(data.parts.test))))
    return inputs if isinstance(inputs, tuple) else (inputs,)


def checkpoint_name(method: str, seed: int) -> str:
    """A file name for a method and a seed."""
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in method)
    return f"{plain}-seed{seed}"


def checkpoint_path(folder: Path, method: str, seed: int) -> Path:
    """Where a comparison keeps a trained method."""
    return folder / "checkpoints" / f"{checkpoint_name(method, seed)}.safetensors"
