"""A graph in parts, on one process and on two. This file is also what the two processes run, started by torchrun."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import lightning
import pytest
import torch
from torch import distributed as dist
from torch.nn.functional import one_hot
from torch_geometric.data import Data
from torch_geometric.nn import GraphSAGE

from tests.typecheck import value_error
from ziggurat.data.feeds import WholeGraph, feed
from ziggurat.data.graphs.generators import planted, stochastic_blocks
from ziggurat.graphs.baselines import GCN
from ziggurat.graphs.partitions import PartFiles, cut, metis, part_loader, write_parts
from ziggurat.learning.supervised import Supervised

STEPS, NODES = 12, 120
ROOT = Path(__file__).parents[2]


def blocks():
    """Three blocks; of nodes with even numbers the class is known, as many in each half."""
    edges, y = stochastic_blocks([NODES // 3] * 3, planted(0.2, 0.01, 3), 0)
    x = torch.randn(NODES, 8, generator=torch.Generator().manual_seed(1)) + one_hot(y, 8)
    return Data(x=x, edge_index=edges, y=y, train_mask=torch.arange(NODES) % 2 == 0)


HALF = (torch.arange(NODES) >= NODES // 2).long()


def learner():
    torch.manual_seed(0)
    return Supervised(GraphSAGE(8, 16, 2, 3), lr=0.01)


class Watch(lightning.Callback):
    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, learner, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].detach().clone())


def train(batches, processes=1):
    """(loss curve, weights)."""
    made, watch = learner(), Watch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_steps=STEPS, accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto",
            use_distributed_sampler=False, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[watch],
        )  # fmt: skip
        trainer.fit(made, batches)
    curve = torch.stack(watch.losses)
    if processes > 1:
        dist.all_reduce(curve)
    return curve / processes, made.state_dict()


def work(folder):
    """One of the two processes: it reads one part in every step."""
    torch.set_num_threads(1)
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.save(train(part_loader(folder, rank=rank, world=processes), processes), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_with_a_part_each_train_as_one_on_the_whole_graph(tmp_path):
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("torch: built without gloo")
    write_parts(blocks(), HALF, 2, tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    found = subprocess.run([*command, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr[-3000:]
    (first, weights), (second, others) = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    curve, whole = train(feed(blocks(), WholeGraph()))
    torch.testing.assert_close(first, curve, atol=1e-5, rtol=0)
    for name, value in whole.items():
        torch.testing.assert_close(weights[name], value, atol=1e-4, rtol=1e-4)
        assert torch.equal(weights[name], others[name])
    assert curve[-1] < 0.8 * curve[0]
    assert torch.equal(first, second)


@pytest.mark.parametrize("make, hops", [(lambda: GraphSAGE(8, 16, 2, 3), 2), (lambda: GCN(8, 3), 3)])
@torch.no_grad()
def test_a_part_says_of_its_own_nodes_what_the_whole_graph_says(make, hops):
    graph = blocks()
    torch.manual_seed(0)
    network = make().eval()
    whole, seen = network(graph.x, graph.edge_index), []
    for part in cut(graph, HALF, hops):
        said = network(part.x, part.edge_index)
        torch.testing.assert_close(said[part.own], whole[part.node[part.own]], atol=1e-5, rtol=0)
        assert torch.equal(part.train_mask, graph.train_mask[part.node] & part.own)
        seen += part.node[part.own].tolist()
    assert sorted(seen) == list(range(NODES))
    parts = list(cut(graph, HALF, hops - 1))
    worst = max(float((network(p.x, p.edge_index)[p.own] - whole[p.node[p.own]]).abs().max()) for p in parts)
    assert worst > 1e-4  # a shorter halo is not enough


def test_files_hold_the_parts_with_their_weights(tmp_path):
    graph = blocks()
    graph.edge_weight = torch.rand(graph.edge_index.shape[1], generator=torch.Generator().manual_seed(2))
    files = PartFiles(write_parts(graph, HALF, 1, tmp_path))
    assert len(files) == 2 and not list(tmp_path.glob("*.unfinished"))
    for made, read in zip(cut(graph, HALF, 1), files, strict=True):
        expected, found = made.to_dict(), read.to_dict()
        assert set(expected) == set(found)
        assert all(torch.equal(value, found[name]) for name, value in expected.items())
    weight = {(int(a), int(b)): float(w) for a, b, w in zip(*graph.edge_index, graph.edge_weight, strict=True)}
    ends = files[1].node[files[1].edge_index]
    assert [weight[int(a), int(b)] for a, b in ends.T] == files[1].edge_weight.tolist()


def test_an_epoch_takes_every_part_once(tmp_path):
    write_parts(blocks(), torch.arange(NODES) // 20, 1, tmp_path)
    loader = part_loader(tmp_path, seed=3)
    nodes = torch.cat([batch.index for batch in loader])
    assert torch.equal(nodes.sort().values, torch.arange(0, NODES, 2))
    shared = [torch.cat([b.index for b in part_loader(tmp_path, 3, rank, 2)]) for rank in (0, 1)]
    assert torch.equal(torch.cat(shared).sort().values, torch.arange(0, NODES, 2))
    loader.set_epoch(1)
    assert not torch.equal(torch.cat([batch.index for batch in loader]), nodes)


def test_metis_finds_the_blocks():
    pytest.importorskip("pymetis", reason="pymetis is not installed")
    graph = blocks()
    part = metis(graph.edge_index, NODES, 3)
    counts = torch.stack([torch.bincount(graph.y[part == p], minlength=3) for p in range(3)])
    assert counts.max(1).values.sum() >= 0.95 * NODES and counts.sum(1).max() <= 1.1 * NODES / 3
    with value_error("a graph of 120 nodes has 1 to 120 parts, got 121."):
        metis(graph.edge_index, NODES, 121)


def test_mistakes_are_said(tmp_path, monkeypatch):
    graph = blocks()
    with value_error("120 nodes need a part each, got 3."):
        next(cut(graph, torch.zeros(3).long(), 1))
    with value_error("hops must be 0 or more, got -1."):
        next(cut(graph, HALF, -1))
    with value_error("the graph has no val_mask; its nodes must be split first."):
        next(cut(graph, HALF, 1, "val_mask"))
    with value_error("part 1 has no node in train_mask; make fewer parts."):
        write_parts(graph, (torch.arange(NODES) == 1).long(), 1, tmp_path / "few")
    with value_error(f"{tmp_path / 'none'} holds no parts; write_parts makes them."):
        PartFiles(tmp_path / "none")
    write_parts(graph, torch.arange(NODES) // 40, 1, tmp_path / "three")
    with value_error("a step takes one part on each process, got 0; make a multiple of processes."):
        list(part_loader(tmp_path / "three", rank=1, world=2))
    monkeypatch.setitem(sys.modules, "pymetis", None)
    with value_error("METIS needs pymetis, which is not installed; pip install pymetis brings it."):
        metis(graph.edge_index, NODES, 2)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
