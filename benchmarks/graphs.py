"""Graph networks against torch_geometric's own layers, outputs compared first."""

from __future__ import annotations

import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv
from torch_geometric.nn import SGConv as PeerSGConv

from benchmarks.timing import show
from ziggurat.graphs import GCN, SGC, SGConv
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


def main() -> None:
    """SGC and GCN epochs, and the SGC operator, against the peer's."""
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
