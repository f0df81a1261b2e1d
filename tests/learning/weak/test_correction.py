from functools import partial

import pytest
import torch

from ziggurat.learning.weak.correction import keep_first, relabel_first

RELATIONS = torch.rand(400, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
RULES = [relabel_first, partial(keep_first, RELATIONS)]


def drawn(seed=0, rows=400, classes=5, sharp=3.0):
    g = torch.Generator().manual_seed(seed)
    scores = (sharp * torch.randn(rows, classes, generator=g, dtype=torch.float64)).softmax(1)
    return scores, torch.randint(classes, (rows,), generator=g), torch.rand(rows, generator=g) < 0.2


@pytest.mark.fact("fopro", 1)
@pytest.mark.parametrize("rule", RULES)
def test_shots_keep_their_labels(rule):
    scores, given, shot = drawn()
    found = rule(scores, given, shot, 0.8)
    assert found.keep[shot].all() and found.sure[shot].all() and torch.equal(found.label[shot], given[shot])


@pytest.mark.fact("fopro", 2)
@pytest.mark.parametrize("rule", RULES)
def test_the_web_is_kept_relabelled_or_dropped(rule):
    scores, given, shot = drawn()
    found = rule(scores, given, shot, 0.8)
    relabelled = found.keep & (found.label != given) & ~shot
    kept, dropped = found.keep & (found.label == given) & ~shot, ~found.keep
    assert torch.equal(kept.int() + relabelled.int() + dropped.int() + shot.int(), torch.ones(400, dtype=torch.int32))
    assert min(int(kept.sum()), int(relabelled.sum()), int(dropped.sum())) > 10
    assert torch.equal(found.label[dropped], given[dropped])


def test_relabel_first_one_by_one():
    scores, given, shot = drawn()
    found = relabel_first(scores, given, shot, 0.8)
    for t, y, is_shot, keep, label, sure, score in zip(scores, given, shot, *found, strict=True):
        assert score == t[y] and bool(sure) == bool(is_shot or t.max() > 0.8)
        if is_shot:
            want = (True, int(y))
        elif t.max() > 0.8:
            want = (True, int(t.argmax()))
        else:
            want = (bool(t[y] > 1 / 5), int(y))
        assert (bool(keep), int(label)) == want


def test_keep_first_one_by_one():
    scores, given, shot = drawn()
    found = keep_first(RELATIONS, scores, given, shot, 0.8)
    for r, t, y, is_shot, keep, label, sure, score in zip(RELATIONS, scores, given, shot, *found, strict=True):
        assert score == r[y] and bool(sure) == bool(is_shot or t.max() > 0.8)
        if is_shot or r[y] > 0.8:
            want = (True, int(y))
        elif t.max() > 0.8:
            want = (True, int(t.argmax()))
        else:
            want = (False, int(y))
        assert (bool(keep), int(label)) == want


def test_the_two_rules_differ_where_the_given_label_would_do():
    scores, given = torch.tensor([[0.85, 0.90]]), torch.tensor([0])
    no = torch.tensor([False])
    assert (
        int(relabel_first(scores, given, no, 0.8).label) == 1
        and int(keep_first(scores, scores, given, no, 0.8).label) == 0
    )
