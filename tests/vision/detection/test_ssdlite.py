import pytest
import torch

from ziggurat.nn import count_parameters
from ziggurat.vision.detection.ssdlite import SSDLite, default_boxes


def test_maps_and_separable_heads_of_the_full_detector():
    with torch.device("meta"):
        detector = SSDLite(80).eval()
        levels = detector.levels(torch.empty(1, 3, 320, 320))
    assert [tuple(m.shape[1:]) for m in levels] == [
        (576, 20, 20), (1280, 10, 10), (512, 5, 5), (256, 3, 3), (256, 2, 2), (128, 1, 1),
    ]  # fmt: skip
    for channels, head in zip((576, 1280, 512, 256, 256, 128), detector.scores, strict=True):
        want = channels * 9 + 2 * channels + (channels + 1) * 6 * 81
        assert count_parameters(head) == want, "depthwise 3×3, batch norm, then 1×1 with bias"


def test_default_boxes():
    boxes = default_boxes([(2, 2), (1, 1)], 100, 0.2, 0.8)
    assert boxes.shape == (5 * 6, 4)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert centre[::6].tolist() == [[25, 25], [75, 25], [25, 75], [75, 75], [50, 50]]
    side = boxes[:, 2:] - boxes[:, :2]
    assert side[0].tolist() == pytest.approx([20, 20]) and side[1].tolist() == pytest.approx([40, 40])
    assert side[2:6].prod(1).tolist() == pytest.approx([400] * 4)
    assert (side[2] / side[3]).tolist() == pytest.approx([2, 0.5])
    assert (boxes[-6:, 2:] - boxes[-6:, :2]).max() <= 100


def test_boxes_come_back_in_pixels_of_each_image():
    torch.manual_seed(0)
    detector = SSDLite(2, extra=(16,), image_size=64).eval()
    images = [torch.rand(3, 40, 90), torch.rand(3, 30, 30)]
    with torch.no_grad():
        for found, image in zip(detector(images), images, strict=True):
            assert found["boxes"][:, 2].max() <= image.shape[2] and found["boxes"][:, 3].max() <= image.shape[1]
            assert found["boxes"][:, 2].max() > 0.7 * image.shape[2]
