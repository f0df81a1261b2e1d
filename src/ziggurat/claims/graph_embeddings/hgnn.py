"""HGNN: convolution through hyperedges matches graph convolution, and is better when several modalities are joined as hyperedges.

Measured on 3,000 images of Fashion-MNIST with 3 labels a class, 500 nodes to choose by and the rest to test, drawn anew for each
seed. Two modalities: 49 mean-pooled pixels, and 64 numbers of gradient orientations (4 × 4 cells, 4 unsigned bins, weighted by the
gradient), both of length 1. Every arm sees both as features; they differ in the structure: HGNN with the probable 10-nearest-neighbour
hyperedges of the pixels, of the gradients, or of both side by side; GCN on the union of both neighbour graphs, k = 10; and an MLP without
structure. On Cora's co-authorship hypergraph (published split of the seed's number, 500 nodes held out of the test part to choose
by, rows of the features summing to one, singletons for nodes in no hyperedge), HGNN against the MLP. All have 16 hidden units, dropout
0.5 and 200 full-batch steps of Adam with weight decay 5e-4; the rate, out of two, and the step, out of every fourth, are chosen on the
held-out nodes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, normalize

from ziggurat.claims.notes import Notes
from ziggurat.claims.run import Run
from ziggurat.data.batch import GraphBatch
from ziggurat.data.feeds import GraphLoader
from ziggurat.data.graphs.holding_out import hold_out
from ziggurat.data.seeds import generator
from ziggurat.data.transforms import row_normalize
from ziggurat.graphs.baselines import GCN
from ziggurat.graphs.hypergraphs.hgnn import HGNN, join_hyperedges, knn_hyperedges
from ziggurat.graphs.hypergraphs.incidence import add_singletons
from ziggurat.learning.supervised import Supervised
from ziggurat.metrics.finding import Finding, at_least, floor
from ziggurat.nn.best_step import BestStep
from ziggurat.nn.fitting import fit
from ziggurat.nn.mlp import MLP
from ziggurat.nn.recipe import Recipe

IMAGES, LABELS, HELD, K = 3000, 3, 500, 10
STEPS, RATES, DECAY = 200, (0.01, 0.03), 5e-4
Parts = tuple[Tensor, Tensor, Tensor]
"""Nodes to train on, to choose by, and to test on."""

published = {5: "Cora 81.6 (GCN 81.5), Pubmed 80.1 (GCN 79.0); ModelNet40 96.7 with features of MVCNN and GVCNN"}
notes = Notes(
    scope="3,000 images with two hand-made modalities and one hypergraph of documents; the paper has shapes with features of two networks.",
    methodology="Equal features, width, steps, decay and choice of rate and step for every arm; only the structure differs.",
    origin="0.3 and 5 points are the specification's.",
    easy="Joining modalities: their hyperedges stand side by side.",
    hard="Three labels a class make the draw of the labels matter more than the method; arms are paired by it.",
    why=(
        "chance",
        "Which three images a class are labelled moves the gap to the perceptron by 2.5 points: it is 3.1 on the five seeds and 5.5, "
        "above the criterion, on three others (support). With one label a class or ten it is no larger: structure is worth three to "
        "five points on these images whatever the labels; on documents it is worth 14.",
    ),
)


class Plain(Supervised):
    """Any network, with Adam at a constant rate."""

    def recipe(self) -> Recipe:
        return Recipe(torch.optim.Adam(self.parameters(), lr=self.lr or RATES[0], weight_decay=DECAY))


def chosen(make: type[nn.Module], inputs: tuple, y: Tensor, parts: Parts, seed: int) -> float:
    """Test accuracy at the rate and the step that do best on the held-out nodes."""
    train, valid, test = parts
    classes, best = int(y.max()) + 1, (-1.0, 0.0)
    mask = torch.zeros(len(y), dtype=torch.bool).index_fill(0, train, True)
    nodes = mask.nonzero().flatten()
    for lr in RATES:
        torch.manual_seed(seed)
        width = {"widths": (16,), "dropout": 0.5} if make is MLP else {}
        learner = Plain(make(inputs[0].shape[1], classes, **width), lr)
        keep = BestStep(lambda one: float((one.predict(*inputs).argmax(1) == y)[valid].float().mean()), every=4)
        fit(learner, GraphLoader(GraphBatch(inputs, y[nodes], nodes, mask=mask)), STEPS, seed=seed, callbacks=[keep])
        with torch.inference_mode():
            right = learner.predict(*inputs).argmax(1) == y
        found = (float(right[valid].float().mean()), float(right[test].float().mean()))
        best = max(best, found, key=lambda pair: pair[0])  # of equal rates the first: the test nodes have no say
    return 100 * best[1]


def orientations(x: Tensor) -> Tensor:
    """Histograms of unsigned gradient orientations in 4 × 4 cells of 7 × 7 pixels, 4 bins, weighted by the gradient: (B, 64)."""
    dy, dx = torch.gradient(x[:, 0], dim=(1, 2))
    place = (torch.atan2(dy, dx) % torch.pi) / torch.pi * 4
    bins = nn.functional.one_hot(place.long().clamp_max(3), 4).permute(0, 3, 1, 2)
    return avg_pool2d(bins * torch.hypot(dx, dy).unsqueeze(1), 7).flatten(1)


def images(run: Run, seed: int) -> tuple[Tensor, Tensor, Tensor, Parts]:
    """Pixels, gradients, classes and parts of this seed's images."""
    dataset = run.data("fashion_mnist", "train")
    order = torch.randperm(len(dataset), generator=generator(seed, "images"))[:IMAGES]
    x, y = dataset.inputs(order), dataset.labels[order]
    train = torch.cat([(y == c).nonzero().flatten()[:LABELS] for c in range(10)])
    rest = torch.ones(IMAGES, dtype=torch.bool).index_fill(0, train, False).nonzero().flatten()
    pixels, gradients = avg_pool2d(x, 4).flatten(1), orientations(x)
    return normalize(pixels, dim=1), normalize(gradients, dim=1), y, (train, rest[:HELD], rest[HELD:])


