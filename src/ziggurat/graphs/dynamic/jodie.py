"""JODIE: users and items have states that every interaction changes; the user's, projected into the future, says what comes next.

    u' = RNN_u([i, Δ_u, f], u),   i' = RNN_i([u, Δ_i, f], i),   û = (1 + W Δ_u) ∘ u
    prediction = Linear([û, state of the previous item, one-hot previous item, one-hot user]),   target = [i, one-hot item]
    l = |prediction − target|² + |u' − u|² + |i' − i|²,  each as a mean over dimensions

The previous item is taken as it is at the t-batch's turn: others may have changed it since, in the order of t-batches. The layer on one-hot
vectors is a row for each of them. States are of unit length, and the target carries no gradient.

S. Kumar, X. Zhang, J. Leskovec, Predicting Dynamic Embedding Trajectory in Temporal Interaction Networks, 2019, arXiv:1908.01207.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import normalize

from ziggurat.nn.recipe import Recipe


class States(NamedTuple):
    """Where all users and items are: states, the times of their last interactions, and each user's last item (num_items where none)."""

    users: Float[Tensor, "U d"]
    items: Float[Tensor, "I d"]
    user_times: Float[Tensor, " U"]
    item_times: Float[Tensor, " I"]
    last: Int64[Tensor, " U"]

    def detach(self) -> States:
        """The same without gradient, for the next window."""
        return States(*(part.detach() for part in self))


class Moments(NamedTuple):
    """What a loss needs of interactions: users, items, times since the users' last, states before, of the previous item and after."""

    users: Int64[Tensor, " n"]
    items: Int64[Tensor, " n"]
    previous: Int64[Tensor, " n"]
    elapsed: Float[Tensor, " n"]
    user: Float[Tensor, "n d"]
    item: Float[Tensor, "n d"]
    previous_item: Float[Tensor, "n d"]
    next_user: Float[Tensor, "n d"]
    next_item: Float[Tensor, "n d"]


