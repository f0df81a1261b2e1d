import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.nn import MFConv

from tests.typecheck import value_error
from ziggurat.data.graphs.molecules import from_smiles
from ziggurat.graphs.fingerprints.circular import circular_fingerprint
from ziggurat.graphs.fingerprints.neural_fingerprint import DegreeConv, NeuralFingerprint, draw_hash
from ziggurat.nn import count_parameters
from ziggurat.testing.examples import ring_graph

SMILES = [
    "CCO",
    "c1ccccc1O",
    "CC(=O)OC1=CC=CC=C1C(=O)O",
    "C",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "CC(C)(C)C",
    "OCC(O)CO",
    "c1ccncc1",
]


def some(smiles=SMILES):
    return Batch.from_data_list([from_smiles(one) for one in smiles])


def inputs(many, dtype=torch.float64):
    return many.x.to(dtype), many.edge_index, many.edge_attr.to(dtype), many.batch


def small(**options):
    torch.manual_seed(0)
    return NeuralFingerprint(**{"num_classes": 2, "size": 16, "width": 8, "depth": 3, **options}).double()


@pytest.mark.fact("neural_fingerprint", 1)
def test_entries_sum_to_atoms_times_layers():
    many, network = some(), small()
    atoms = torch.bincount(many.batch).double()
    torch.testing.assert_close(network.fingerprint(*inputs(many)).sum(1), atoms * 4)
    for written in network.atom_activations(*inputs(many)[:3]):
        torch.testing.assert_close(written.sum(1), torch.ones(len(many.x)).double())  # over the entries, not over atoms


@pytest.mark.fact("neural_fingerprint", 2)
def test_parameters_of_the_fingerprint():
    network = NeuralFingerprint(num_classes=0, hidden=0)
    assert sum(count_parameters(stage.conv) for stage in network.stages) == 9420 + 3 * 3540
    hashes = [network.stem, *(stage.hash for stage in network.stages)]
    assert sum(count_parameters(part) for part in hashes) == 75_264
    assert count_parameters(network) == 95_304
    with_head = count_parameters(NeuralFingerprint()) - 95_304
    assert with_head == 512 * 100 + 100 + 101


@pytest.mark.fact("neural_fingerprint", 3)
def test_the_order_of_atoms_plays_no_part():
    for one, other in (("CCO", "OCC"), ("CC(=O)Nc1ccc(O)cc1", "Oc1ccc(NC(C)=O)cc1")):
        network = small().eval()
        a, b = (network.fingerprint(*inputs(some([text]))) for text in (one, other))
        torch.testing.assert_close(a, b)
        assert torch.equal(*(circular_fingerprint(some([text]), 3, 512) for text in (one, other)))
    assert not torch.allclose(a, network.fingerprint(*inputs(some(["CC(=O)Nc1ccccc1O"]))))


@pytest.mark.fact("neural_fingerprint", 4)
def test_with_large_weights_every_atom_writes_to_one_entry():
    many, far = some(), []
    for scale in (0.1, 10.0, 1e4):
        network = draw_hash(small(), scale, seed=3).train()
        prints = network.fingerprint(*inputs(many))
        far.append(float((prints - prints.round()).abs().max()))
    assert far[0] > 0.1 and far[2] < 1e-6 and far[2] <= far[1]
    assert torch.equal(prints.round().sum(1).long(), 4 * torch.bincount(many.batch))


def test_random_weights_are_fixed_and_seeded_and_the_head_still_learns():
    one, other = draw_hash(small(), 10.0, 1), draw_hash(small(), 10.0, 1)
    assert torch.equal(one.stages[0].conv.weight, other.stages[0].conv.weight)
    assert not torch.equal(one.stem.linear.weight, draw_hash(small(), 10.0, 2).stem.linear.weight)
    learned = {name.split(".")[0] for name, p in one.named_parameters() if p.requires_grad}
    assert learned == {"head"}