def one_seed(run: Run, seed: int) -> dict[str, float]:
    """Test accuracies of every arm."""
    pixels, gradients, y, parts = images(run, seed)
    x = torch.cat([pixels, gradients], 1)
    one, two = knn_hyperedges(pixels, K), knn_hyperedges(gradients, K)
    both = (join_hyperedges([one[0], two[0]]), torch.cat([one[1], two[1]]))
    joined = torch.cat([one[0], two[0]], 1)
    edges = torch.unique(torch.cat([joined, joined.flip(0)], 1), dim=1)
    values = {
        "mlp": chosen(MLP, (x,), y, parts, seed),
        "gcn_union": chosen(GCN, (x, edges[:, edges[0] != edges[1]]), y, parts, seed),
        "pixels": chosen(HGNN, (x, one[0], None, one[1]), y, parts, seed),
        "gradients": chosen(HGNN, (x, two[0], None, two[1]), y, parts, seed),
        "both": chosen(HGNN, (x, both[0], None, both[1]), y, parts, seed),
    }
    graph = hold_out(row_normalize(run.data("cora_coauthorship", seed % 10)), HELD, seed)
    index = add_singletons(graph.hyperedge_index, len(graph.y))
    cora = tuple(graph[f"{part}_mask"].nonzero().flatten() for part in ("train", "val", "test"))
    values["cora_mlp"] = chosen(MLP, (graph.x,), graph.y, cora, seed)
    values["cora_hgnn"] = chosen(HGNN, (graph.x, index), graph.y, cora, seed)
    return values


def measure(run: Run) -> Finding:
    """Differences in points of test accuracy."""
    rows = run.each_seed(one_seed)
    single = torch.maximum(torch.from_numpy(rows["pixels"]), torch.from_numpy(rows["gradients"])).numpy()
    return Finding(
        clauses=(
            at_least("Fashion, both − better single modality", rows["both"] - single, 0.3, "points"),
            at_least("Fashion, HGNN − GCN on the union", rows["both"] - rows["gcn_union"], 0.0, "points"),
            at_least("Fashion, HGNN − MLP", rows["both"] - rows["mlp"], 5.0, "points"),
            at_least("Cora co-authorship, HGNN − MLP", rows["cora_hgnn"] - rows["cora_mlp"], 5.0, "points"),
        ),
        floors=(
            floor("GCN on the union", rows["gcn_union"], 60.0),
            floor("MLP on Cora's features", rows["cora_mlp"], 50.0),
        ),
        measurements=rows,
    )


def support(run: Run) -> dict[str, float]:
    """HGNN on both modalities and the MLP on Fashion-MNIST with 1, 3 and 10 labels a class, mean of seeds 100, 101 and 102."""
    found: dict[str, list[float]] = {}
    for seed in run.progress((100, 101, 102), "seeds"):
        pixels, gradients, y, (train, valid, test) = images(run, seed)
        x, kinds = torch.cat([pixels, gradients], 1), [knn_hyperedges(part, K) for part in (pixels, gradients)]
        both = join_hyperedges([index for index, _ in kinds]), torch.cat([weight for _, weight in kinds])
        pool = torch.cat([train, test])
        for labels in (1, 3, 10):
            chosen_ones = torch.cat([pool[y[pool] == c][:labels] for c in range(10)])
            parts = (chosen_ones, valid, test[~torch.isin(test, chosen_ones)])
            found.setdefault(f"hgnn_{labels}", []).append(chosen(HGNN, (x, both[0], None, both[1]), y, parts, seed))
            found.setdefault(f"mlp_{labels}", []).append(chosen(MLP, (x,), y, parts, seed))
    return {name: sum(values) / len(values) for name, values in found.items()}
