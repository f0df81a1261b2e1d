"""Trees of labels: classes are leaves, and what they have in common stands above them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor


class LabelTree:
    """A rooted tree over n names, with the classes of a data set as some of its nodes.

    Arguments:
        parent: of each node, (n,); −1 at the root, of which there is one.
        leaves: the node of each class, (K,); None takes the nodes without children, in their order.
        names: of the nodes, for people.

    Raises a `ValueError` for several roots, a cycle, or a class that is no node.
    """

    def __init__(
        self, parent: Int64[Tensor, " n"], leaves: Int64[Tensor, " K"] | None = None, names: Sequence[str] = ()
    ) -> None:
        n = len(parent)
        roots = (parent < 0).nonzero().flatten()
        if len(roots) != 1:
            raise ValueError(f"a tree has one root, whose parent is −1; got {len(roots)}.")
        if n and int(parent.max()) >= n:
            raise ValueError(f"a parent must be a node in 0 … {n - 1}, got {int(parent.max())}.")
        if names and len(names) != n:
            raise ValueError(f"{len(names)} names for {n} nodes; give one each.")
        self.parent, self.root, self.names = parent.clone(), int(roots[0]), tuple(names)
        if leaves is None:
            leaves = (torch.bincount(parent[parent >= 0], minlength=n) == 0).nonzero().flatten()
        if len(leaves) and not 0 <= int(leaves.min()) <= int(leaves.max()) < n:
            raise ValueError(f"classes must be nodes in 0 … {n - 1}.")
        self.leaves = leaves
        if int(self.depth.min()) < 0:
            raise ValueError("some nodes do not hang on the root: the parents run in a circle.")

    @classmethod
    def from_groups(cls, groups: Sequence[Sequence[int]], names: Sequence[str] = ()) -> LabelTree:
        """Two levels below a root: class k of `groups[g]` hangs on group g. Classes are numbered 0 … K − 1 and come first."""
        members = sorted(k for group in groups for k in group)
        if members != list(range(len(members))):
            raise ValueError("every class from 0 on must be in one group, and in one only.")
        count = len(members)
        parent = torch.full((count + len(groups) + 1,), count + len(groups))
        for g, group in enumerate(groups):
            parent[torch.tensor(list(group), dtype=torch.int64)] = count + g
        parent[-1] = -1
        return cls(parent, torch.arange(count), names)

    @classmethod
    def from_taxonomy(cls, taxonomy: Any, leaves: Int64[Tensor, " K"] | None = None) -> LabelTree:
        """Of a `Taxonomy` by name; a node with several parents keeps the first, and several tops get a root above them."""
        n, (child, up) = len(taxonomy.names), taxonomy.edges.numpy()
        kept, first = np.unique(child, return_index=True)
        parent = torch.full((n,), -1)
        parent[torch.from_numpy(kept)] = torch.from_numpy(up[first])
        names = tuple(taxonomy.names)
        if int((parent < 0).sum()) > 1:
            parent = torch.cat([torch.where(parent < 0, n, parent), torch.tensor([-1])])
            names = (*names, "everything")
        return cls(parent, leaves, names)

    def __len__(self) -> int:
        return len(self.parent)

    @cached_property
    def depth(self) -> Int64[Tensor, " n"]:
        """Steps from the root; −1 where no way leads up to it."""
        depth = torch.full((len(self.parent),), -1).index_fill(0, torch.tensor([self.root]), 0)
        for step in range(1, len(self.parent)):
            above = depth[self.parent.clamp_min(0)]
            new = (depth < 0) & (above == step - 1) & (self.parent >= 0)
            if not new.any():
                break
            depth[new] = step
        return depth

    @cached_property
    def height(self) -> Int64[Tensor, " n"]:
        """Steps down to the farthest node below; 0 at leaves."""
        height = torch.zeros_like(self.parent)
        for depth in range(int(self.depth.max()), 0, -1):
            nodes = (self.depth == depth).nonzero().flatten()
            height = height.scatter_reduce(0, self.parent[nodes], height[nodes] + 1, "amax")
        return height

    @cached_property
    def ancestors(self) -> Bool[Tensor, "K n"]:
        """Which nodes lie on the way from each class up to the root, both ends among them."""
        found = torch.zeros(len(self.leaves), len(self.parent), dtype=torch.bool)
        here, rows = self.leaves.clone(), torch.arange(len(self.leaves))
        while len(rows):
            found[rows, here[rows]] = True
            here[rows] = self.parent[here[rows]]
            rows = rows[here[rows] >= 0]
        return found

    @cached_property
    def common(self) -> Int64[Tensor, "K K"]:
        """The lowest node above both of two classes."""
        way = torch.full((len(self.leaves), int(self.depth.max()) + 1), -1)  # the ancestor at each depth
        row, node = self.ancestors.nonzero().T
        way[row, self.depth[node]] = node
        above = self.ancestors.float()
        shared = (above @ above.T).long()  # as many nodes stand above both as their lowest one is deep, and one more
        return way.gather(1, shared - 1)

    @cached_property
    def distance(self) -> Int64[Tensor, "K K"]:
        """Edges on the way between two classes."""
        depth = self.depth[self.leaves]
        return depth[:, None] + depth - 2 * self.depth[self.common]

    def level(self, depth: int) -> Int64[Tensor, " K"]:
        """The ancestor of each class that is `depth` steps below the root, numbered from 0 in the order of the nodes; a class that is
        nearer to the root stands for itself."""
        if depth < 0:
            raise ValueError(f"depth must be 0 or more, got {depth}.")
        own = self.depth[self.leaves].clamp_max(depth)
        on_path = self.ancestors & (self.depth == own[:, None])
        return torch.unique(on_path.int().argmax(1), return_inverse=True)[1]
