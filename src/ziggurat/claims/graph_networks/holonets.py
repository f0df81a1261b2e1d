"""HoloNets: filters made for directed graphs beat the same filters on the symmetrised graph, and resolvents ignore resolution.

Accuracy on chameleon and squirrel (published split number `seed mod 10`): FaberNet (3 layers of width 32, K = 2, powers of T alone, |x|,
rows of length one, all layers in front of the classifier, AdamW, weight decay 0.1) on the graph as it is; on the symmetrised graph; with
K = 1; and a two-layer GCN of width 64 (weight decay 5e-4, dropout 0.5) on the symmetrised graph. Each arm trains 100 steps on all nodes
with each of two learning rates, and its best step on the validation nodes counts. The paper, too, takes one direction on these two graphs
(powers of T alone did better on the validation nodes of split 0 than those of Tᵀ). Control: every edge that has no edge in the other
direction is turned round with probability 1/2; its symmetrised graph is the same.
Changed from the paper: real weights, fewer and narrower layers, and features are 128 principal directions of the row-normalised ones, the
same for every arm: together a hundred times cheaper.

Stability: random directed weighted graphs of 20 nodes, in which one node becomes a 5-cycle of weight c. Incoming edges are shared out so
that their mean stays, outgoing ones so that their sum stays, and a part has a fifth of the mass: the coarse graph is then P L J of the fine
one. Measured is the relative distance of the graphs' embeddings, with random weights, for DirResolvNet and for FaberNet's last layer with
the same readout; mean over ten graphs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from ziggurat.claims.choosing import best_on_validation
from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.graphs.collapsing import expanded, weighted_digraph
from ziggurat.data.seeds import derive, generator
from ziggurat.graphs.baselines import GCN
from ziggurat.graphs.directed.holonets import FaberNet
from ziggurat.graphs.directed.resolvent import DirResolvNet, mass_readout
from ziggurat.metrics.finding import Finding, at_least, at_most, floor

STEPS, RATES, COMPONENTS, WIDTH = 100, (0.01, 0.03), 128, 32

published = {
    5: "chameleon 80.33, squirrel 76.71, arxiv-year 64.43, snap-patents 75.10, directed roman-empire 92.24 (official repository)"
}
notes = Notes(
    scope="Two of the paper's five heterophilic graphs at a small size, and a stability test on drawn graphs in place of QM7.",
    methodology="Equal parameters and steps for FaberNet's arms; rates and the best step from the validation nodes.",
    origin="5 points, half of the gain, 100x and 3x are the specification's; accuracies beside ours are the authors' repository's.",
    easy="The limit of the resolvent, which is exact algebra.",
    hard="Which direction carries the classes depends on how a file orders its edges.",
)


def principal(x: Tensor, count: int = COMPONENTS) -> Tensor:
    """Coordinates of row-normalised features along their first principal directions, scaled to unit variance altogether."""
    x = x / x.sum(1, keepdim=True).clamp_min(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        u, s, _ = torch.svd_lowrank(x - x.mean(0), count, niter=4)
    return u * s / (u * s).std()


def turned(edges: Tensor, nodes: int, seed: int) -> Tensor:
    """Every edge without an opposite one turned round with probability 1/2."""
    one_way = ~torch.isin(edges[1] * nodes + edges[0], edges[0] * nodes + edges[1])
    coin = torch.rand(edges.shape[1], generator=generator(seed, "turn")) < 0.5
    return torch.where((one_way & coin)[None], edges.flip(0), edges)


def accuracy(graph: Data, x: Tensor, edges: Tensor, arm: str, seed: int) -> float:
    """Test accuracy of the rate and the step that do best on the validation nodes."""
    best, classes = (-1.0, 0.0), int(graph.y.max()) + 1
    for rate in RATES:
        torch.manual_seed(seed)
        if arm == "gcn":
            net: GCN | FaberNet = GCN(x.shape[1], classes, width=64)
        else:
            net = FaberNet(x.shape[1], classes, WIDTH, depth=3, order=1 if arm == "first_order" else 2, alpha=1.0)
        optimizer = net.recipe(rate).optimizer
        for step in range(STEPS):
            net.train()
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x, edges)[graph.train_mask], graph.y[graph.train_mask]).backward()
            optimizer.step()
            if step % 5 == 4:
                with torch.no_grad():
                    right = (net.eval()(x, edges).argmax(1) == graph.y).float()
                scored = (float(right[graph.val_mask].mean()), float(right[graph.test_mask].mean()))
                best = best_on_validation((best, scored))
    return best[1]


@torch.no_grad()
def distances(seed: int, c: float) -> tuple[float, float]:
    """Mean relative distance between the fine and the coarse graph: resolvent network, adjacency network."""
    found = []
    for i in range(10):
        rng = np.random.default_rng(derive(seed, "stability", i))
        edges, weight = weighted_digraph(rng)
        fine, fine_weight = expanded(edges, weight, 20, c, rng)
        x = torch.from_numpy(rng.standard_normal((20, 8)))
        mass = torch.ones(24, dtype=torch.float64).index_fill(0, torch.tensor([0, 20, 21, 22, 23]), 0.2)
        torch.manual_seed(derive(seed, "weights", i))
        resolvent, power = DirResolvNet(8, 0, WIDTH).double(), FaberNet(8, 0, WIDTH, 2, normalize=False).double()
        big = torch.cat([x, x[:1].expand(4, -1)])
        pairs = [
            (resolvent(x, edges, weight), resolvent(big, fine, fine_weight, None, mass)),
            (
                mass_readout(power.forward_features(x, edges, weight)[-1], None, None),
                mass_readout(power.forward_features(big, fine, fine_weight)[-1], None, mass),
            ),
        ]
        found.append([float((b - a).norm() / a.norm()) for a, b in pairs])
    return tuple(np.mean(found, 0).tolist())


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Accuracies on both graphs, and distances by weight of the cycle."""
    values: dict[str, float] = {}
    for name in ("chameleon", "squirrel"):
        graph = run.data(name, seed % 10)
        x, edges = principal(graph.x), graph.edge_index
        symmetric, control = to_undirected(edges), turned(edges, len(x), seed)
        arms = {"directed": edges, "symmetric": symmetric, "first_order": edges, "gcn": symmetric, "control": control}
        for arm, given in arms.items():
            values[f"{arm}_{name}"] = accuracy(graph, x, given, arm, seed)
    for c in (1, 10, 100, 1000):
        values[f"resolvent_{c}"], values[f"adjacency_{c}"] = distances(seed, float(c))
    return values


