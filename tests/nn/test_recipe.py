import torch
from torch import nn

from ziggurat.nn.recipe import Recipe, constant, cosine


def test_parameters_are_added_once_and_follow_the_last_group():
    body, head, extra = nn.Linear(2, 2), nn.Linear(2, 1), nn.Linear(2, 3)
    groups = [{"params": body.parameters()}, {"params": head.parameters(), "lr": 0.5}]
    recipe = Recipe(torch.optim.SGD(groups, lr=0.1, momentum=0.9), [constant, cosine])
    recipe.add([*head.parameters(), *extra.parameters()])
    recipe.add(extra.parameters())
    added = recipe.optimizer.param_groups[2:]
    assert [len(group["params"]) for group in added] == [2]
    assert (added[0]["lr"], added[0]["momentum"]) == (0.1, 0.9)
    assert list(recipe.schedule) == [constant, cosine, cosine]


def test_one_schedule_stays_that_of_all():
    recipe = Recipe(torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1), cosine)
    recipe.add(nn.Linear(2, 1).parameters())
    assert recipe.schedule is cosine and len(recipe.optimizer.param_groups) == 2
