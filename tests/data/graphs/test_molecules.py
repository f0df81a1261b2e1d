import builtins

import pytest
import torch

from tests.data.graphs.test_graph_readers import given
from tests.typecheck import value_error
from ziggurat.data.feeds import feed
from ziggurat.data.graphs.molecules import ATOM_FEATURES, SYMBOLS, WithBonds, from_smiles, molecules, rdkit


def test_atoms_of_phenol_and_their_bonds():
    phenol = from_smiles("Oc1ccccc1")
    assert phenol.x.shape == (7, 62) and ATOM_FEATURES == 62 and len(SYMBOLS) == len(set(SYMBOLS)) == 44
    assert phenol.edge_index.shape == (2, 14) and phenol.edge_attr.shape == (14, 6)
    oxygen, carbon, other = phenol.x[0], phenol.x[1], phenol.x[2]
    # symbol, degree, hydrogens, implicit valence, aromatic
    assert oxygen.nonzero().flatten().tolist() == [2, 44 + 1, 50 + 1, 55 + 1]
    assert carbon.nonzero().flatten().tolist() == [0, 44 + 3, 50 + 0, 55 + 0, 61]
    assert other.nonzero().flatten().tolist() == [0, 44 + 2, 50 + 1, 55 + 1, 61]
    assert phenol.edge_attr[0].tolist() == [1, 0, 0, 0, 1, 0]  # C–O: single, conjugated
    assert phenol.edge_attr[1].tolist() == [0, 0, 0, 1, 1, 1]  # in the ring: aromatic, conjugated
    assert torch.equal(phenol.edge_index[:, :7], phenol.edge_index[:, 7:].flip(0))
    assert torch.equal(phenol.edge_attr[:7], phenol.edge_attr[7:])


def test_hydrogens_written_out_are_the_same_molecule():
    short, long = from_smiles("CC#N"), from_smiles("[H]C([H])([H])C#N")
    other = (short.x != long.x).nonzero()[:, 1]  # only whether the hydrogens were left to be understood
    assert bool(((other >= 55) & (other < 61)).all()) and torch.equal(short.edge_attr, long.edge_attr)
    assert short.edge_attr[1].tolist() == [0, 0, 1, 0, 0, 0]


def test_odd_molecules_are_taken():
    methane, salt, sulphur = from_smiles("C"), from_smiles("[Na+].[Cl-]"), from_smiles("FS(F)(F)(F)(F)F")
    assert methane.edge_index.shape == (2, 0) and methane.edge_attr.shape == (0, 6)
    assert salt.x.shape == (2, 62) and from_smiles("[U]").x[0].nonzero()[0] == 43
    assert sulphur.x[1, 44 + 5] == 1  # six neighbours count as five
    with value_error("is no molecule in SMILES"):
        from_smiles("C1CC(")


def test_unreadable_molecules_are_left_out_and_counted():
    data = molecules(["CC", "C1C", "CO"], [1.0, 2.0, 3.0], "mine")
    assert data.labels.tolist() == [1.0, 3.0] and data.ids == ("CC", "CO")
    assert "1 of 3 could not be read" in data.describe() and "a value each" in data.describe()


def test_without_rdkit_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def lacking(name, *rest, **named):
        if name.startswith("rdkit"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with value_error('pip install "ziggurat'):
        rdkit()


def test_batches_with_bonds():
    data = molecules(["CC", "C=O", "CCO"], [1.0, 2.0, 3.0], "mine")
    (batch,) = list(feed(data, WithBonds(), 3, seed=0))
    x, edges, bonds, owner = batch.inputs
    assert x.shape == (7, 62) and edges.shape == (2, 8) and bonds.shape == (8, 6)
    assert torch.equal(data.labels[batch.index], batch.target) and len(owner) == 7


@pytest.mark.parametrize(("name", "count"), [("freesolv", 642), ("esol", 1128)])
def test_sets_of_molecules(name, count):
    data = given(name)
    assert len(data) == count and data.task == "regression" and data.labels.dtype == torch.float32
    assert data[3].y == data.labels[3] and not any("could not be read" in note for note in data.notes)
    with value_error("is none of them"):
        given(name, "train")
