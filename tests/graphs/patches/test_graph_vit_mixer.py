import math

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import AddRandomWalkPE

from tests.typecheck import value_error
from ziggurat.data.graphs.patches import GraphPatches
from ziggurat.graphs.patches.encoder import GINELayer, PatchEncoder, PatchShare
from ziggurat.graphs.patches.graph_vit_mixer import GraphMLPMixer, GraphViT
from ziggurat.graphs.patches.mixing import HadamardBlock, MixerBlock
from ziggurat.nn import count_parameters
from ziggurat.testing.examples import ring_graph


def cut(patches=4, seed=0, **options):
    graph = ring_graph(seed=seed)
    data = Data(x=graph.x.double(), edge_index=graph.edge_index, num_nodes=12)
    return GraphPatches(patches, **options)(AddRandomWalkPE(8, "code")(data))


def small(kind, **options):
    torch.manual_seed(0)
    return kind(8, 3, **{"patches": 4, "width": 16, "depth": 2, "blocks": 2, **options}).double().eval()


@pytest.mark.fact("graph_vit_mixer", 1)
def test_parameters_of_the_mixer():
    assert count_parameters(MixerBlock(128, 32, 512, 64)) == 50_400
    with torch.device("meta"):
        network = GraphMLPMixer(8, 3)
    assert count_parameters(network.stages) + count_parameters(network.norm) == 201_856


@pytest.mark.fact("graph_vit_mixer", 4)
def test_one_patch_is_a_network_with_mean_readout_and_a_perceptron():
    network, graph = small(GraphMLPMixer, patches=1, depth=1, blocks=1, patch_code=False, code_size=0), ring_graph()
    x, layer, block = graph.x.double(), network.stem.layers[0], network.stages[0]
    edges = network.stem.edge(torch.ones(graph.edge_index.shape[1], 1).double())
    token = layer(network.stem.node(x), graph.edge_index, edges).mean(0)
    token = token + torch.stack([block.tokens(value[None]) for value in block.norm1(token)])[:, 0]
    token = network.norm(token + block.channels(block.norm2(token)))
    torch.testing.assert_close(network.forward_features(x, graph.edge_index)[-1][0], token)


def test_a_gine_layer_against_a_loop():
    graph, layer = ring_graph(), GINELayer(8).double().eval()
    x, edges = graph.x.double(), torch.randn(graph.edge_index.shape[1], 8).double()
    total = x.clone()
    for e, (s, t) in enumerate(graph.edge_index.T.tolist()):
        total[t] = total[t] + (x[s] + edges[e]).relu()
    one, _, two = layer.conv.nn
    expected = x + (two(one(total).relu()) / math.sqrt(1 + layer.norm.eps)).relu()
    torch.testing.assert_close(layer(x, graph.edge_index, edges), expected)


def test_copies_of_a_node_agree_after_sharing():
    made, share = cut(), PatchShare(5).double().eval()
    x = torch.randn(len(made.patch_node), 5).double()
    got = share(x, made.patch_of, made.patch_node, 4, 12)
    moved = torch.stack([x[i] + share.mix(x[made.patch_of == p].mean(0)[None])[0] for i, p in enumerate(made.patch_of)])
    for node in range(12):
        own = made.patch_node == node
        torch.testing.assert_close(got[own], moved[own].mean(0).expand(int(own.sum()), -1))


def test_patch_vectors_are_means_with_their_codes_and_empty_ones_are_zero():
    torch.manual_seed(0)
    made, encoder = cut(16), PatchEncoder(8, 6, 1, code_size=8).double().eval()
    many = Batch.from_data_list([made])
    copies, tokens = encoder(many)
    for p in range(12):
        code = encoder.patch_code(made.patch_code[0, p].double())
        torch.testing.assert_close(tokens[0, p], copies[made.patch_of == p].mean(0) + code)
    assert not tokens[0, 12:].any()


