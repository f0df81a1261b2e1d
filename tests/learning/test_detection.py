import torch

from ziggurat.data.datasets import Boxes
from ziggurat.data.feeds import Objects, feed
from ziggurat.learning.detection import Detection
from ziggurat.nn.fitting import fit
from ziggurat.vision.backbones.resnet import cifar_resnet
from ziggurat.vision.detection.detector import Detector
from ziggurat.vision.detection.heads import RetinaHead
from ziggurat.vision.necks.fpn import FPN


def squares(count=8):
    images, targets = [], []
    for i in range(count):
        image, mask = torch.zeros(3, 24, 28, dtype=torch.uint8), torch.zeros(1, 24, 28, dtype=torch.bool)
        mask[0, 4 : 4 + 12, 2 + i : 14 + i] = True
        image[:, mask[0]] = 255
        box = torch.tensor([[2.0 + i, 4, 14 + i, 16]])
        images.append(image)
        targets.append({"boxes": box, "labels": torch.tensor([i % 2]), "masks": mask})
    return Boxes(tuple(images), tuple(targets), ("a", "b"), "squares")


def test_half_of_the_images_are_turned_with_their_boxes_and_masks():
    batch = next(iter(feed(squares(), Objects(), 8, seed=1)))
    moved = 0
    for image, target, i in zip(*batch.inputs, batch.target, batch.index.tolist(), strict=True):
        x0, y0, x1, y1 = target["boxes"][0].int().tolist()
        assert torch.equal(image[0].bool(), target["masks"][0])
        assert image[:, y0:y1, x0:x1].min() == 1 and image.sum() == 3 * 144
        moved += x0 != 2 + i
    assert 1 <= moved <= 7
    plain = next(iter(feed(squares(), Objects(flip=False), 8, seed=1)))
    assert all(t["boxes"][0, 0] == 2 + i for t, i in zip(plain.target, plain.index.tolist(), strict=True))


def test_a_detector_learns_to_find_squares():
    torch.manual_seed(0)
    backbone = cifar_resnet(8, widths=(8, 8, 16))
    detector = Detector(
        backbone,
        FPN(backbone.channels, backbone.strides, 16),
        RetinaHead(16, 2, [[6.0], [12.0], [24.0]], depth=1),
    )
    data = squares()
    learner = fit(Detection(detector, 3e-3), feed(data, Detection(detector).feed, 8), steps=40)
    with torch.no_grad():
        found = learner.predict(data.inputs(slice(None)))
    for f, t in zip(found, data.targets, strict=True):
        assert (f["boxes"][0] - t["boxes"][0]).abs().max() < 3
    assert learner.represent(data.inputs(slice(None))).shape == (8, 16)
