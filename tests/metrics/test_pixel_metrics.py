import pytest
import torch

from ziggurat.metrics.segmentation import confusion, segmentation_scores


def test_the_four_measures_by_hand():
    truth = torch.tensor([[0, 0, 0, 1], [1, 2, 255, 255]])
    said = torch.tensor([[0, 0, 1, 1], [2, 2, 0, 3]])
    counts = confusion(said, truth, 4)
    assert counts.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    got = segmentation_scores(counts)
    assert got.pixel_accuracy == pytest.approx(4 / 6)
    assert got.mean_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert got.mean_iou == pytest.approx((2 / 3 + 1 / 3 + 1 / 2) / 3), (
        "class 3 neither occurs nor is said where it counts"
    )
    assert got.weighted_iou == pytest.approx((3 * 2 / 3 + 2 * 1 / 3 + 1 / 2) / 6)


def test_equals_torchmetrics():
    from torchmetrics.functional.classification import multiclass_jaccard_index

    g = torch.Generator().manual_seed(0)
    truth, said = (torch.randint(5, (3, 20, 20), generator=g) for _ in range(2))
    want = float(multiclass_jaccard_index(said, truth, 5))
    assert segmentation_scores(confusion(said, truth, 5)).mean_iou == pytest.approx(want, abs=1e-6)