def measure(run: Run) -> Finding:
    """Differences in points on each graph, the control's gain beside, and how far distances fall."""
    rows = run.each_seed(one_seed)
    clauses = []
    for name in ("chameleon", "squirrel"):
        points = {arm: 100 * rows[f"{arm}_{name}"] for arm in ("directed", "symmetric", "gcn", "control")}
        gain = points["directed"] - points["symmetric"]
        clauses += [
            at_least(f"{name}: directed − symmetrised", gain, 5.0, "points"),
            at_least(f"{name}: directed − GCN", points["directed"] - points["gcn"], 5.0, "points"),
            at_most(
                f"{name}: gain of the control − half the gain",
                points["control"] - points["symmetric"] - gain / 2,
                0.0,
                "points",
            ),
        ]
    falls = {arm: rows[f"{arm}_1"] / rows[f"{arm}_1000"] for arm in ("resolvent", "adjacency")}
    clauses += [
        at_least("resolvent: distance at c = 1 / at 1000", falls["resolvent"], 100.0, ""),
        at_most("adjacency: distance at c = 1 / at 1000", falls["adjacency"], 3.0, ""),
    ]
    return Finding(
        clauses=tuple(clauses),
        floors=(
            floor("chameleon: symmetrised", 100 * rows["symmetric_chameleon"], 60.0),
            floor("squirrel: symmetrised", 100 * rows["symmetric_squirrel"], 45.0),
        ),
        measurements=rows,
        published={"directed_chameleon": 0.8033, "directed_squirrel": 0.7671},
    )
