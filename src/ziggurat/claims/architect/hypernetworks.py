"""Hypernetworks: weights that change at every step beat fixed ones of the same number, and generated kernels cost little accuracy.

Dynamic, on the Brown corpus as one stream of lower-case characters (a million to train on, 100,000 to test): a HyperLSTM of width 96 with a
small LSTM of 24 and N_z = 4; an LSTM that is widened until it has at least as many parameters; and the HyperLSTM whose small state is held
at zero, so that its scales are constant. 700 steps of 64 windows of 50 characters, gradients clipped at 1; every window starts from a state
of zeros, in the test too. Adam at the rate of 2e-2 or 5e-2 that each arm's bits choose on 100,000 characters behind those of the test.
(A first measurement, at the specification's 2e-3 for all, was void: the LSTM stayed above its floor of 3 bits. HyperLSTM led it by 0.37,
but that rate was far too low for it: on seed 100 the LSTM has 3.10 bits at 2e-3, 2.83 at 6e-3, 2.55 at 2e-2 and 2.52 at 5e-2, the HyperLSTM
2.61 at 6e-3 and 2.57 at 2e-2.) Static, on Fashion-MNIST: two 7×7 convolutions of 16 channels, the second kernel plain or
generated (N_z = 4), 2 epochs on 20,000 images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from ziggurat.architect.hyper_lstm import HyperLSTM, HyperLSTMCell, Pair
from ziggurat.architect.hypernetworks import HyperConv2d, KernelGenerator
from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.batch import Batch
from ziggurat.data.feeds import feed
from ziggurat.data.loading import stratified
from ziggurat.data.seeds import generator
from ziggurat.learning.probes import accuracy
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, at_most, exactly, floor
from ziggurat.nn.fitting import Fixed, fit
from ziggurat.nn.learner import Learner
from ziggurat.nn.profile import count_parameters
from ziggurat.nn.recipe import Recipe

TRAIN, TEST, STEPS, BATCH, LENGTH, RATES = 1_000_000, 100_000, 700, 64, 50, (2e-2, 5e-2)
WIDTH, SMALL, EMBEDDING, IMAGES, EPOCHS = 96, 24, 4, 20_000, 2

published: dict[int, str] = {}
notes = Notes(
    scope="One million characters and 700 steps of small networks; the paper trains widths of 1,000 and more on PTB, enwik8 and others.",
    methodology="Same windows, steps and choice of rates; the LSTM has at least as many parameters, and its forget gates start at 1 too.",
    origin="0.02 and 0.01 bits and 1.5 points are the specification's; the paper's PTB bits are 1.312 (LSTM) and 1.265 (HyperLSTM).",
    easy="A static kernel generator is two linear maps.",
    why=(
        "scale",
        "In 700 steps the lead of the HyperLSTM is one of rates: with 2e-3 for all it leads by a third of a bit, and with the rate that "
        "each arm chooses an LSTM of its size is as good. What changing scales add shows, if at all, in longer training.",
    ),
    hard="The small state must act at the same step; scales start at 0.1 only if their maps have no bias.",
)


class ConstantScales(HyperLSTMCell):
    """The ablation: the small LSTM says nothing."""

    def small_step(self, x: Tensor, h: Tensor, state: Pair) -> Pair:
        return state


class Characters(nn.Module):
    """A recurrent network between one-hot characters and logits: (B, T) -> (B, T, symbols)."""

    def __init__(self, recurrent: nn.Module, width: int, symbols: int) -> None:
        super().__init__()
        self.recurrent, self.symbols = recurrent, symbols
        self.out = nn.Linear(width, symbols)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.recurrent(one_hot(tokens, self.symbols).float())
        return self.out(states)


class NextCharacter(Learner):
    """Cross-entropy of the next character, the mean over a window."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.network(*batch.inputs)
        return {"next": cross_entropy(logits.transpose(1, 2), batch.target, reduction="none").mean(1)}

    def recipe(self) -> Recipe:
        return Recipe(torch.optim.Adam([p for p in self.parameters() if p.requires_grad], self.lr or RATES[0]))


class Windows:
    """Random windows of a stream, a function of the seed."""

    def __init__(self, stream: Tensor, seed: int) -> None:
        self.stream, self.seed = stream, seed

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Batch]:
        for step in range(STEPS):
            first = torch.randint(
                len(self.stream) - LENGTH, (BATCH, 1), generator=generator(self.seed, "windows", step)
            )
            rows = self.stream[first + torch.arange(LENGTH + 1)]
            yield Batch((rows[:, :-1],), rows[:, 1:], first[:, 0])


def stream(text: str) -> tuple[Tensor, Tensor, Tensor, int]:
    """Characters to train, test and choose by as numbers, and how many symbols there are."""
    text = text.lower()[: TRAIN + 2 * TEST]
    symbols = {c: i for i, c in enumerate(sorted(set(text)))}
    train, test, valid = torch.tensor([symbols[c] for c in text]).split([TRAIN, TEST, TEST])
    return train, test, valid, len(symbols)


