"""ViT/MLP-Mixer on graphs: patches as tokens carry what far leaves know to a root, at a memory that grows with the nodes, not their square.

Measured on TreeNeighboursMatch with random bits (depth 4, 31 nodes, 16 leaves; 8,000 trees for training, 1,000 for testing; edges from
child to parent): the root says the bit of the leaf whose key it holds. The mixer (one node per patch, grown by its neighbours; one GINE
layer as in the pilot behind the entry's numbers, two blocks with hidden widths of 64 and 32, no codes of positions) against 5 of the same
GINE layers without patches. Both 64 wide, read at the root, Adam at 2e-3, batches of 100, 18 epochs. That the baseline works is
seen on trees of depth 2 (3 layers, a third of the steps). Memory: bytes kept for the backward pass on grids of 500 to 8,000 nodes by the
mixer (32 patches, width 64, 2 layers, 2 blocks) and by one transformer block of one head on the nodes, whose attention is written out;
slope of log bytes over log nodes. (Attention that is computed again in the backward pass keeps linear memory and quadratic operations.)
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch as GraphsAsOne
from torch_geometric.data import Data
from torch_geometric.utils import grid

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.datasets import Table
from ziggurat.data.feeds import Labelled, Loader
from ziggurat.data.graphs.patches import GraphPatches
from ziggurat.data.graphs.tree_match import tree_match
from ziggurat.data.seeds import derive
from ziggurat.graphs.patches.encoder import GINELayer
from ziggurat.graphs.patches.graph_vit_mixer import GraphMLPMixer
from ziggurat.graphs.patches.mixing import HadamardBlock
from ziggurat.graphs.pooling.sparse_hgc import HiddenClassifier
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, exactly, floor
from ziggurat.nn.fitting import fit
from ziggurat.nn.profile import saved_bytes
from ziggurat.nn.recipe import Recipe

DEPTH, SHALLOW, TRAIN, TEST, BATCH, EPOCHS = 4, 2, 8_000, 1_000, 100, 18
WIDTH, PATCHES, RATE, GRIDS = 64, 32, 2e-3, ((20, 25), (25, 40), (40, 50), (50, 80), (80, 100))

published = {
    5: "peptides-func AP 0.6970 (mixer), 0.6942 (ViT); peptides-struct MAE 0.2475, 0.2449; ZINC MAE 0.073 (mixer)"
}
notes = Notes(
    scope="Trees of depth 4 with random bits, and grids; the paper has depths 2 to 8, superpixels and molecules.",
    methodology="Equal width, steps and rate; the mixer has one GINE layer and two blocks, the baseline five GINE layers.",
    origin="0.90, 15 points and the two slopes are the specification's, from a pilot of one seed.",
    easy="Memory: the number of tokens is fixed, so only the encoder grows with the graph.",
    hard="The trees: nothing is learned for many epochs, then all at once.",
)


class DeepGINE(nn.Module):
    """Layers of messages."""

    def __init__(self, features: int, depth: int) -> None:
        super().__init__()
        self.stem, self.layers = nn.Linear(features, WIDTH), nn.ModuleList(GINELayer(WIDTH) for _ in range(depth))
        self.edge = nn.Parameter(torch.randn(WIDTH) / WIDTH**0.5)

    def node_vectors(self, data: Any) -> Tensor:
        x, edges = self.stem(data.x), self.edge.expand(data.edge_index.shape[1], -1)
        for layer in self.layers:
            x = layer(x, data.edge_index, edges)
        return x


class AtRoot(nn.Module):
    """A network on a batch of equal trees, read at their roots; the trees come as rows of node features."""

    def __init__(self, network: GraphMLPMixer | DeepGINE, width: int, tree: Data) -> None:
        super().__init__()
        self.network, self.head = network, HiddenClassifier(width, WIDTH, 2, 0.0)
        self.trees: Any = GraphsAsOne.from_data_list([tree] * BATCH)

    def forward(self, rows: Tensor) -> Tensor:
        data = copy.copy(self.trees)
        data.x = rows.view(data.num_nodes, -1)
        return self.head(self.network.node_vectors(data)[data.ptr[:-1]])

    def recipe(self, lr: float | None = None) -> Recipe:
        return Recipe(torch.optim.Adam(self.parameters(), lr=RATE))


def make(arm: str, tree: Data, features: int, depth: int) -> AtRoot:
    """The mixer on patches of one node, or GINE one layer deeper than the tree."""
    if arm == "gine":
        return AtRoot(DeepGINE(features, depth + 1), WIDTH, tree)
    mixer = GraphMLPMixer(features, 0, PATCHES, WIDTH, 1, 2, WIDTH, WIDTH // 2, code_size=0, patch_code=False)
    return AtRoot(mixer, 2 * WIDTH, GraphPatches(PATCHES)(tree))


def accuracy(arm: str, depth: int, epochs: int, seed: int) -> float:
    """Per cent of unseen trees whose root is right."""
    made = [tree_match(depth, count, derive(seed, name)) for name, count in (("train", TRAIN), ("test", TEST))]
    train, test = (Table(trees.x.flatten(1), trees.labels, ("0", "1"), "trees") for trees in made)
    nodes, features = made[0].x.shape[1:]
    torch.manual_seed(derive(seed, "weights"))
    learner = Supervised(make(arm, Data(edge_index=made[0].edge_index, num_nodes=nodes), features, depth))
    fit(learner, Loader(train, Labelled(), BATCH, seed), epochs=epochs, seed=seed)
    with torch.inference_mode():
        said = torch.cat([learner.predict(rows).argmax(1) for rows in test.x.split(BATCH)])
    return 100 * float((said == test.labels).float().mean())


def kept(shape: tuple[int, int]) -> tuple[int, int]:
    """Bytes that the mixer and the transformer keep for the backward pass on a grid."""
    edges, count = grid(*shape)[0], shape[0] * shape[1]
    data: Any = GraphsAsOne.from_data_list([GraphPatches(PATCHES)(Data(x=torch.ones(count, 1), edge_index=edges))])
    mixer = GraphMLPMixer(1, 2, PATCHES, WIDTH, 2, 2, code_size=0)
    with saved_bytes(mixer) as one:
        mixer.forward_batch(data).sum().backward()
    transformer = HadamardBlock(WIDTH, 1, 2 * WIDTH)
    with saved_bytes(transformer) as other:
        transformer(torch.ones(1, count, WIDTH)).mean().backward()
    return one.peak, other.peak


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Accuracies, and slopes of memory."""
    values = {
        "mixer": accuracy("mixer", DEPTH, EPOCHS, seed),
        "gine": accuracy("gine", DEPTH, EPOCHS, seed),
        "gine_shallow": accuracy("gine", SHALLOW, max(EPOCHS // 3, 1), seed),
    }
    torch.manual_seed(seed)
    sizes, found = [rows * columns for rows, columns in GRIDS], [kept(shape) for shape in run.progress(GRIDS, "grids")]
    for i, name in enumerate(("mixer", "transformer")):
        amounts = [pair[i] for pair in found]
        values[f"{name}_slope"] = float(np.polyfit(np.log(sizes), np.log(amounts), 1)[0])
        values[f"{name}_megabytes"] = amounts[-1] / 1e6
    return values


def measure(run: Run) -> Finding:
    """Accuracies in per cent; slopes are exact."""
    rows = run.each_seed(one_seed)
    return Finding(
        clauses=(
            at_least("trees of depth 4: mixer", rows["mixer"], 90.0, "%"),
            at_least("trees of depth 4: mixer − GINE", rows["mixer"] - rows["gine"], 15.0, "points"),
            exactly("slope of memory: mixer", rows["mixer_slope"], 1.2, "<="),
            exactly("slope of memory: transformer", rows["transformer_slope"], 1.6, ">="),
        ),
        floors=(floor("GINE on trees of depth 2", rows["gine_shallow"], 95.0),),
        measurements=rows,
    )