class JODIE(nn.Module):
    """The recurrent model of users and items.

    Arguments:
        num_users, num_items: how many there are.
        width: d.
        features: numbers that an interaction carries.
        time_scale: what times are divided by, as the mean time between two interactions of a user.

    `start()` gives the states before everything; `step(states, users, items, times, features)` takes a t-batch, interactions
    of which no two share a user or an item, to new states and the `Moments` that `losses` reads.
    """

    def __init__(
        self, num_users: int, num_items: int, width: int = 128, features: int = 0, time_scale: float = 1.0
    ) -> None:
        super().__init__()
        if min(num_users, num_items, width) < 1 or time_scale <= 0:
            raise ValueError(
                f"numbers of users and items, width and time_scale must be positive, got {num_users}, {num_items}, {width}, {time_scale}."
            )
        self.num_users, self.num_items, self.time_scale = num_users, num_items, time_scale
        self.first_user, self.first_item = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(width))
        self.user_cell = nn.RNNCell(width + 1 + features, width)
        self.item_cell = nn.RNNCell(width + 1 + features, width)
        self.drift = nn.Linear(1, width)
        self.predictor = nn.Linear(2 * width, width + num_items)
        self.by_previous = nn.Embedding(num_items + 1, width + num_items)
        self.by_user = nn.Embedding(num_users, width + num_items)
        for table in (self.by_previous, self.by_user):
            nn.init.uniform_(table.weight, -0.01, 0.01)

    def start(self) -> States:
        """All users alike, all items alike, at time 0."""
        first = self.first_user
        return States(
            normalize(first, dim=0).expand(self.num_users, -1),
            normalize(self.first_item, dim=0).expand(self.num_items, -1),
            first.new_zeros(self.num_users),
            first.new_zeros(self.num_items),
            torch.full((self.num_users,), self.num_items, device=first.device),
        )

    def step(
        self,
        states: States,
        users: Int64[Tensor, " n"],
        items: Int64[Tensor, " n"],
        times: Float[Tensor, " n"],
        features: Float[Tensor, "n f"] | None = None,
    ) -> tuple[States, Moments]:
        """The states after a t-batch, and its moments. Nothing is written in place."""
        user, item, previous = states.users[users], states.items[items], states.last[users]
        elapsed = (times - states.user_times[users]) / self.time_scale
        idle = (times - states.item_times[items]) / self.time_scale
        carried = user[:, :0] if features is None else features
        next_user = normalize(self.user_cell(torch.cat([item, elapsed[:, None], carried], 1), user), dim=1)
        next_item = normalize(self.item_cell(torch.cat([user, idle[:, None], carried], 1), item), dim=1)
        moments = Moments(
            users, items, previous, elapsed, user, item, self.item_before(states, previous), next_user, next_item
        )
        after = States(
            states.users.index_copy(0, users, next_user),
            states.items.index_copy(0, items, next_item),
            states.user_times.index_copy(0, users, times),
            states.item_times.index_copy(0, items, times),
            states.last.index_copy(0, users, items),
        )
        return after, moments

    def item_before(self, states: States, previous: Int64[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """The states of previous items, zeros where there is none."""
        known = previous < self.num_items
        return states.items[previous.clamp_max(self.num_items - 1)] * known[:, None].to(states.items.dtype)

    def project(self, user: Float[Tensor, "n d"], elapsed: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """û, where the users will be."""
        return (1 + self.drift(elapsed[:, None])) * user

    def predicted(
        self,
        user: Float[Tensor, "n d"],
        elapsed: Float[Tensor, " n"],
        previous_item: Float[Tensor, "n d"],
        previous: Int64[Tensor, " n"],
        users: Int64[Tensor, " n"],
    ) -> Float[Tensor, "n P"]:
        """What the next item will look like: its state and its one-hot vector."""
        both = torch.cat([self.project(user, elapsed), previous_item], 1)
        return self.predictor(both) + self.by_previous(previous) + self.by_user(users)

    def losses(self, moments: Moments) -> Float[Tensor, " n"]:
        """One value for each interaction."""
        m = moments
        guess = self.predicted(m.user, m.elapsed, m.previous_item, m.previous, m.users)
        hot = nn.functional.one_hot(m.items, self.num_items).to(guess.dtype)
        error = (guess - torch.cat([m.item.detach(), hot], 1)).square().mean(1)
        return error + (m.next_item - m.item).square().mean(1) + (m.next_user - m.user).square().mean(1)

    def scores(
        self, states: States, users: Int64[Tensor, " n"], times: Float[Tensor, " n"]
    ) -> Float[Tensor, "n items"]:
        """For every item how near it is to what is predicted: minus half the squared distance, up to a constant of the row."""
        previous, elapsed = states.last[users], (times - states.user_times[users]) / self.time_scale
        guess = self.predicted(states.users[users], elapsed, self.item_before(states, previous), previous, users)
        state, hot = guess.split([states.items.shape[1], self.num_items], 1)
        return state @ states.items.T + hot - states.items.square().sum(1) / 2

    def represent(self, states: States, users: Int64[Tensor, " n"], times: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """The projected states of users at given times."""
        return self.project(states.users[users], (times - states.user_times[users]) / self.time_scale)

    def window(
        self,
        states: States,
        tbatches: Sequence[Int64[Tensor, " _"]],
        users: Int64[Tensor, " n"],
        items: Int64[Tensor, " n"],
        times: Float[Tensor, " n"],
    ) -> tuple[States, list[Float[Tensor, " _"]]]:
        """The states after a window of t-batches (indices of interactions), and the losses of each, for `TBatchLoss`."""
        found = []
        for index in tbatches:
            states, moments = self.step(states, users[index], items[index], times[index])
            found.append(moments)
        losses = self.losses(Moments(*(torch.cat(parts) for parts in zip(*found, strict=True))))
        return states, list(losses.split([len(index) for index in tbatches]))

    def recipe(self, lr: float | None = None) -> Recipe:
        """Adam at 1e-3 with weight decay 1e-5, one step a window."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 1e-3, weight_decay=1e-5))