def test_hadamard_attention_against_a_loop():
    torch.manual_seed(0)
    block, x, a = HadamardBlock(6, 2, 12).double(), torch.randn(1, 4, 6).double(), torch.rand(1, 4, 4).double()
    mask = torch.tensor([[True, True, True, False]])
    q, k, v = block.qkv(block.norm1(x))[0].view(4, 3, 2, 3).unbind(1)
    out = torch.zeros(4, 2, 3).double()
    for h in range(2):
        for i in range(4):
            weight = torch.stack([q[i, h] @ k[j, h] / math.sqrt(3) for j in range(3)]).softmax(0)
            out[i, h] = sum(a[0, i, j] * weight[j] * v[j, h] for j in range(3))
    y = x + block.proj(out.flatten(1))
    expected = y + block.channels(block.norm2(y))
    torch.testing.assert_close(block(x, a, mask), expected)
    plain = block.attend(block.norm1(x), None, None)
    torch.testing.assert_close(plain, block.attend(block.norm1(x), torch.ones(1, 4, 4).double(), None))


def test_the_order_of_patches_counts_for_the_mixer_and_not_for_attention():
    graph = ring_graph()
    data = AddRandomWalkPE(8, "code")(Data(x=graph.x.double(), edge_index=graph.edge_index, num_nodes=12))
    one, other = (Batch.from_data_list([GraphPatches(16, shuffle=True, seed=s)(data)]) for s in (0, 1))
    same = [torch.allclose(n.forward_batch(one), n.forward_batch(other)) for n in (small(GraphMLPMixer, patches=16),
                                                                                   small(GraphViT, patches=16))]  # fmt: skip
    assert same == [False, True]


def test_empty_patches_do_not_count_in_the_mean():
    network, many = small(GraphViT, patches=16), Batch.from_data_list([cut(16)])
    tokens = network.tokens(many)[1][-1]
    torch.testing.assert_close(network.features_of(many)[-1], tokens[:, :12].mean(1))


def test_cut_before_or_in_the_call_is_the_same():
    for kind in (GraphMLPMixer, GraphViT):
        network = small(kind)
        many = Batch.from_data_list([cut(seed=0), cut(seed=1)])
        torch.testing.assert_close(
            network.forward_batch(many), network(many.x, many.edge_index, None, many.batch), atol=1e-9, rtol=1e-9
        )


def test_vectors_of_nodes_hold_the_node_and_its_patches():
    network, many = small(GraphMLPMixer), Batch.from_data_list([cut(seed=0), cut(seed=1)])
    copies, found = network.tokens(many)
    flat = found[-1].flatten(0, 1)
    vectors = network.node_vectors(many)
    assert vectors.shape == (24, 32)
    for node in (0, 7, 20):
        own = many.patch_node == node
        expected = torch.cat([copies[own].mean(0), flat[many.patch_of[own]].mean(0)])
        torch.testing.assert_close(vectors[node], expected)


def test_edge_weights_and_features_reach_the_encoder():
    network, graph = small(GraphMLPMixer), ring_graph()
    weight = torch.rand(graph.edge_index.shape[1])
    x, edges = graph.x.double(), graph.edge_index
    assert not torch.allclose(network(x, edges), network(x, edges, weight.double()))
    torch.testing.assert_close(network(x, edges), network(x, edges, torch.ones_like(weight).double()))


def test_mistakes_with_patches_are_named():
    network = small(GraphMLPMixer)
    with value_error(r"cut with GraphPatches\(4\)"):
        network.forward_batch(Batch.from_data_list([cut(5)]))
    bare = Data(x=ring_graph().x.double(), edge_index=ring_graph().edge_index)
    with value_error(r"AddRandomWalkPE\(8, 'code'\)"):
        network.forward_batch(Batch.from_data_list([GraphPatches(4)(bare)]))
    odd = cut()
    odd.edge_attr = torch.ones(odd.edge_index.shape[1], 3).double()
    with value_error("build it with edge_features=3"):
        network.forward_batch(Batch.from_data_list([odd]))
    with value_error("blocks must be 1 or more"):
        GraphViT(8, 3, blocks=0)
    with value_error("a depth of 1 or more"):
        GraphMLPMixer(8, 3, depth=0)
