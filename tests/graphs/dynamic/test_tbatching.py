import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.graphs.hub_interactions import hub_interactions
from ziggurat.graphs.dynamic.jodie import JODIE
from ziggurat.graphs.dynamic.tbatching import TBatcher, TBatchLoss, tbatch_ids


def drawn(count=60, users=7, items=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randint(users, (count,), generator=g),
        torch.randint(items, (count,), generator=g),
        torch.arange(float(count)),
    )


@pytest.mark.fact("tbatch_loss", 1)
def test_the_example():
    users, items = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 0, 0, 1, 2, 3])
    assert tbatch_ids(users, items).tolist() == [0, 1, 2, 1, 2, 3]
    (window,) = TBatcher(users, items, torch.arange(6.0), windows=1)
    assert [len(batch) for batch in window] == [1, 2, 2, 1]


@pytest.mark.fact("tbatch_loss", 2)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tbatches_partition_the_window_and_are_as_few_as_can_be(seed):
    users, items, times = drawn(seed=seed)
    (window,) = TBatcher(users, items, times, size=60)
    assert torch.cat(window).sort().values.tolist() == list(range(60))
    ids = tbatch_ids(users, items)
    for nodes in (users, items):
        for node in nodes.unique():
            own = ids[nodes == node]
            assert (own[1:] > own[:-1]).all()
    longest = []
    for j in range(60):
        before = [longest[i] for i in range(j) if users[i] == users[j] or items[i] == items[j]]
        longest.append(1 + max(before, default=0))
    assert len(window) == max(longest)


@pytest.mark.fact("tbatch_loss", 3)
def test_states_are_those_of_one_interaction_after_the_other():
    torch.manual_seed(0)
    (users, items, times), model = drawn(), JODIE(7, 5, width=6, time_scale=3.0)
    (window,) = TBatcher(users, items, times, windows=1)
    assert len(window) < 60
    together, losses = model.window(model.start(), window, users, items, times)
    alone, single = model.window(model.start(), list(torch.arange(60).split(1)), users, items, times)
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    assert [len(part) for part in losses] == [len(batch) for batch in window] and len(single) == 60


@pytest.mark.fact("tbatch_loss", 4)
def test_original_and_mean_agree_only_for_equal_sizes():
    def gradient(mode, sizes):
        x = torch.arange(6.0, dtype=torch.float64).requires_grad_()
        return torch.autograd.grad(TBatchLoss(mode)(x.square().split(sizes)), x)[0]

    torch.testing.assert_close(gradient("original", [2, 2, 2]), 3 * gradient("mean", [2, 2, 2]))
    ratio = gradient("original", [1, 3, 2])[1:] / gradient("mean", [1, 3, 2])[1:]
    assert ratio.max() - ratio.min() > 0.1
    torch.testing.assert_close(gradient("sum", [1, 3, 2]), 6 * gradient("mean", [1, 3, 2]))


@pytest.mark.fact("tbatch_loss", 5)
def test_the_usual_loss_takes_the_hub_for_busier_than_it_is():
    shares = []
    for seed in range(20):
        users, items, times = hub_interactions(1000, seed=seed)
        (window,) = TBatcher(users, items, times, size=1000)
        weight = torch.cat([torch.full((len(b),), 1 / len(b)) for b in window])
        hub = (items[torch.cat(window)] == 0).float()
        shares.append([float((weight * hub).sum() / weight.sum()), float(hub.mean())])
    original, plain = torch.tensor(shares).mean(0).tolist()
    assert original == pytest.approx(0.52, abs=0.02) and plain == pytest.approx(0.40, abs=0.01)


def test_windows_by_time_and_by_number():
    users, items = torch.zeros(4, dtype=torch.int64), torch.arange(4)
    by_time = TBatcher(users, items, torch.tensor([0.0, 1.0, 9.0, 10.0]), windows=5)
    assert [torch.cat(w).tolist() for w in by_time] == [[0, 1], [2, 3]] and len(by_time) == 2
    by_number = TBatcher(users, items, torch.zeros(4), size=3)
    assert [[b.tolist() for b in w] for w in by_number] == [[[0], [1], [2]], [[3]]]


def test_the_layer_on_one_hot_vectors_and_the_scores():
    torch.manual_seed(0)
    (users, items, times), model = drawn(20), JODIE(7, 5, width=6)
    states, _ = model.window(model.start(), next(iter(TBatcher(users, items, times, windows=1))), users, items, times)
    who, when = torch.tensor([0, 3]), torch.tensor([30.0, 31.0])
    previous = states.last[who]
    user = model.represent(states, who, when)
    hot = [torch.nn.functional.one_hot(previous, 6).float(), torch.nn.functional.one_hot(who, 7).float()]
    matrix = torch.cat([model.predictor.weight, model.by_previous.weight.T, model.by_user.weight.T], 1)
    guess = torch.cat([user, model.item_before(states, previous), *hot], 1) @ matrix.T + model.predictor.bias
    targets = torch.cat([states.items, torch.eye(5)], 1)
    distance = torch.cdist(guess, targets).square()
    got = model.scores(states, who, when)
    torch.testing.assert_close(got - got[:, :1], -(distance - distance[:, :1]) / 2, atol=1e-4, rtol=0)


def test_every_parameter_learns_and_states_are_of_unit_length():
    torch.manual_seed(0)
    (users, items, times), model = drawn(), JODIE(7, 5, width=6, time_scale=2.0)
    (window,) = TBatcher(users, items, times, windows=1)
    states, losses = model.window(model.start(), window, users, items, times)
    TBatchLoss("sum")(losses).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    torch.testing.assert_close(states.users.norm(dim=1), torch.ones(7))
    assert not states.detach().users.requires_grad


def test_mistakes():
    with value_error("sort the interactions"):
        TBatcher(torch.zeros(2).long(), torch.zeros(2).long(), torch.tensor([1.0, 0.0]))
    with value_error("of one length"):
        TBatcher(torch.zeros(2).long(), torch.zeros(1).long(), torch.zeros(2))
    with value_error("mode must be"):
        TBatchLoss("average")
    with value_error("none reduced"):
        TBatchLoss()([torch.tensor(1.0)])
