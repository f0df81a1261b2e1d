import torch

from tests.typecheck import value_error
from ziggurat.nn.masking import put, random_masking, take


def test_kept_and_hidden_are_complements():
    kept, hidden = random_masking(50, 20, 0.6, generator=torch.Generator().manual_seed(0))
    assert kept.shape == (50, 8) and (kept.diff(dim=1) > 0).all()
    assert (hidden.sum(1) == 12).all() and not hidden.gather(1, kept).any()
    often = 1 - hidden.float().mean(0)
    assert float(often.min()) > 0.15 and float(often.max()) < 0.7  # every patch is kept now and then


def test_its_own_generator_leaves_the_global_one_alone():
    state = torch.get_rng_state()
    draws = [random_masking(3, 9, generator=torch.Generator().manual_seed(1)).kept for _ in range(2)]
    assert torch.equal(*draws) and torch.equal(state, torch.get_rng_state())


def test_what_is_taken_is_put_back_where_it_was():
    x, filler = torch.randn(3, 9, 2), torch.full((1, 1, 2), 7.0)
    kept, hidden = random_masking(3, 9)
    part = take(x, kept)
    assert torch.equal(part[1, 0], x[1, kept[1, 0]])
    whole = put(part, kept, 9, filler)
    assert torch.equal(whole[~hidden], x[~hidden]) and (whole[hidden] == 7).all()
    assert torch.equal(take(x[:1], kept), torch.stack([x[0, k] for k in kept]))


def test_masks_that_keep_or_hide_nothing_are_refused():
    for ratio in (0.0, 0.95):
        with value_error("some must be kept and some hidden"):
            random_masking(2, 9, ratio)