def test_one_layer_against_a_loop():
    many = some(["CC(C)(C)C", "CC(=O)O", "FS(F)(F)(F)(F)F"])
    x, edges, bonds, _ = inputs(many)
    layer = DegreeConv(62, 5, 6, max_degree=3).double()
    expected = []
    for a in range(len(x)):
        near = [(u, e) for e, (u, t) in enumerate(edges.T.tolist()) if t == a]
        v = sum(torch.cat([x[u], bonds[e]]) for u, e in near)
        expected.append(layer.own.weight @ x[a] + layer.own.bias + v @ layer.weight[min(len(near), 3)])
    torch.testing.assert_close(layer(x, edges, bonds), torch.stack(expected))


def test_with_the_same_own_matrix_for_all_degrees_it_is_mfconv():
    graph = ring_graph()
    ours, peer = DegreeConv(8, 5, max_degree=3), MFConv(8, 5, max_degree=3)
    with torch.no_grad():
        for degree in range(4):
            peer.lins_l[degree].weight.copy_(ours.weight[degree].T)
            peer.lins_l[degree].bias.copy_(ours.own.bias)
            peer.lins_r[degree].weight.copy_(ours.own.weight)
    torch.testing.assert_close(ours(graph.x, graph.edge_index), peer(graph.x, graph.edge_index), atol=1e-5, rtol=1e-5)


def test_one_matrix_for_all_degrees():
    layer, graph = DegreeConv(8, 5, max_degree=0), ring_graph()
    assert layer.weight.shape == (1, 8, 5)
    near = torch.zeros(12, 8).index_add(0, graph.edge_index[1], graph.x[graph.edge_index[0]])
    torch.testing.assert_close(layer(graph.x, graph.edge_index), layer.own(graph.x) + near @ layer.weight[0])


def test_circular_bits_are_those_of_a_loop_over_surroundings():
    """Two atoms share a bit at a radius exactly when their surroundings are the same: as many codes as a naive refinement has classes."""
    many = some()
    for radius in range(4):
        names = [repr(row) for row in many.x.tolist()]
        classes = set(names)
        for _ in range(radius):
            old = names
            names = []
            for a in range(len(old)):
                pairs = zip(many.edge_index.T.tolist(), many.edge_attr.tolist(), strict=True)
                names.append(repr((old[a], sorted((old[u], bond) for (u, t), bond in pairs if t == a))))
            classes |= set(names)
        bits = circular_fingerprint(Data(x=many.x, edge_index=many.edge_index, edge_attr=many.edge_attr), radius, 2**20)
        assert int(bits.sum()) == len(classes)


def test_circular_fingerprints_are_near_rdkit_s():
    rdkit = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import rdFingerprintGenerator

    peer = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=4096, includeChirality=False)
    theirs = torch.tensor(np.array([peer.GetFingerprintAsNumPy(rdkit.MolFromSmiles(s)) for s in SMILES])).float()
    ours = circular_fingerprint(some(), 2, 4096)
    pairs = tuple(torch.triu_indices(len(SMILES), len(SMILES), 1))
    likeness = [((p @ p.T) / (p.sum(1)[:, None] + p.sum(1) - p @ p.T))[pairs].numpy() for p in (ours, theirs)]
    assert np.corrcoef(*likeness)[0, 1] > 0.9


def test_mistakes_of_fingerprints_are_named():
    many, network = some(), small()
    x, edges, bonds, batch = inputs(many)
    with value_error("feed molecules with `WithBonds`"):
        network(x, edges, None, batch)
    with value_error("edges need 6 features, got 3"):
        network(x, edges, bonds[:, :3], batch)
    with value_error("depth must be 1 or more"):
        small(depth=0)
    with value_error("max_degree and bond_features must be"):
        DegreeConv(4, 4, max_degree=-1)
    with value_error("radius must be 0 or more"):
        circular_fingerprint(many, -1)
