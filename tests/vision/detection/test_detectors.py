import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.boxes import box_iou
from ziggurat.vision.backbones.resnet import cifar_resnet
from ziggurat.vision.detection.detector import Detector, Features
from ziggurat.vision.detection.faster_rcnn import FasterRCNN
from ziggurat.vision.detection.heads import ProposalHead, RetinaHead
from ziggurat.vision.detection.retinanet import RetinaNet
from ziggurat.vision.necks.fpn import FPN

STRIDES = (1, 2, 4)


def retina():
    backbone = cifar_resnet(8, widths=(8, 8, 16))
    neck = FPN(backbone.channels, backbone.strides, 16)
    return Detector(backbone, neck, RetinaHead(16, 2, [[6.0], [12.0], [24.0]], depth=1))


def proposals(first=0):
    backbone = cifar_resnet(8, widths=(8, 8, 16))
    neck = FPN(backbone.channels[first:], backbone.strides[first:], 16)
    return Detector(backbone, neck, ProposalHead(16, [[6.0], [12.0], [24.0]][first:]), first)


def two_stage():
    backbone = cifar_resnet(8, widths=(8, 8, 16))
    features = Features(backbone, FPN(backbone.channels, backbone.strides, 16))
    proposals = ProposalHead(16, [[6.0], [12.0], [24.0]], after=64)
    return FasterRCNN(features, proposals, 2, pooled_levels=3, drawn=64, width=32)


def scene(count=4, size=32):
    """Bright squares (class 0) and dark ones (class 1) on grey."""
    g = torch.Generator().manual_seed(0)
    images, targets = [], []
    for i in range(count):
        image = torch.full((3, size, size + 4 * i), 0.5)
        boxes, labels = [], []
        for k in range(2):
            side = 8 + 4 * int(torch.randint(3, (1,), generator=g))
            x, y = (int(torch.randint(16 - side // 2, (1,), generator=g)) for _ in range(2))
            x += 16 * k * (side < 14)
            image[:, y : y + side, x : x + side] = 1.0 - k
            boxes.append([x, y, x + side, y + side])
            labels.append(k)
        images.append(image)
        targets.append({"boxes": torch.tensor(boxes).float(), "labels": torch.tensor(labels)})
    return images, targets


@pytest.mark.parametrize("make", [retina, proposals, two_stage])
def test_contract_of_a_detector(make):
    torch.manual_seed(0)
    detector, (images, targets) = make(), scene()
    losses = detector.train()(images, targets)
    assert all(v.ndim == 0 and torch.isfinite(v) for v in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    missing = [n for n, p in detector.named_parameters() if p.grad is None and ".head." not in n]
    assert not [n for n in missing if "backbone.head" not in n], missing
    found = detector.eval()(images)
    for f, image in zip(found, images, strict=True):
        assert f["boxes"].shape == (len(f["scores"]), 4) and f["labels"].dtype == torch.int64
        assert (f["scores"].diff() <= 0).all()
        height, width = image.shape[1:]
        assert (f["boxes"] >= 0).all() and (f["boxes"] <= torch.tensor([width, height] * 2)).all()
    empty = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}] * 4
    assert all(torch.isfinite(v) for v in detector.train()(images, empty).values())
    assert len(detector.eval()(torch.stack([i[:, :, :32] for i in images]))) == 4


@pytest.mark.parametrize("make", [retina, two_stage])
def test_overfits_four_images(make):
    torch.manual_seed(0)
    detector, (images, targets) = make().train(), scene()
    optimizer = torch.optim.Adam(detector.parameters(), 3e-3)
    for _ in range(60):
        loss = torch.stack(list(detector(images, targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = detector.eval()(images)
    hits = 0
    for f, t in zip(found, targets, strict=True):
        for box, label in zip(t["boxes"], t["labels"], strict=True):
            own = f["boxes"][f["labels"] == label][:3]
            hits += bool(len(own)) and float(box_iou(box[None], own).max()) > 0.6
    assert hits >= 7, hits


def test_a_head_per_level():
    shared, own = ProposalHead(8, [[4.0], [8.0]]), ProposalHead(8, [[4.0], [8.0]], shared=False)
    count = [sum(p.numel() for p in h.parameters()) for h in (shared, own)]
    assert count[1] == 2 * count[0]


def test_retinanet_of_a_backbone():
    from ziggurat.vision.backbones.resnet import resnet18

    with torch.device("meta"):
        network = RetinaNet(resnet18(), 7)
    assert network.features.strides == (8, 16, 32, 64, 128) and network.head.anchors_a_position == 9


def test_mistakes_are_named():
    detector, (images, targets) = retina().train(), scene()
    with value_error("needs a target for each of 4 images"):
        detector(images)
    with value_error("box without area"):
        detector(images[:1], [{"boxes": torch.tensor([[3.0, 3, 3, 9]]), "labels": torch.tensor([0])}])
    with value_error("an image must be"):
        detector([torch.zeros(1, 8, 8)], targets[:1])
    with value_error("needs stages of stride 8"):
        RetinaNet(cifar_resnet(8, widths=(4, 4, 4)), 3)
