"""Two gloo processes against one. This file is also what the two processes run, started by torchrun."""

import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import lightning
import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.nn.functional import normalize

from tests.typecheck import value_error
from ziggurat.data import feed
from ziggurat.data.loading import load
from ziggurat.learning import Supervised
from ziggurat.nn import MLP, Learner
from ziggurat.nn.distributed import gather, world

WHOLE, SAMPLES, STEPS, STOP = 32, 200, 20, 10  # 7 steps an epoch, so 10 is in the middle of the second
ROWS = (3, 5)
ROOT = Path(__file__).parents[2]


class Contrast(Learner):
    """Each sample finds the others of its class among those of all processes."""

    def losses(self, batch):
        own = normalize(self.represent(*batch.inputs), dim=1)
        everyone, labels, ids = gather(own), gather(batch.target), gather(batch.index)
        scores = (own @ everyone.T / 0.2).masked_fill(batch.index[:, None] == ids, -math.inf)
        same = (batch.target[:, None] == labels) & (batch.index[:, None] != ids)
        chance = scores.log_softmax(1).masked_fill(~same, 0.0)
        return {"contrast": -chance.sum(1) / same.sum(1).clamp_min(1)}


def supervised():
    return Supervised(MLP(64, 10, widths=(32, 32)))


def contrast():
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 16)
    )
    return Contrast(network)


class Watch(lightning.Callback):
    """The loss of every step, and a checkpoint in the middle of an epoch."""

    def __init__(self, stop=None):
        self.losses, self.stop = [], stop

    def on_train_batch_end(self, trainer, learner, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].detach().clone())
        if self.stop and trainer.global_step == STOP:
            trainer.save_checkpoint(self.stop)


def train(make, rank=0, processes=1, stop=None, start=None):
    """(loss curve, weights) with the same samples in every step, on however many processes."""
    torch.manual_seed(0)
    learner = make()
    data = load("digits").subset(torch.arange(SAMPLES))
    batches = feed(data, learner.feed, WHOLE // processes, seed=3, rank=rank, world=processes)
    watch = Watch(stop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_steps=STEPS, accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto",
            use_distributed_sampler=False, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[watch],
        )  # fmt: skip
        trainer.fit(learner, batches, ckpt_path=start, weights_only=True if start else None)
    curve = torch.stack(watch.losses)
    if processes > 1:
        dist.all_reduce(curve)
    return curve / processes, learner.state_dict()


def rows():
    """Rows for both processes, and a weight for each number."""
    g = torch.Generator().manual_seed(5)
    return torch.randn(2, sum(ROWS), 2, 3, generator=g, dtype=torch.float64)


def loss_of(gathered, rank):
    """A loss that is different on each process and not linear."""
    return ((rank + 1) * gathered**3 * rows()[1]).sum()


def work(folder):
    """One of the two processes."""
    torch.set_num_threads(1)
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    made = {"world": processes}
    for name, make in (("supervised", supervised), ("contrast", contrast)):
        stop = folder / f"{name}.ckpt"
        made[name] = train(make, rank, processes, stop)
        made[f"{name} resumed"] = train(make, rank, processes, start=stop)
    own = rows()[0].split(ROWS)[rank].requires_grad_()
    beside = torch.zeros(sum(ROWS), 2, 3, dtype=torch.float64, requires_grad=True)
    shared = beside.tanh()  # receives the same gradient, after gather, which must have left it as it was
    everyone = gather(own)
    loss_of(everyone + shared, rank).backward()
    made |= {"gathered": everyone.detach(), "gradient": own.grad, "beside": beside.grad}
    made["labels"] = gather(torch.arange(ROWS[rank]))
    torch.save(made, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What both processes found, one launch for all tests."""
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("torch: built without gloo")
    folder = tmp_path_factory.mktemp("two")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        __file__,
        str(folder),
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert result.returncode == 0, result.stderr[-4000:]
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("make", [supervised, contrast])
def test_two_processes_give_the_loss_curve_of_one(made, make):
    one, weights = train(make)
    assert len(one) == STEPS and one[-1] < one[0]
    for found in made:
        two, both = found[make.__name__]
        assert found["world"] == 2
        torch.testing.assert_close(two, one, rtol=0, atol=1e-5)
        assert all(torch.equal(both[name], made[0][make.__name__][1][name]) for name in weights), "the processes differ"


@pytest.mark.parametrize("make", [supervised, contrast])
def test_two_processes_resume_exactly(made, make):
    for found in made:
        (curve, weights), (rest, again) = found[make.__name__], found[f"{make.__name__} resumed"]
        assert len(rest) == STEPS - STOP and torch.equal(rest, curve[STOP:])
        assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_gather_joins_rows_and_adds_their_gradients(made):
    x = rows()[0].requires_grad_()
    (loss_of(x, 0) + loss_of(x, 1)).backward()
    for rank, found in enumerate(made):
        assert torch.equal(found["gathered"], x.detach())
        torch.testing.assert_close(found["gradient"], x.grad.split(ROWS)[rank])
        torch.testing.assert_close(found["beside"], (rank + 1) * 3 * rows()[0] ** 2 * rows()[1])
        assert found["labels"].tolist() == [*range(ROWS[0]), *range(ROWS[1])]


def test_one_process_gathers_nothing():
    x = torch.randn(2, 3, requires_grad=True)
    assert world() == 1 and gather(x) is x
    with value_error("a scalar has none"):
        gather(torch.tensor(1.0))


if __name__ == "__main__":
    work(Path(sys.argv[1]))
