import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data import Images
from ziggurat.data.feeds import Labelled, feed
from ziggurat.data.moving import DIRECTIONS, moving


def squares(size=4):
    return Images(torch.full((2, 1, size, size), 255, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"), "squares")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_objects_move_by_their_speed_and_come_back_on_the_other_side(direction):
    clips = moving(squares(), 4, frames=6, size=8, directions=[direction], speed=(2.0, 2.0), noise=0.0)
    videos, (down, right) = clips.videos[:, 0], DIRECTIONS[direction]
    for t in range(5):
        assert torch.equal(videos[:, t + 1], videos[:, t].roll((2 * down, 2 * right), (1, 2)))
    assert (videos.sum((2, 3)) == 16 * 255).all()


def test_classes_are_pairs_and_equally_frequent():
    clips = moving(squares(), 12, frames=2, size=8)
    assert clips.classes == ("a right", "b right", "a left", "b left")
    assert torch.bincount(clips.labels).tolist() == [3, 3, 3, 3]
    assert torch.equal(clips.videos, moving(squares(), 12, frames=2, size=8).videos)
    assert not torch.equal(clips.videos, moving(squares(), 12, frames=2, size=8, seed=1).videos)


def test_one_frame_does_not_tell_the_direction():
    """The object is at every place equally often, whatever the direction and the frame."""
    clips = moving(squares(1), 4000, frames=3, size=4, speed=(1.0, 1.0), noise=0.0)
    for label in range(4):
        shown = (clips.videos[clips.labels == label, 0] > 0).float().mean(0)
        assert (shown - 1 / 16).abs().max() < 0.03


def test_clips_are_sampled_around_the_middle():
    clips = moving(squares(), 2, frames=8, size=8, noise=0.0)
    for frames, every, rows in (
        (2, 2.0, [2, 4]),
        (4, 2.0, [0, 2, 4, 6]),
        (3, 8.0, [0, 4, 7]),
        (8, 1.0, list(range(8))),
    ):
        got = clips.sampled(frames, every, 8).videos
        times = ((7 / 2) + every * (torch.arange(frames) - (frames - 1) / 2)).round().long().clamp(0, 7)
        assert torch.equal(got, clips.videos[:, :, times]) and len(rows) == frames
    small = clips.sampled(2, 1.0, 4)
    assert small.videos.shape == (2, 1, 2, 4, 4) and small.classes == clips.classes
    assert abs(float(small.videos.float().mean() - clips.videos.float().mean())) < 1


def test_clips_are_fed_like_images():
    clips = moving(squares(), 8, frames=2, size=8).subset(torch.arange(6))
    batch = next(iter(feed(clips, Labelled(), 4)))
    assert batch.inputs[0].shape == (4, 1, 2, 8, 8) and batch.inputs[0].max() <= 1
    assert "6 videos of 2 frames of 8x8, 4 classes" in clips.describe()


def test_mistakes_are_named():
    with value_error("directions are right, left, down, up, got 'sideways'"):
        moving(squares(), 4, directions=["sideways"])
    with value_error("grey images of at most 3 pixels"):
        moving(squares(), 4, size=3)
