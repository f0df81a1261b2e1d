import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from tests.typecheck import value_error
from ziggurat.data.loading import load
from ziggurat.graphs.heterogeneous.metapaths import meta_graph, metapath_adjacency, normalized, relation
from ziggurat.graphs.heterogeneous.semantic_attention import SemanticAttention


def library(papers=12, authors=6, venues=3, seed=0):
    """Papers with authors and a venue each; authors have features, venues none."""
    g = torch.Generator().manual_seed(seed)
    data = HeteroData()
    data["paper"].x = torch.randn(papers, 5, generator=g)
    data["author"].x = torch.randn(authors, 4, generator=g)
    data["venue"].num_nodes = venues
    data["paper", "to", "author"].edge_index = torch.stack(
        [torch.arange(papers).repeat(2), torch.randint(authors, (2 * papers,), generator=g)]
    )
    data["paper", "to", "venue"].edge_index = torch.stack([torch.arange(papers), torch.arange(papers) % venues])
    return data


def test_meta_paths_against_a_loop():
    data = library()
    wrote = [set() for _ in range(12)]
    for paper, author in data["paper", "to", "author"].edge_index.T.tolist():
        wrote[paper].add(author)
    want = [[float(i != j and bool(wrote[i] & wrote[j])) for j in range(12)] for i in range(12)]
    assert metapath_adjacency(data, ("paper", "author", "paper")).toarray().tolist() == want
    assert (relation(data, "author", "paper").toarray() == relation(data, "paper", "author").toarray().T).all()


def test_contexts_are_means_along_the_path():
    data = library()
    graph = meta_graph(data, [("paper", "author", "paper"), ("paper", "author", "paper", "author", "paper")])
    (one,), (two, three) = graph.contexts
    assert torch.equal(one.mean.to_dense(), two.mean.to_dense()) and three.mean.shape == (12, 12)
    rows = one.mean.to_dense().sum(1)
    torch.testing.assert_close(rows, torch.ones(12))
    assert torch.equal(one.x, data["author"].x) and len(graph.x) == 12
    assert meta_graph(data, [("paper", "venue", "paper")]).contexts[0][0].x is None


def test_normalisation():
    matrix = metapath_adjacency(library(), ("paper", "author", "paper"))
    a = torch.from_numpy(matrix.toarray() + np.eye(12))
    d = a.sum(1) ** -0.5
    torch.testing.assert_close(normalized(matrix).to_dense(), (d[:, None] * a * d[None]).float())


@pytest.mark.fact("meow", 4)
def test_acm():
    try:
        data = load("heco_acm")
    except FileNotFoundError as error:
        pytest.skip(f"data: {error}")
    assert [data[kind].num_nodes for kind in ("paper", "author", "subject")] == [4019, 7167, 60]
    assert sorted(torch.bincount(data["paper"].y).tolist()) == [965, 1061, 1993]
    assert metapath_adjacency(data, ("paper", "author", "paper")).nnz == 53834
    subjects = relation(data, "paper", "subject")
    assert (subjects @ subjects.T).nnz - 4019 == 4334194


def test_attention_over_paths_is_one_weight_a_path():
    torch.manual_seed(0)
    views, attention = torch.randn(3, 5, 4), SemanticAttention(4)
    weight = torch.stack([attention.hidden(z).tanh().mean(0) @ attention.score for z in views]).softmax(0)
    torch.testing.assert_close(attention(list(views)), (weight[:, None, None] * views).sum(0))


def test_mistakes():
    data = library()
    with value_error("no edges join 'author' and 'venue'"):
        relation(data, "author", "venue")
    with value_error("ends with its first one"):
        metapath_adjacency(data, ("paper", "author"))
    with value_error("start at one kind"):
        meta_graph(data, [("paper", "author", "paper"), ("author", "paper", "author")])
