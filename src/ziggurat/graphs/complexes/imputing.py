"""Filling in values of simplices: a network of cells with a linear layer for each dimension, and states that say what is not known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ziggurat.data.graphs.complexes import CWComplex
from ziggurat.graphs.complexes.cwcnn import CellNetwork, Cells
from ziggurat.graphs.complexes.scrawl import SCRaWl
from ziggurat.nn.profile import count_parameters


def masked(cells: CWComplex, values: Sequence[Tensor], known: Sequence[Tensor]) -> CWComplex:
    """States (n_k, 2): value and 1, or zeros where it is not known. As every state is made here, none leaks as a face or coface."""
    if not len(values) == len(known) == len(cells.x):
        raise ValueError(
            f"the complex has {len(cells.x)} dimensions; give values and what is known for each, got {len(values)} and {len(known)}."
        )
    return cells._replace(x=tuple(torch.stack([v * k, k.to(v.dtype)], 1) for v, k in zip(values, known, strict=True)))


def normalised(cells: CWComplex) -> CWComplex:
    """The complex with |B| scaled by 1/√(cofaces of the face · faces of the coface): no singular value is above 1."""
    signs = []
    for k, (low, high) in enumerate(cells.faces):
        counts = [torch.bincount(end, minlength=n) for end, n in ((low, cells.sizes[k]), (high, cells.sizes[k + 1]))]
        signs.append((counts[0][low] * counts[1][high]).to(cells.x[0].dtype).rsqrt())
    return cells._replace(signs=tuple(signs))


def last_states(network: CellNetwork, cells: CWComplex, seed: int) -> Cells:
    """The states of all cells after the last layer, with walks of this seed where the network takes walks."""
    walks = (network.sample(cells, seed),) if isinstance(network, SCRaWl) else ()
    return network.forward_cells(cells, *walks)[-1]


class Imputer(nn.Module):
    """A number for each cell of each dimension.

    Arguments:
        network: of cells; its own head is not used.

    Shapes: `CWComplex` -> one (n_k,) for each dimension.
    """

    def __init__(self, network: CellNetwork) -> None:
        super().__init__()
        self.network = network
        self.out = nn.ModuleList(nn.Linear(network.num_features, 1) for _ in range(network.dimension + 1))

    def size(self) -> int:
        """Parameters that are used."""
        return sum(count_parameters(part) for part in (self.network.stem, self.network.stages, self.out))

    def forward(self, cells: CWComplex, seed: int = 0) -> list[Tensor]:
        states = last_states(self.network, cells, seed)
        return [out(h)[:, 0] for out, h in zip(self.out, states, strict=True)]