@torch.no_grad()
def bits(network: Characters, ids: Tensor) -> float:
    """Bits per character over windows side by side."""
    rows = ids[: (len(ids) - 1) // LENGTH * LENGTH + 1]
    x, y = rows[:-1].view(-1, LENGTH), rows[1:].view(-1, LENGTH)
    total = sum(
        float(cross_entropy(network(a).transpose(1, 2), b, reduction="sum"))
        for a, b in zip(x.split(250), y.split(250), strict=True)
    )
    return total / y.numel() / math.log(2)


def lstm(symbols: int, at_least: int) -> Characters:
    """The narrowest LSTM network with at least so many parameters; its forget gates start at 1."""
    width = WIDTH
    while count_parameters(made := Characters(nn.LSTM(symbols, width, batch_first=True), width, symbols)) < at_least:
        width += 1
    recurrent = made.recurrent
    assert isinstance(recurrent, nn.LSTM)
    with torch.no_grad():
        recurrent.bias_ih_l0[width : 2 * width] = 1.0
    return made


def make(arm: str, symbols: int, seed: int) -> Characters:
    """The network of an arm; the LSTM has at least the HyperLSTM's parameters."""
    torch.manual_seed(seed)
    cell = ConstantScales if arm == "constant" else HyperLSTMCell
    network = Characters(HyperLSTM(cell(symbols, WIDTH, SMALL, EMBEDDING)), WIDTH, symbols)
    return lstm(symbols, count_parameters(network)) if arm == "lstm" else network


class TwoConvolutions(nn.Module):
    """7×7 convolution, pooling, 7×7 convolution, pooling, classifier; the second kernel may be generated."""

    def __init__(self, generated: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 7, padding=3)
        self.second: nn.Module = (
            HyperConv2d(KernelGenerator(4, 7), 16, 16) if generated else nn.Conv2d(16, 16, 7, padding=3, bias=False)
        )
        self.embedding = nn.Parameter(torch.randn(1, 4)) if generated else None
        self.fc = nn.Linear(16 * 49, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.first(x).relu(), 2)
        x = self.second(x) if self.embedding is None else self.second(x, self.embedding)
        return self.fc(nn.functional.max_pool2d(x.relu(), 2).flatten(1))

    @property
    def second_weights(self) -> int:
        """Numbers that the second kernel is made of."""
        return count_parameters(self.second) + (0 if self.embedding is None else self.embedding.numel())


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Bits of the three recurrent networks, accuracies of the two convolutional ones."""
    train, test, valid, symbols = stream(run.data("text_corpus", "brown"))
    values: dict[str, float] = {"symbols": float(symbols)}
    for arm in run.progress(("hyper", "constant", "lstm"), "recurrent"):
        best = (math.inf, 0.0, 0.0)
        for rate in RATES:
            network = make(arm, symbols, seed)
            fit(NextCharacter(network, rate), Windows(train, seed), steps=STEPS, seed=seed, clip=1.0)
            best = min(best, (bits(network.eval(), valid), bits(network, test), rate))
        values[f"{arm}_parameters"] = float(count_parameters(network))
        values[f"{arm}_bits"], values[f"{arm}_rate"] = best[1:]
    pictures, looked_at = run.data("fashion_mnist", "train"), run.data("fashion_mnist", "test")
    part = pictures.subset(stratified(pictures.labels, IMAGES / len(pictures), seed)[1])
    for arm, generated in (("plain", False), ("generated", True)):
        torch.manual_seed(seed)
        convolutions = TwoConvolutions(generated)
        values[f"{arm}_weights"] = float(convolutions.second_weights)
        learner = Supervised(convolutions, lr=2e-3)
        fit(learner, feed(part, learner.feed, 64, seed), epochs=EPOCHS, seed=seed)
        values[f"{arm}_accuracy"] = accuracy(learner, looked_at)
    return values


def measure(run: Run) -> Finding:
    """Bits against both rivals, accuracy against the plain kernel."""
    rows = run.each_seed(one_seed)
    return Finding(
        clauses=(
            at_most("bits a character, HyperLSTM − LSTM", rows["hyper_bits"] - rows["lstm_bits"], -0.02, "bits"),
            at_most(
                "bits a character, HyperLSTM − constant scales",
                rows["hyper_bits"] - rows["constant_bits"],
                -0.01,
                "bits",
            ),
            at_least(
                "accuracy, generated − plain kernel",
                100 * (rows["generated_accuracy"] - rows["plain_accuracy"]),
                -1.5,
                "points",
            ),
            exactly("numbers behind the generated kernel", rows["generated_weights"], 4244),
        ),
        floors=(floor("bits of the LSTM below 3", 3 - rows["lstm_bits"], 0.0),),
        measurements=rows,
        published={"lstm_bits": 1.312, "hyper_bits": 1.265},
    )


def support(run: Run) -> dict[str, float]:
    """Bits of the HyperLSTM and the LSTM after three times the steps, at the lower rate, on the first seed."""
    train, test, _, symbols = stream(run.data("text_corpus", "brown"))
    values: dict[str, float] = {}
    for arm in ("hyper", "lstm"):
        network = make(arm, symbols, run.seeds[0])
        windows = [batch for seed in (1000, 1001, 1002) for batch in Windows(train, seed)]
        fit(NextCharacter(network, RATES[0]), Fixed(windows), steps=3 * STEPS, seed=run.seeds[0], clip=1.0)
        values[f"{arm}_bits_three_times_the_steps"] = bits(network.eval(), test)
    return values
