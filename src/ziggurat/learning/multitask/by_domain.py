"""A module for each domain, of which one is in use: what networks for several domains are made of."""

from __future__ import annotations

import copy

from torch import Tensor, nn


class ByDomain(nn.Module):
    """A module for each domain, of which the one in use is called and learns.

    Arguments:
        module: of the first domain.
        domain: its name.
    """

    def __init__(self, module: nn.Module, domain: str = "base") -> None:
        super().__init__()
        self.of, self.domain = nn.ModuleDict({domain: module}), domain

    def add(self, domain: str, like: str) -> None:
        """A module for a new domain, started as a copy of another domain's."""
        self.of[domain] = copy.deepcopy(self.of[like]).requires_grad_(True)

    def use(self, domain: str) -> None:
        """Takes the module of a domain from now on; those of the others do not learn."""
        self.domain = domain
        for name, module in self.of.items():
            module.requires_grad_(name == domain)

    def own(self, domain: str) -> list[nn.Parameter]:
        """What belongs to a domain alone."""
        return list(self.of[domain].parameters())

    def forward(self, x: Tensor) -> Tensor:
        return self.of[self.domain](x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.of)}: {self.of[self.domain]!r})"


class DomainHead(ByDomain):
    """A head for each domain, with as many classes as that has."""

    def reset(self, num_classes: int) -> None:
        """A new classifier for the domain in use."""
        self.of[self.domain].reset(num_classes)  # type: ignore[operator]

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return self.of[self.domain](x, pre_logits=pre_logits)
