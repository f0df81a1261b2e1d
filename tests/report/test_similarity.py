import io

import numpy as np
import pytest
from PIL import Image
from torch.nn.functional import cosine_similarity

from tests.typecheck import value_error
from tests.untrained import untrained
from ziggurat.report.similarity import GAP, SIDE, centre_square, explain_pair, pooling, similarity_picture


@pytest.fixture(scope="module")
def artifact():
    return untrained("cifar_resnet20")


def picture(seed, size=(40, 30)):
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)


def test_the_cosine_is_that_of_the_representations(artifact):
    a, b = picture(0), picture(1, (20, 50))
    png, cosine = similarity_picture(artifact, pooling(artifact), a, b)
    vectors = [artifact.learner.represent(artifact.prepare(centre_square(one, 8))) for one in (a, b)]
    assert cosine == pytest.approx(float(cosine_similarity(*vectors).detach()), abs=1e-5)
    drawn = np.asarray(Image.open(io.BytesIO(png)))
    assert drawn.shape == (SIDE, 2 * SIDE + GAP, 4)
    assert (drawn[:, SIDE : SIDE + GAP] == 0).all() and (drawn[:, :SIDE, 3] == 255).all()


def test_red_speaks_for_and_both_maps_have_one_scale(artifact):
    a = picture(0)
    png, cosine = similarity_picture(artifact, "avg", a, a)
    drawn = np.asarray(Image.open(io.BytesIO(png))).astype(int)
    left, right = drawn[:, :SIDE], drawn[:, SIDE + GAP :]
    assert cosine == pytest.approx(1) and (left == right).all()
    assert (left[..., 0] >= left[..., 2]).all(), "a picture and itself: nothing speaks against"
    assert (left[..., 0] - left[..., 2]).max() > 100, "the largest part has the full colour"


def test_two_files_make_one_png(artifact, tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        Image.fromarray(picture(seed)).save(tmp_path / f"{name}.png")
    path, cosine = explain_pair(artifact, tmp_path / "a.png", tmp_path / "b.png", tmp_path / "out")
    png, same = similarity_picture(artifact, "avg", picture(0), picture(1))
    assert path == tmp_path / "out" / "a-b.png" and path.read_bytes() == png and cosine == same


def test_pooling_is_found_out(artifact):
    class Largest(type(artifact.network.head)):
        def forward(self, x, pre_logits=False):
            return x.amax((2, 3))

    assert pooling(artifact) == "avg"
    other = untrained("cifar_resnet20")
    other.network.head.__class__ = Largest
    assert pooling(other) == "max"
    other.learner.represent = lambda x: other.network.forward_features(x)[-1].square().mean((2, 3))
    with value_error("neither the mean nor the maximum of its last map"):
        pooling(other)


@pytest.mark.parametrize(
    ("method", "text"),
    [("mlp", "mlp has no maps of positions"), ("resnet18", "the last map of resnet18 has a single position here")],
)
def test_networks_without_a_map_say_why(method, text):
    with value_error(text):
        pooling(untrained(method))
