"""Graph networks against torch_geometric's own layers, outputs compared first."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import ChebConv as PeerChebConv
from torch_geometric.nn import DirGNNConv as PeerDirGNNConv
from torch_geometric.nn import GCNConv, HypergraphConv
from torch_geometric.nn import SAGEConv as PeerSAGEConv
from torch_geometric.nn import SGConv as PeerSGConv

from benchmarks.timing import show
from ziggurat.graphs import GCN, SGC, DirGNNConv, HGNNConv, SGConv
from ziggurat.graphs.convolutions.chebnet import ChebConv
from ziggurat.graphs.convolutions.graphsage import SAGEConv
from ziggurat.nn.recipe import Recipe


def random_graph(nodes: int = 3000, edges: int = 12_000, features: int = 500, seed: int = 0) -> Data:
    """An undirected random graph of about Cora's size."""
    g = torch.Generator().manual_seed(seed)
    half = torch.randint(nodes, (2, edges // 2), generator=g)
    half = half[:, half[0] != half[1]]  # a loop that stands twice counts twice here and once in the peer
    x = (torch.rand(nodes, features, generator=g) < 0.02).float()
    return Data(x=x, edge_index=torch.cat([half, half.flip(0)], 1), y=torch.randint(7, (nodes,), generator=g))


class PeerGCN(nn.Module):
    """Two of torch_geometric's convolutions."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.one, self.two, self.drop = GCNConv(features, 16), GCNConv(16, classes), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return self.two(self.drop(self.one(self.drop(x), edges).relu()), edges)


def epoch(network: nn.Module, inputs: tuple, y: torch.Tensor, recipe: Recipe) -> None:
    """One full-batch step."""
    recipe.optimizer.zero_grad()
    nn.functional.cross_entropy(network(*inputs), y).backward()
    recipe.optimizer.step()


def pairs(width: int) -> dict[str, tuple[nn.Module, nn.Module]]:
    """Our layers and the peer's with the same weights."""
    sage, peer_sage = SAGEConv(width, width), PeerSAGEConv(width, width)
    peer_sage.lin_r.weight.data, peer_sage.lin_l.bias.data = sage.own.weight.data, sage.own.bias.data
    peer_sage.lin_l.weight.data = sage.neighbours.weight.data
    cheb, peer_cheb = ChebConv(width, width, 3), PeerChebConv(width, width, 3)
    for mine, theirs in zip(cheb.weight, peer_cheb.lins, strict=True):
        theirs.weight.data = mine.detach().T.contiguous()
    directed = DirGNNConv(width, width)
    peer_directed = PeerDirGNNConv(GCNConv(width, width, normalize=True, bias=False))
    hyper, peer_hyper = HGNNConv(width, width), HypergraphConv(width, width)
    peer_hyper.lin.weight.data = hyper.linear.weight.data
    return {
        "SAGEConv": (sage, peer_sage),
        "ChebConv": (cheb, peer_cheb),
        "DirGNNConv (the peer normalises differently)": (directed, peer_directed),
        "HGNNConv (the peer has another normalisation)": (hyper, peer_hyper),
    }


def message_passing(width: int = 64) -> None:
    """Forward and backward pass of a layer on a graph with 20,000 nodes and 200,000 edges; equal outputs where the definitions are."""
    graph = random_graph(20_000, 200_000, 8)
    x = torch.randn(len(graph.x), width, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def both(layer: nn.Module) -> Callable[[], None]:
        def run() -> None:
            layer.zero_grad()
            layer(x, graph.edge_index).sum().backward()

        return run

    for name, (ours, theirs) in pairs(width).items():
        if "the peer" not in name:
            with torch.no_grad():
                difference = float((ours(x, graph.edge_index) - theirs(x, graph.edge_index)).abs().max())
            print(f"\n{name} differs from the peer by {difference:.1e} at most")
        show(f"{name}, forward and backward", {"ziggurat": both(ours), "torch_geometric": both(theirs)})


def main() -> None:
    """SGC and GCN epochs, and the SGC operator, against the peer's."""
    message_passing()
    graph = random_graph()
    features, edges = graph.x.shape[1], graph.edge_index
    ours, peer = SGConv(features, 7), PeerSGConv(features, 7, K=2)
    peer.lin.load_state_dict(ours.linear.state_dict())
    with torch.no_grad():
        difference = float((ours(graph.x, edges) - peer(graph.x, edges)).abs().max())
    print(f"SGConv differs from the peer by {difference:.1e} at most")
    show("SGConv, forward", {"ziggurat": lambda: ours(graph.x, edges), "torch_geometric": lambda: peer(graph.x, edges)})

    sgc, gcn, peer_gcn = SGC(features, 7), GCN(features, 7), PeerGCN(features, 7)
    hops = sgc.precompute(graph)
    peer_recipe = Recipe(torch.optim.Adam(peer_gcn.parameters(), lr=0.01))
    recipes = {"sgc": sgc.recipe(), "gcn": gcn.recipe()}
    show(
        "one epoch of training",
        {
            "ziggurat SGC (hops precomputed)": lambda: epoch(sgc, hops, graph.y, recipes["sgc"]),
            "ziggurat GCN": lambda: epoch(gcn, (graph.x, edges), graph.y, recipes["gcn"]),
            "torch_geometric GCN": lambda: epoch(peer_gcn, (graph.x, edges), graph.y, peer_recipe),
        },
    )


if __name__ == "__main__":
    main()
