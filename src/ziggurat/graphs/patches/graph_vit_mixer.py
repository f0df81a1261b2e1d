"""ViT and MLP-Mixer on graphs: overlapping patches of a graph become tokens, which a mixer or attention lets see each other at once.

    tokens = mean of each patch under GINE layers + W · code of the patch,   tokens ← block(tokens),   y = MLP(mean of the tokens)
    MLP-Mixer: x + MLP_token(LN x)ᵀ, x + MLP_channel(LN x);   ViT: x + (D⁻¹A_P ⊙ softmax(Q Kᵀ/√d)) V, x + MLP(LN x)

A_P counts the nodes that two patches share. Far nodes are a few tokens apart, whatever their distance, and the cost is linear in nodes and
edges, as the number of patches is fixed.

X. He, B. Hooi, T. Laurent, A. Perold, Y. LeCun, X. Bresson, A Generalization of ViT/MLP-Mixer to Graphs, 2022, arXiv:2212.13350.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import AddRandomWalkPE

from ziggurat.data.graphs.patches import GraphPatches
from ziggurat.graphs.patches.encoder import PatchEncoder, means
from ziggurat.graphs.patches.mixing import HadamardBlock, MixerBlock
from ziggurat.graphs.pooling.sparse_hgc import HiddenClassifier
from ziggurat.graphs.propagation import check_edges
from ziggurat.graphs.staged import StagedGraphs
from ziggurat.nn.recipe import Recipe


class PatchNetwork(StagedGraphs):
    """An encoder of patches, blocks on them, the mean over those that are not empty, and a perceptron; what both networks share.

    Arguments:
        encoder: of the patches, `width` wide.
        blocks: modules `block(tokens, adjacency, mask)`.
        norm: behind the last block.
        cut: how graphs that come without patches are cut.
        num_classes: 0 gives features.

    Shapes: x (N, in_features), edge_index (2, E), edge_weight (E,), batch (N,) -> (graphs, num_classes); graphs are cut in every call.
    `forward_batch` takes a batch of `PatchData`. Features are the means (graphs, width) over the patches after each block.
    """

    def __init__(
        self, encoder: PatchEncoder, blocks: Sequence[nn.Module], norm: nn.Module, cut: GraphPatches, num_classes: int
    ) -> None:
        super().__init__()
        if not blocks:
            raise ValueError("blocks must be 1 or more, got 0.")
        width = encoder.node.out_features
        self.stem, self.stages, self.norm, self.cut = encoder, nn.ModuleList(blocks), norm, cut
        self.channels, self.num_features = (width,) * len(blocks), width
        self.head = HiddenClassifier(width, width, num_classes, 0.0)

    def tokens(self, data: Any) -> tuple[Float[Tensor, "M d"], list[Float[Tensor, "B P d"]]]:
        """The copies of the nodes, and the patches after each block."""
        if data.patch_mask.shape[1] != self.cut.patches:
            raise ValueError(
                f"the network takes {self.cut.patches} patches a graph, got {data.patch_mask.shape[1]}; cut with "
                f"GraphPatches({self.cut.patches})."
            )
        copies, x = self.stem(data)
        adjacency = data.patch_adjacency.to(x.dtype)
        adjacency = adjacency / adjacency.sum(2, keepdim=True).clamp_min(1)
        found = []
        for stage in self.stages:
            x = self.run(stage, x, adjacency, data.patch_mask)
            found.append(x)
        return copies, [*found[:-1], self.norm(x)]

    def features_of(self, data: Any) -> list[Float[Tensor, "B d"]]:
        """Means over the patches that are not empty."""
        mask = data.patch_mask[:, :, None]
        return [(x * mask).sum(1) / mask.sum(1).clamp_min(1) for x in self.tokens(data)[1]]

    def node_vectors(self, data: Any) -> Float[Tensor, "N e"]:
        """For tasks on nodes: the mean over a node's copies of the copy and its patch, side by side (N, 2 · width)."""
        copies, found = self.tokens(data)
        return means(torch.cat([copies, found[-1].flatten(0, 1)[data.patch_of]], 1), data.patch_node, len(data.x))

    def patched(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None, batch: Tensor) -> Any:
        """Several graphs as one batch of `PatchData`, nodes in the order of their graphs."""
        order, owner = batch.argsort(stable=True), batch[edge_index[0]]
        edges = order.argsort()[edge_index]
        sizes, start, made = torch.bincount(batch).tolist(), 0, []
        for g, size in enumerate(sizes):
            own = owner == g
            one = Data(edge_index=edges[:, own] - start, num_nodes=size)
            if self.stem.code is not None:
                one = AddRandomWalkPE(self.stem.code.in_features, "code")(one)
            if edge_weight is not None:
                one.edge_attr = edge_weight[own].view(int(own.sum()), -1)
            made.append(self.cut(one))
            start += size
        many: Any = Batch.from_data_list(made)
        many.x = x[order]
        return many

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> list[Tensor]:
        check_edges(edge_index, len(x))
        batch = edge_index.new_zeros(len(x)) if batch is None else batch
        return self.features_of(self.patched(x, edge_index, edge_weight, batch))

    def forward_batch(self, data: Any) -> Float[Tensor, "B K"]:
        """The same for a batch of graphs that `GraphPatches` has cut."""
        return self.forward_head(self.features_of(data))

    def recipe(self, lr: float | None = None) -> Recipe:
        """Adam at 1e-3; the paper halves it where the validation loss stands still."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 1e-3))


class GraphMLPMixer(PatchNetwork):
    """Patches mixed by perceptrons.

    Arguments:
        in_features: of a node.
        num_classes: 0 gives features.
        patches: P. The order of the patches counts: cut with `shuffle` for training.
        width, depth, edge_features, code_size, patch_code, dropout: of the `PatchEncoder`.
        blocks: of the mixer.
        token_hidden, channel_hidden: of each `MixerBlock`; None takes 4 · width and width / 2.

    Shapes as of `PatchNetwork`.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        patches: int = 32,
        width: int = 128,
        depth: int = 4,
        blocks: int = 4,
        token_hidden: int | None = None,
        channel_hidden: int | None = None,
        edge_features: int = 1,
        code_size: int = 8,
        patch_code: bool = True,
        dropout: float = 0.0,
    ) -> None:
        encoder = PatchEncoder(in_features, width, depth, edge_features, code_size, patch_code, dropout)
        sizes = (token_hidden or 4 * width, channel_hidden or width // 2)
        made = [MixerBlock(width, patches, *sizes) for _ in range(blocks)]
        super().__init__(encoder, made, nn.LayerNorm(width), GraphPatches(patches), num_classes)


class GraphViT(PatchNetwork):
    """Patches that attend to each other, each weight multiplied by the share of nodes in common; their order plays no part.

    Arguments:
        in_features: of a node.
        num_classes: 0 gives features.
        patches: P.
        width, depth, edge_features, code_size, patch_code, dropout: of the `PatchEncoder`.
        blocks, heads: of the attention; its perceptrons are twice as wide as a token.

    Shapes as of `PatchNetwork`.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        patches: int = 32,
        width: int = 128,
        depth: int = 4,
        blocks: int = 4,
        heads: int = 8,
        edge_features: int = 1,
        code_size: int = 8,
        patch_code: bool = True,
        dropout: float = 0.0,
    ) -> None:
        encoder = PatchEncoder(in_features, width, depth, edge_features, code_size, patch_code, dropout)
        made = [HadamardBlock(width, heads, 2 * width) for _ in range(blocks)]
        super().__init__(encoder, made, nn.Identity(), GraphPatches(patches), num_classes)
