import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ziggurat.data.datasets import Segments
from ziggurat.data.feeds import Pixels, feed
from ziggurat.learning.segmentation import Segmentation
from ziggurat.nn.fitting import fit


def halves(count=6):
    """Bright pixels are of class 1; a corner has none."""
    images = torch.randint(0, 255, (count, 3, 12, 14), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images = images // 255 * 255 + (images > 127).to(torch.uint8) * 255
    images = images[:, :1].expand(-1, 3, -1, -1).contiguous()
    masks = (images[:, 0] > 127).to(torch.uint8)
    masks[:, :3, :3] = 11
    return Segments(images, masks, ("dark", "bright"), "halves", ignore=11)


def test_turned_images_keep_their_classes():
    batch = next(iter(feed(halves(), Pixels(), 6, seed=1)))
    bright = batch.inputs[0][:, 0] > 0.5
    counted = batch.target != 255
    assert torch.equal(bright[counted], batch.target[counted] == 1)
    corners = (~counted[:, 0, 0]).sum(), (~counted[:, 0, -1]).sum()
    assert int(sum(corners)) == 6 and int(corners[0]) > 0 and int(corners[1]) > 0


def test_loss_is_the_mean_over_pixels_with_a_class_and_it_learns():
    torch.manual_seed(0)
    learner = Segmentation(nn.Conv2d(3, 2, 1), 0.1)
    batch = next(iter(feed(halves(), learner.feed, 6)))
    got = learner.losses(batch)["cross_entropy"]
    for i in range(6):
        keep = batch.target[i] != 255
        want = cross_entropy(learner.network(batch.inputs[0][i : i + 1])[0][:, keep].T, batch.target[i][keep])
        torch.testing.assert_close(got[i], want)
    fit(learner, feed(halves(), learner.feed, 6), steps=40)
    assert float(learner.losses(batch)["cross_entropy"].mean()) < 0.1
