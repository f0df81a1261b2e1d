import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.spatial.distance import cdist
from torch import nn

from tests.typecheck import value_error
from ziggurat.data.documents import synthetic_documents
from ziggurat.data.feeds import feed
from ziggurat.learning.document_cnn import (
    CAFFE_MEAN,
    REGIONS,
    DocumentCNN,
    Region,
    RegionEnsemble,
    compression_curve,
    cut,
    ranked,
    retrieval_map,
)
from ziggurat.learning.supervised import Supervised
from ziggurat.nn.fitting import fit


def small(num_classes=8, in_channels=1, hidden=6):
    return DocumentCNN(num_classes, 67, (11, 4), (4, 4, 6, 6, 4), hidden, in_channels)


def pages(n=16):
    return synthetic_documents(n, 0, 64).images


@pytest.mark.fact("document_cnn", 2)
def test_descriptors_of_the_paper_and_of_five_regions():
    with torch.device("meta"):
        network = DocumentCNN()
        x = torch.zeros(2, 1, 1000, 754)
        maps = network.forward_features(x)
        assert network.describe(x).shape == (2, 4096) and network(x).shape == (2, 16)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (96, 27, 27),
        (256, 13, 13),
        (384, 13, 13),
        (384, 13, 13),
        (256, 6, 6),
    ]
    assert len(REGIONS) * 4096 == 20_480
    ensemble = RegionEnsemble({name: small() for name in REGIONS})
    assert ensemble.concatenated(pages().inputs([0, 1])).shape == (2, 5 * 6)


def test_parameters_are_those_of_the_reference_network():
    # convolutions 34,944 + 307,456 + 885,120 + 663,936 + 442,624, fully connected 37,752,832 + 16,781,312 + 4,097,000
    with torch.device("meta"):
        assert sum(p.numel() for p in DocumentCNN(1000).parameters()) == 60_965_224


def test_pages_are_warped_and_grey_is_repeated():
    torch.manual_seed(0)
    network = small(in_channels=3).eval()
    x = torch.rand(2, 1, 90, 70)
    warped = nn.functional.interpolate(x, (67, 67), mode="bilinear", antialias=True)
    torch.testing.assert_close(network(x), network(warped))
    torch.testing.assert_close(network(x), network(x.expand(-1, 3, -1, -1)))


def test_imagenet_weights_take_pages_in_shares():
    torch.manual_seed(0)
    source, network = small(1000, 3).eval(), small(5, 3).eval()
    names = {f"stages.{i}.0": f"conv{i + 1}" for i in range(5)}
    names |= {"head.layers.1": "fc6", "head.layers.4": "fc7", "head.fc": "fc8"}
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        state = {names[k.rpartition(".")[0]] + "." + k.rpartition(".")[2]: v for k, v in source.state_dict().items()}
        save_file(state, f"{folder}/caffe.safetensors")
        network.load_imagenet(f"{folder}/caffe.safetensors")
    rgb = torch.rand(2, 3, 67, 67)
    as_caffe = 255 * rgb.flip(1) - torch.tensor(CAFFE_MEAN).view(3, 1, 1)
    torch.testing.assert_close(network.describe(rgb), source.describe(as_caffe), rtol=1e-4, atol=1e-2)
    assert network(rgb).shape == (2, 5)


@pytest.mark.fact("document_cnn", 3)
def test_all_components_keep_the_order():
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    labels = torch.arange(40) % 4
    from sklearn.decomposition import PCA

    centred = x - x.mean(0)
    turned = PCA(svd_solver="full").fit(x).transform(x)
    np.testing.assert_allclose(cdist(centred, centred), cdist(turned, turned), atol=1e-5)
    np.testing.assert_array_equal(ranked(centred, labels), ranked(turned, labels))


@pytest.mark.fact("document_cnn", 4)
@pytest.mark.parametrize(("height", "width"), [(128, 128), (101, 77), (7, 5)])
def test_regions_tile_the_page(height, width):
    places = torch.arange(height * width).view(1, 1, height, width).float()
    parts = [cut(places, part).flatten() for name, part in REGIONS.items() if name != "page"]
    assert torch.equal(torch.cat(parts).sort().values, places.flatten())
    assert torch.equal(cut(places, REGIONS["page"]), places)


def test_a_region_is_a_data_set():
    data = pages()
    header = Region(data, REGIONS["header"])
    assert len(header) == 16 and header.classes == data.classes and header.name == data.name
    torch.testing.assert_close(header.inputs([3]), data.inputs([3])[:, :, :21])
    batch = next(iter(feed(header, Supervised(small()).feed, 4)))
    assert batch.inputs[0].shape == (4, 1, 21, 64)


def test_an_ensemble_trains_each_network_on_its_region():
    seen = []

    def train(network, region):
        seen.append((region.part, len(region)))
        learner = Supervised(network, 1e-3)
        return fit(learner, feed(region, learner.feed, 8), steps=1).network

    data = pages()
    ensemble = RegionEnsemble({name: small() for name in REGIONS}, components=3)
    before = ensemble.networks["footer"].state_dict()["head.fc.bias"].clone()
    ensemble.fit(data, train)
    assert seen == [(part, 16) for part in REGIONS.values()]
    assert not torch.equal(before, ensemble.networks["footer"].state_dict()["head.fc.bias"])
    x = data.inputs(slice(None))
    rows = ensemble.concatenated(x)
    np.testing.assert_allclose(np.linalg.norm(rows[:, :6], axis=1), 1, atol=1e-5)
    found = ensemble.describe(x)
    assert found.shape == (16, 3)
    centred = rows - rows.mean(0)
    np.testing.assert_allclose(
        found @ ensemble.pca_.components_, centred @ ensemble.pca_.components_.T @ ensemble.pca_.components_, atol=1e-5
    )


def test_map_against_a_loop():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(20, 3)).astype(np.float32), torch.from_numpy(rng.integers(0, 3, 20))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    precisions = []
    for i in range(20):
        order = [j for j in np.linalg.norm(unit - unit[i], axis=1).argsort() if j != i]
        right = [int(labels[j] == labels[i]) for j in order]
        precisions.append(np.mean([np.mean(right[: r + 1]) for r in range(19) if right[r]]))
    assert retrieval_map(x, labels) == pytest.approx(np.mean(precisions))


def test_compression_ends_where_the_training_vectors_do():
    rng = np.random.default_rng(1)
    labels = torch.arange(60) % 3
    x = (np.eye(16)[labels] + 0.2 * rng.normal(size=(60, 16))).astype(np.float32)
    curve = compression_curve(x[:30], x[30:], labels[30:], (16, 8, 2, 1, 64))
    assert list(curve) == [16, 8, 2, 1] and curve[2] > 0.9 and curve[1] < curve[2]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    whole = retrieval_map(unit[30:] - unit[:30].mean(0), labels[30:])
    assert curve[16] == pytest.approx(whole, abs=1e-6)


def test_mistakes_are_named():
    for call, says in (
        (lambda: DocumentCNN(side=60), "no map is left"),
        (lambda: DocumentCNN(widths=(3, 4, 4, 4, 4)), "first four even"),
        (lambda: RegionEnsemble({"page": small()}), "a network for each"),
        (lambda: RegionEnsemble({name: small() for name in REGIONS}).describe(pages().inputs([0])), "call fit"),
    ):
        with value_error(says):
            call()
