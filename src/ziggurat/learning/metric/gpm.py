"""Global proxy-based hard mining: each place keeps a small trained vector, and places with similar vectors share a batch.

A second branch maps the descriptor to a short proxy and has a loss of its own. A place's proxy is the mean over its images in the batch; it
is written down as the epoch passes by. The next epoch takes a place at random, its M − 1 nearest unused places, and so on until all are
used:

    L = MS(descriptors) + MS(proxies),   batch(c) = {c} ∪ NN_{M−1}(c among the unused)

Finding hard batches costs one search among places an epoch, and no extra pass over the images. The online miner of the loss stays.

A. Ali-bey, B. Chaib-draa, P. Giguère, Global Proxy-based Hard Mining for Visual Place Recognition, 2023, arXiv:2302.14217. The loss
and its miner: X. Wang et al., 2019, arXiv:1904.06627.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import normalize

from ziggurat.data.batch import Batch
from ziggurat.data.feeds import ClassMembers, PerClass
from ziggurat.learning.metric.distances import cosine
from ziggurat.learning.metric.miners import multi_similarity_pairs
from ziggurat.nn.gem import GeM
from ziggurat.nn.learner import Learner
from ziggurat.nn.losses.tuplets import multi_similarity
from ziggurat.nn.recipe import Recipe, warmup_cosine

ALPHA, BETA, BASE = 1.0, 50.0, 0.0


class ProxyHead(nn.Module):
    """The branch: a linear layer to a short vector of length one. It is trained through to the backbone.

    Arguments:
        in_features: width of the descriptor.
        dim: width of the proxy.

    Shapes: (B, in_features) -> (B, dim).
    """

    input = "table"

    def __init__(self, in_features: int, dim: int = 128) -> None:
        super().__init__()
        self.fc = nn.Linear(in_features, dim)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B d"]:
        return normalize(self.fc(x), dim=1)


def place_means(
    vectors: Float[Tensor, "B d"], places: Int64[Tensor, " B"]
) -> tuple[Int64[Tensor, " P"], Float[Tensor, "P d"]]:
    """(the places of a batch in ascending order, the mean vector of each)."""
    ids, rows = places.unique(return_inverse=True)
    sums = vectors.new_zeros(len(ids), vectors.shape[1]).index_add(0, rows, vectors)
    return ids, sums / torch.bincount(rows)[:, None]


class GlobalProxySampler(nn.Module):
    """The memory of proxies, and the batches of places that are made of it. Its state is buffers, so that a checkpoint holds it.

    Proxies that are written during an epoch count from the next `rebuild` on: an epoch that was stopped goes on with the same batches.
    Before the first, all proxies are zero, and batches are random.

    Arguments:
        places: how many.
        dim: width of a proxy.
    """

    memory: Tensor
    index: Tensor

    def __init__(self, places: int, dim: int = 128) -> None:
        super().__init__()
        if places < 1:
            raise ValueError(f"places must be 1 or more, got {places}.")
        self.places = places
        self.register_buffer("memory", torch.zeros(places, dim))
        self.register_buffer("index", torch.zeros(places, dim))

    def update(self, ids: Int64[Tensor, " P"], proxies: Float[Tensor, "P d"]) -> None:
        """Writes down the proxies of some places."""
        self.memory[ids] = proxies.detach().to(self.memory.dtype)

    def rebuild(self) -> None:
        """What was written is what the next batches are made of."""
        self.index.copy_(normalize(self.memory, dim=1))

    def batches(
        self, size: int, generator: torch.Generator, present: Int64[Tensor, " n"] | None = None
    ) -> list[Int64[Tensor, " m"]]:
        """Groups of `size` places, the last one of what remains: a random unused place and those nearest to it by the cosine.

        Arguments:
            size: M.
            generator: of the first places and of ties.
            present: the places to visit; None visits all.
        """
        if size < 1:
            raise ValueError(f"a batch needs 1 place or more, got {size}.")
        places = torch.arange(self.places) if present is None else present
        unused = places[torch.randperm(len(places), generator=generator)]
        index, found = self.index.cpu(), []
        while len(unused):
            # rounded, so that equal proxies tie however the sum was ordered; ties go to the first, which is random
            near = (index[unused] @ index[unused[0]]).round(decimals=5)
            near[0] = torch.inf
            order = near.sort(descending=True, stable=True).indices
            found.append(unused[order[:size]])
            unused = unused[order[size:].sort().values]
        return found

    def extra_repr(self) -> str:
        return f"places={self.places}, dim={self.memory.shape[1]}"


@dataclass(frozen=True)
class ProxyBatches(PerClass):
    """`PerClass` whose batches are made of places with similar proxies, each place once an epoch; what fills no batch is left out.

    Arguments:
        sampler: holds the proxies.
    """

    sampler: GlobalProxySampler | None = None

    def order(
        self, dataset: Any, batch_size: int, generator: torch.Generator, order: Tensor | None
    ) -> Iterator[Tensor]:
        assert self.sampler is not None
        members, many = ClassMembers(dataset.labels), batch_size // self.samples
        if batch_size % self.samples or not many:
            raise ValueError(
                f"a batch of {batch_size} cannot hold {self.samples} images of each place; give a multiple."
            )
        if len(members.counts) > self.sampler.places:
            raise ValueError(
                f"{dataset.name} has places up to {len(members.counts) - 1}; the sampler knows {self.sampler.places}."
            )
        if len(members.present) < many:
            raise ValueError(
                f"{dataset.name} has {len(members.present)} places, and a batch of {batch_size} needs {many}; make it smaller."
            )
        for chosen in self.sampler.batches(many, generator, members.present):
            if len(chosen) == many:
                yield torch.cat([members.some(c, self.samples, generator) for c in chosen.tolist()])


class PlaceDescriptor(Learner):
    """A backbone, GeM and length one, trained by the multi-similarity loss on random places: what the method starts from.

    Arguments:
        network: a `Staged` backbone of images; its last map is pooled.
        samples: K, images of each place in a batch.
        epsilon: of the miner, which keeps the pairs that are not yet separated by it.
        lr: of AdamW.
    """

    score = "knn"

    def __init__(self, network: nn.Module, samples: int = 4, epsilon: float = 0.1, lr: float | None = None) -> None:
        super().__init__(network, lr)
        if not hasattr(network, "forward_features"):
            raise ValueError(f"{type(network).__name__} has no maps to pool; give a Staged network of images.")
        network.reset_classifier(0)  # type: ignore[operator]
        self.samples, self.epsilon, self.pool = samples, epsilon, GeM()
        self.kept = 0.0
        """Share of the pairs of the last batch that the miner kept."""

    @property
    def feed(self) -> PerClass:
        return PerClass(self.samples)

    def represent(self, *inputs: Tensor) -> Float[Tensor, "B D"]:
        """Descriptors of length one."""
        features: Any = self.network.forward_features
        return normalize(self.pool(features(*inputs)[-1]), dim=1)

    def pairs_loss(self, z: Float[Tensor, "B D"], places: Int64[Tensor, " B"]) -> tuple[Float[Tensor, " B"], float]:
        """(the loss of each anchor on the pairs that the miner keeps, the share of all pairs that these are)."""
        similarity = cosine(z, z)
        positive, negative = multi_similarity_pairs(similarity, places, self.epsilon)
        kept = float((positive | negative).sum()) / max(len(z) * (len(z) - 1), 1)
        loss = multi_similarity(similarity, positive, negative, ALPHA, BETA, BASE)
        return loss + 0 * z.sum(1), kept  # what is not a number is kept in no pair, and must not pass for 0

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        loss, self.kept = self.pairs_loss(self.represent(*batch.inputs), batch.target)
        return {"descriptor": loss}

    def recipe(self) -> Recipe:
        """AdamW, a short warm-up and a cosine."""
        return Recipe(torch.optim.AdamW(self.parameters(), lr=self.lr or 1e-3), warmup_cosine)


class GPM(PlaceDescriptor):
    """The method: a proxy branch beside the descriptor, and batches of similar places.

    Arguments:
        network, samples, epsilon, lr: as of `PlaceDescriptor`.
        places: how many the training data have.
        dim: width of the proxies.
    """

    def __init__(
        self,
        network: nn.Module,
        places: int,
        samples: int = 4,
        dim: int = 128,
        epsilon: float = 0.1,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, samples, epsilon, lr)
        channels: Any = network.channels
        self.branch = ProxyHead(channels[-1], dim)
        self.sampler = GlobalProxySampler(places, dim)
        self._seen: tuple[Tensor, Tensor] | None = None

    @property
    def feed(self) -> ProxyBatches:
        return ProxyBatches(self.samples, sampler=self.sampler)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        z = self.represent(*batch.inputs)
        proxies = self.branch(z)
        loss, self.kept = self.pairs_loss(z, batch.target)
        self._seen = place_means(proxies.detach(), batch.target)
        return {"descriptor": loss, "proxy": self.pairs_loss(proxies, batch.target)[0]}

    def after_step(self, batch: Batch) -> None:
        """Writes the proxies of the step down; they were computed for the loss, so nothing is encoded twice."""
        if self._seen is not None:
            self.sampler.update(*self._seen)

    def on_train_epoch_end(self) -> None:
        """The next epoch's batches are made of this epoch's proxies."""
        self.sampler.rebuild()
