"""Graphs with a value each as a task: their parts, and how well values are predicted."""

from __future__ import annotations

from typing import Any

import torch
from scipy.stats import spearmanr

from ziggurat.data.loading import Splits
from ziggurat.data.seeds import generator
from ziggurat.nn.learner import Learner
from ziggurat.workflows.methods import Shape
from ziggurat.workflows.outcome import VALUES, Outcome, Prepared, peak_memory_mb


def prepare_values(data: Any) -> Prepared:
    """Graphs with a value each: a tenth to choose by and a fifth to measure on, drawn by a seed that never changes."""
    order = torch.randperm(len(data), generator=generator(0, "values"))
    test, valid, train = order.split([len(data) // 5, len(data) // 10, len(data) - len(data) // 5 - len(data) // 10])
    parts = Splits(data.subset(train), data.subset(valid), data.subset(test))
    shape = Shape("graphs", ("value",), features=data[0].x.shape[1])
    return Prepared(data.name, shape, parts, notes=(data.describe(),), measures=VALUES)


def judge_values(learner: Learner, data: Prepared, outcome: Outcome) -> None:
    """`accuracy` is R² and `macro_f1` Spearman's rank correlation on the test part."""
    assert data.parts is not None
    scores = []
    with torch.inference_mode():
        for part in data.parts[1:]:
            said = torch.cat([learner.predict(*part.inputs(rows)) for rows in torch.arange(len(part)).split(256)])
            left = (said - part.labels).square().mean() / part.labels.var(correction=0)
            scores.append((1 - float(left), float(spearmanr(said, part.labels).statistic)))
    outcome.valid_accuracy, (outcome.accuracy, outcome.macro_f1) = scores[0][0], scores[1]
    outcome.peak_memory_mb = peak_memory_mb()
