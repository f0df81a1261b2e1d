"""The same answers as other libraries' filters give."""

import numpy as np
import pytest

from tests.memory.filtered.points import K, filled, filters, points, queries
from ziggurat.memory.filtered.filters import Between, Contains, Equals
from ziggurat.metrics.neighbours import neighbour_recall

FILTERS = [one for one in filters() if isinstance(one, Equals | Between)][::3]


@pytest.fixture(scope="module")
def ours():
    return filled("pre").search(queries(len(FILTERS)), K, FILTERS)


def without_missing(ids):
    return [row[row >= 0].tolist() for row in ids]


def sql(where):
    if isinstance(where, Equals):
        return f"{where.field} = '{where.value}'"
    ends = [f"{where.field} {sign} {end}" for sign, end in ((">=", where.low), ("<=", where.high)) if np.isfinite(end)]
    return " and ".join(ends) or f"{where.field} is not null"


@pytest.mark.fact("filtered_ann_benchmark", 6)
def test_lancedb(ours, tmp_path):
    lancedb = pytest.importorskip("lancedb", reason="package: lancedb is not installed")
    ids, vectors, table = points()
    rows = table[["kind", "size"]].assign(id=ids, vector=list(vectors))
    made = lancedb.connect(tmp_path).create_table("points", rows)
    for x, where, mine in zip(queries(len(FILTERS)), FILTERS, without_missing(ours.ids), strict=True):
        found = made.search(x).where(sql(where), prefilter=True).limit(K).to_list()
        assert [one["id"] for one in found] == mine


@pytest.mark.fact("filtered_ann_benchmark", 6)
def test_qdrant(ours):
    qdrant = pytest.importorskip(
        "qdrant_client", reason="package: qdrant-client is not installed", exc_type=ImportError
    )
    from qdrant_client import models

    ids, vectors, table = points()
    client = qdrant.QdrantClient(":memory:")
    client.create_collection(
        "points", vectors_config=models.VectorParams(size=vectors.shape[1], distance=models.Distance.EUCLID)
    )
    payload = [
        {"kind": kind, "size": size, "tags": sorted(tags)}
        for kind, size, tags in table[["kind", "size", "tags"]].to_numpy()
    ]
    client.upsert(
        "points",
        [
            models.PointStruct(id=int(i), vector=v.tolist(), payload=p)
            for i, v, p in zip(ids, vectors, payload, strict=True)
        ],
    )

    def theirs(where):
        if isinstance(where, Between):
            ends = models.Range(gte=where.low, lte=where.high)
            return models.FieldCondition(key=where.field, range=ends)
        return models.FieldCondition(key=where.field, match=models.MatchValue(value=where.value))

    asked = [*FILTERS, *(Contains("tags", tag) for tag in (0, 3, 29))]
    mine = filled("pre").search(queries(len(asked)), K, asked)
    for x, where, own in zip(queries(len(asked)), asked, without_missing(mine.ids), strict=True):
        found = client.query_points(
            "points", query=x.tolist(), limit=K, query_filter=models.Filter(must=[theirs(where)])
        )
        assert [point.id for point in found.points] == own


def masks():
    index = filled("pre")
    return np.stack([index.attributes.mask(one) for one in FILTERS])


def test_faiss(ours):
    faiss = pytest.importorskip("faiss", reason="package: faiss-cpu is not installed")
    faiss.omp_set_num_threads(1)
    ids, vectors, _ = points()
    flat, graph = faiss.IndexFlatL2(vectors.shape[1]), faiss.IndexHNSWFlat(vectors.shape[1], 16)
    flat.add(vectors)
    graph.add(vectors)
    far = np.full((len(FILTERS), K), np.inf, np.float32)
    for i, (x, mask, mine) in enumerate(zip(queries(len(FILTERS)), masks(), ours.ids, strict=True)):
        chosen = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        _, rows = flat.search(x[None], K, params=faiss.SearchParameters(sel=chosen))
        assert np.where(rows[0] >= 0, ids[rows[0]], -1).tolist() == mine.tolist()
        away, rows = graph.search(x[None], K, params=faiss.SearchParametersHNSW(sel=chosen, efSearch=100))
        far[i] = np.where(rows[0] >= 0, away[0], np.inf)
    index = filled("acorn")
    near = index.search(queries(len(FILTERS)), K, FILTERS, beam=100).distances
    assert neighbour_recall(near, ours.distances) >= neighbour_recall(far, ours.distances) - 0.02


def test_hnswlib(ours):
    hnswlib = pytest.importorskip("hnswlib", reason="package: hnswlib is not installed")
    ids, vectors, _ = points()
    index = hnswlib.BFIndex(space="l2", dim=vectors.shape[1])
    index.init_index(len(vectors))
    index.add_items(vectors, np.arange(len(vectors)))
    for x, mask, mine in zip(queries(len(FILTERS)), masks(), without_missing(ours.ids), strict=True):
        if len(mine) == K:
            rows, _ = index.knn_query(x, K, filter=lambda row, mask=mask: bool(mask[row]))
            assert ids[rows[0]].tolist() == mine


def test_usearch_after_the_filter(ours):
    """An adapter makes another library's graph the inner index of PostFilter."""
    from usearch.index import Index

    from ziggurat.memory.filtered.inner import Found
    from ziggurat.memory.filtered.strategies import PostFilter

    class Usearch:
        def __init__(self, vectors):
            self.graph, self.count = Index(ndim=vectors.shape[1], metric="l2sq", dtype="f32"), len(vectors)
            self.graph.add(np.arange(len(vectors)), vectors)

        def __len__(self):
            return self.count

        def search(self, queries, k, beam):
            found = self.graph.search(queries, k, exact=False)
            computed = np.zeros(len(queries), np.int64)
            return Found(found.keys.astype(np.int64), found.distances.astype(np.float32), computed)

    index = PostFilter(Usearch)
    index.add(*points())
    hits = index.search(queries(len(FILTERS)), K, FILTERS, beam=64)
    assert neighbour_recall(hits.distances, ours.distances) > 0.95
