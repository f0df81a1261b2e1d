"""Inference: folded batch normalisation and channels-last memory against eager; students without a graph against their teachers."""

from __future__ import annotations

import torch

from benchmarks.graphs import random_graph
from benchmarks.timing import show
from ziggurat.learning.distill.vqgraph import GraphTokenizer
from ziggurat.nn import fuse
from ziggurat.nn.mlp import MLP
from ziggurat.vision.backbones.resnet import resnet18

NODES, EDGES, FEATURES, CLASSES, WIDTH = 50_000, 500_000, 128, 10, 128


def folded() -> None:
    """ResNet-18 on one photograph-sized image."""
    network = resnet18().eval()
    fused = fuse(network)
    last = fuse(network).to(memory_format=torch.channels_last)
    x = torch.rand(1, 3, 224, 224)
    y = x.to(memory_format=torch.channels_last)
    print(f"fused differs from eager by {float((fused(x) - network(x)).abs().max()):.1e} at most")
    show(
        "ResNet-18, batch 1",
        {"fused": lambda: fused(x), "fused, channels last": lambda: last(y), "eager": lambda: network(x)},
    )


def students() -> None:
    """VQGraph's perceptron and its teacher on all nodes of a graph; that of LightHGNN is timed in its claim."""
    graph = random_graph(NODES, EDGES, FEATURES)
    teacher = GraphTokenizer(FEATURES, CLASSES, WIDTH).eval()
    student = MLP(FEATURES, CLASSES, (WIDTH,)).eval()
    show(
        f"VQGraph, {NODES:,} nodes and {EDGES:,} edges",
        {"student": lambda: student(graph.x), "teacher": lambda: teacher(graph.x, graph.edge_index)},
    )


def main() -> None:
    """Both."""
    with torch.inference_mode():
        folded()
        students()


if __name__ == "__main__":
    main()
