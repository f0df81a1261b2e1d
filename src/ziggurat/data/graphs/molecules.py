"""Molecules as graphs: atoms with 62 features, bonds with 6, read from SMILES by rdkit (`pip install "ziggurat[molecules]"`).

Hydrogens are counted at the atom that carries them and are no nodes, so that degrees are those of the graph. The features are those of
D. Duvenaud et al., 2015, arXiv:1509.09292.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ziggurat.data.batch import Batch
from ziggurat.data.datasets import Graphs
from ziggurat.data.feeds import Labelled
from ziggurat.data.sources import choose, locate

SYMBOLS = (
    "C", "N", "O", "S", "F", "Si", "P", "Cl", "Br", "Mg", "Na", "Ca", "Fe", "As", "Al", "I", "B", "V", "K", "Tl", "Yb",
    "Sb", "Sn", "Ag", "Pd", "Co", "Se", "Ti", "Zn", "H", "Li", "Ge", "Cu", "Au", "Ni", "Cd", "In", "Mn", "Zr", "Cr",
    "Pt", "Hg", "Pb", "Unknown",
)  # fmt: skip
DEGREES, HYDROGENS, VALENCES = 6, 5, 6
"""How many values each count has: 0 … n − 1; what is larger counts as the last."""
ATOM_FEATURES, BOND_FEATURES = len(SYMBOLS) + DEGREES + HYDROGENS + VALENCES + 1, 6
TABLES = {
    "esol": ("esol.csv", "log solubility, mol/L"),
    "freesolv": ("freesolv.csv", "hydration free energy, kcal/mol"),
    "lipophilicity": ("lipophilicity.csv", "octanol/water distribution, log D"),
}
"""The file of each set inside `molecules.zip`, and what its numbers are."""


def rdkit() -> Any:
    """rdkit's `Chem`, or a `ValueError` that says how to get it."""
    try:
        from rdkit import Chem
    except ImportError:
        raise ValueError(
            'molecules need rdkit, which is not installed; pip install "ziggurat[molecules]" brings it.'
        ) from None
    return Chem


def one_hot(value: int, count: int) -> list[float]:
    """`count` numbers, a 1 at the place of the value; values beyond the last place stand there."""
    return [float(i == min(value, count - 1)) for i in range(count)]


def atom_features(atom: Any) -> list[float]:
    """The 62 features of an atom of rdkit: symbol (44), degree 0–5, hydrogens 0–4, implicit valence 0–5, aromatic."""
    symbol = atom.GetSymbol() if atom.GetSymbol() in SYMBOLS else "Unknown"
    return [
        *one_hot(SYMBOLS.index(symbol), len(SYMBOLS)),
        *one_hot(atom.GetDegree(), DEGREES),
        *one_hot(atom.GetTotalNumHs(), HYDROGENS),
        *one_hot(atom.GetNumImplicitHs(), VALENCES),  # each implicit bond is one to a hydrogen that is not written
        float(atom.GetIsAromatic()),
    ]


def bond_features(bond: Any) -> list[float]:
    """The 6 features of a bond of rdkit: single, double, triple, aromatic, conjugated, in a ring."""
    kinds = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
    kind = str(bond.GetBondType())
    return [*(float(kind == one) for one in kinds), float(bond.GetIsConjugated()), float(bond.IsInRing())]


def from_smiles(smiles: str) -> Any:
    """A molecule as `Data`: x (N, 62), edge_index (2, 2M) with both directions of each of the M bonds, edge_attr (2M, 6), `smiles`.

    Raises a `ValueError` for text that is no molecule.
    """
    chem = rdkit()
    from rdkit import RDLogger
    from torch_geometric.data import Data

    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    try:
        molecule = chem.MolFromSmiles(smiles.strip())
    finally:
        RDLogger.EnableLog("rdApp.*")  # type: ignore[attr-defined]
    if molecule is None or not molecule.GetNumAtoms():
        raise ValueError(f"{smiles!r} is no molecule in SMILES; correct it or leave it out.")
    bonds = list(molecule.GetBonds())
    pairs = torch.tensor([[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()] for bond in bonds], dtype=torch.int64)
    pairs = pairs.view(-1, 2).T
    kinds = torch.tensor([bond_features(bond) for bond in bonds]).view(-1, BOND_FEATURES)
    return Data(
        x=torch.tensor([atom_features(atom) for atom in molecule.GetAtoms()]),
        edge_index=torch.cat([pairs, pairs.flip(0)], 1),
        edge_attr=torch.cat([kinds, kinds]),
        smiles=smiles.strip(),
    )


def molecules(smiles: Iterable[str], values: Sequence[float], name: str, notes: tuple[str, ...] = ()) -> Graphs:
    """Molecules with a value each; those that cannot be read are left out and counted in `notes`."""
    rdkit()
    graphs, labels, bad = [], [], 0
    for text, value in zip(smiles, values, strict=True):
        try:
            graph = from_smiles(text)
        except ValueError:
            bad += 1
            continue
        graph.y = torch.tensor([value])
        graphs.append(graph)
        labels.append(value)
    skipped = (f"{bad} of {bad + len(graphs)} could not be read and are left out",) if bad else ()
    ids = tuple(graph.smiles for graph in graphs)
    return Graphs(tuple(graphs), torch.tensor(labels), (), name, ids, (*notes, *skipped), task="regression")


def read_molecules(name: str, split: Any, root: Any) -> Graphs:
    """One of the sets of MoleculeNet with a value for each molecule; there is no published split."""
    choose(name, split, ())
    file, meaning = TABLES[name]
    with zipfile.ZipFile(locate("molecules", root)[0]) as archive:
        rows = list(csv.reader(io.StringIO(archive.read(file).decode())))[1:]
    return molecules([row[0] for row in rows], [float(row[1]) for row in rows], name, (meaning,))


class WithBonds:
    """A feed of several molecules as one: `Batch((x, edge_index, edge_attr, batch), labels, index)`."""

    order = Labelled.order

    def batch(self, dataset: Graphs, index: Tensor, generator: torch.Generator) -> Batch:
        from torch_geometric.data import Batch as GraphsAsOne

        many = GraphsAsOne.from_data_list([dataset.graphs[i] for i in index.tolist()])
        return Batch((many.x, many.edge_index, many.edge_attr, many.batch), dataset.labels[index], index)
