"""One separable network for many visual domains: how channels mix is shared, how each is filtered in space is a domain's own.

    y = BN_d( P (D_d ∗ x) )        P pointwise and shared, D_d depthwise and BN_d normalisation of domain d

A new domain adds 9 C_in numbers a layer (and its normalisation) beside C_in · C_out that are shared. Softly shared, a layer mixes the
filters of all known domains: Σ_k s_k D_k ∗ x with s = softmax(FC(mean(x))).

Y. Guo, Y. Li, R. Feris, L. Wang, T. Rosing, Depthwise Convolution is All You Need for Learning Multiple Visual Domains, 2019,
arXiv:1902.00927.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d

from ziggurat.learning.multitask.by_domain import ByDomain, DomainHead
from ziggurat.nn.conv import ConvNormAct, ZeroPadShortcut, init_relu_network
from ziggurat.nn.recipe import Recipe, warmup_cosine
from ziggurat.nn.separable import SeparableConv2d
from ziggurat.nn.staged import Classifier, Staged

Share = Literal["pointwise", "depthwise", "convolutions", "all", "none"]


class SoftSharedDepthwise(ByDomain):
    """A depthwise convolution that mixes the filters of all domains known when its domain was added; a gate looks at the input.

    The first domain has its own filter only. A gate starts with equal shares.

    Arguments:
        channels, kernel, stride: of the convolution.
        domains: names of the domains; the last one is in use.

    Shapes: (B, channels, H, W) -> (B, channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, channels: int, kernel: int = 3, stride: int = 1, domains: Sequence[str] = ("base",)) -> None:
        conv = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
        super().__init__(conv, domains[0])
        self.gates = nn.ModuleDict()
        for domain in domains[1:]:
            self.add(domain, domains[0])
            self.of[domain].reset_parameters()  # type: ignore[operator]
        self.use(domains[-1])

    @classmethod
    def around(cls, conv: nn.Conv2d, domain: str) -> SoftSharedDepthwise:
        """The same for a convolution that exists."""
        soft = cls(conv.in_channels, domains=(domain,))
        soft.of[domain] = conv
        return soft

    def add(self, domain: str, like: str) -> None:
        super().add(domain, like)
        weight = self.of[domain].weight
        gate = nn.Linear(weight.shape[0], len(self.of), device=weight.device, dtype=weight.dtype)
        nn.init.zeros_(gate.weight)
        nn.init.zeros_(gate.bias)
        self.gates[domain] = gate

    def use(self, domain: str) -> None:
        super().use(domain)
        for name, gate in self.gates.items():
            gate.requires_grad_(name == domain)

    def own(self, domain: str) -> list[nn.Parameter]:
        gate = list(self.gates[domain].parameters()) if domain in self.gates else []
        return super().own(domain) + gate

    def shares(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B n"]:
        """How much of each known domain's filter each sample takes; they add up to one."""
        return self.gates[self.domain](x.mean((2, 3))).softmax(1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        if self.domain not in self.gates:
            return self.of[self.domain](x)
        shares, one = self.shares(x), self.of[self.domain]
        known = [conv.weight for conv in self.of.values()][: shares.shape[1]]
        filters = torch.stack(known, 1).flatten(0, 1)  # type: ignore[arg-type]
        each = conv2d(x, filters, None, one.stride, one.padding, one.dilation, one.groups)  # type: ignore[call-overload]
        return torch.einsum("bn,bcnhw->bchw", shares, each.unflatten(1, (-1, len(known))))


class DomainSeparableConv(nn.Sequential):
    """Depthwise convolution of a domain, pointwise convolution of all, normalisation of a domain.

    Arguments:
        in_channels, out_channels, stride: of the pair.
        soft: the filters of other domains are mixed in.
        domain: the first one's name.

    Shapes: (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, soft: bool = False, domain: str = "base"
    ) -> None:
        plain = separable(in_channels, out_channels, stride)
        make = SoftSharedDepthwise.around if soft else ByDomain
        parts = {"depthwise": make(plain.depthwise, domain), "pointwise": plain.pointwise}  # type: ignore[arg-type]
        super().__init__(OrderedDict(parts, norm=ByDomain(plain.norm, domain)))  # type: ignore[arg-type]

    def add_domain(self, domain: str, like: str = "base") -> None:
        """Filters and normalisation for a new domain, started from another's; what is shared does not learn any more."""
        for part in (self.depthwise, self.norm):
            part.add(domain, like)  # type: ignore[operator]
        self.pointwise.requires_grad_(False)
        self.use(domain)

    def use(self, domain: str) -> None:
        """Takes the filters and the normalisation of a domain from now on."""
        for part in (self.depthwise, self.norm):
            part.use(domain)  # type: ignore[operator]


def separable(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Depthwise 3×3, pointwise, normalisation: the layer of one domain."""
    pair = SeparableConv2d(in_channels, out_channels, 3, stride)
    return nn.Sequential(OrderedDict([*pair.named_children(), ("norm", nn.BatchNorm2d(out_channels))]))


class SeparableUnit(nn.Module):
    """ReLU(layer(ReLU(layer(x))) + x); where the shape changes, x is sub-sampled and gets channels of zeros."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, layer: Callable[[int, int, int], nn.Module]
    ) -> None:
        super().__init__()
        self.conv1, self.act1 = layer(in_channels, out_channels, stride), nn.ReLU()
        self.conv2, self.out = layer(out_channels, out_channels, 1), nn.ReLU()
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else ZeroPadShortcut(in_channels, out_channels, stride)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        return self.out(self.conv2(self.act1(self.conv1(x))) + self.shortcut(x))


class SeparableResNet(Staged):
    """ResNet-26 of separable convolutions for small images: 1 + 3 · 4 · 2 convolutions and the classifier.

    The layout of the units and the stem are our reading of the Visual Decathlon's ResNet-26.

    Arguments:
        num_classes: 0 gives features.
        in_channels: of the images.
        stem: width of the first 3×3 convolution.
        widths: of the stages, each of which begins with stride 2.
        units: of each stage.
        layer: (in, out, stride) -> the layer, such as `DomainSeparableConv`.

    Shapes: (B, in_channels, H, W) -> (B, num_classes); features of strides 2, 4, 8.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        stem: int = 32,
        widths: Sequence[int] = (64, 128, 256),
        units: int = 4,
        layer: Callable[[int, int, int], nn.Module] = separable,
    ) -> None:
        super().__init__()
        self.stem = ConvNormAct(in_channels, stem, 3)
        stages, channels = [], stem
        for width in widths:
            stages.append(
                nn.Sequential(
                    *(
                        SeparableUnit(channels if i == 0 else width, width, 2 if i == 0 else 1, layer)
                        for i in range(units)
                    )
                )
            )
            channels = width
        self.stages = nn.ModuleList(stages)
        self.channels, self.strides = tuple(widths), tuple(2 ** (i + 1) for i in range(len(widths)))
        self.num_features = channels
        self.head = Classifier(channels, num_classes)
        init_relu_network(self)


def is_depthwise(part: nn.Module) -> bool:
    """Whether a module is a depthwise convolution."""
    return isinstance(part, nn.Conv2d) and part.groups == part.in_channels > 1


def _is_norm(part: nn.Module) -> bool:
    return isinstance(part, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm)


OWN: dict[str, Callable[[nn.Module], bool]] = {
    "pointwise": lambda part: is_depthwise(part) or _is_norm(part),
    "depthwise": lambda part: _is_norm(part) or (isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1)),
    "convolutions": _is_norm,
    "all": lambda part: False,
    "none": lambda part: any(True for _ in part.parameters()),
}
"""What is shared -> which modules without parts are a domain's own, besides the head."""


class MultiDomainNet(Staged):
    """Any separable `Staged` network for several domains. One is in use; while there is only one, everything learns, as in the network.

    The first further domain freezes what is shared, the statistics of shared normalisations too, so that no domain changes another.

    Arguments:
        network: is copied; its weights and its classifier are those of the first domain.
        share: "pointwise" is the paper; "depthwise" shares these instead (the reversed ablation); "convolutions" adds normalisations
            and a head for each domain; "all" a head; "none" a whole network.
        soft: each depthwise convolution mixes the filters of the domains known (with share "pointwise").
        base: name of the first domain.

    Shapes: as the network's. `forward(x, domain)` takes another domain for once, `use(domain)` from now on.
    """

    def __init__(self, network: nn.Module, share: Share = "pointwise", soft: bool = False, base: str = "base") -> None:
        super().__init__()
        if share not in OWN:
            raise ValueError(f"share must be one of {', '.join(OWN)}, got {share!r}.")
        if soft and share != "pointwise":
            raise ValueError(
                f"filters are mixed where pointwise convolutions are shared, so soft and {share!r} exclude each other."
            )
        if share != "none" and not any(is_depthwise(part) for part in network.modules()):
            raise ValueError(
                f"{type(network).__name__} has no depthwise convolution of which each domain could have its own; take a separable "
                "network, such as SeparableResNet, MobileNetV2 or EfficientNetLite0."
            )
        self.network: Any = copy.deepcopy(network)
        self.network.head = DomainHead(self.network.head, base)
        self._specialise(self.network, OWN[share], soft, base)
        self.base, self.domain, self.domains = base, base, [base]
        for name in ("channels", "strides", "num_features", "sequential", "smallest", "input"):
            setattr(self, name, getattr(network, name))

    def _specialise(self, parent: nn.Module, own: Callable[[nn.Module], bool], soft: bool, base: str) -> None:
        """Puts a `ByDomain` around every module without parts that is a domain's own."""
        for name, part in list(parent.named_children()):
            if isinstance(part, ByDomain):
                if base not in part.of:
                    raise ValueError(
                        f"a layer of the network calls its first domain {next(iter(part.of))!r}, not {base!r}."
                    )
            elif list(part.children()):
                self._specialise(part, own, soft, base)
            elif own(part):
                mixed = soft and is_depthwise(part)
                setattr(parent, name, SoftSharedDepthwise.around(part, base) if mixed else ByDomain(part, base))  # type: ignore[arg-type]

    @property
    def stem(self) -> nn.Module:  # type: ignore[override]
        return self.network.stem

    @property
    def stages(self) -> nn.ModuleList:  # type: ignore[override]
        return self.network.stages

    @property
    def head(self) -> nn.Module:  # type: ignore[override]
        return self.network.head

    def parts(self) -> list[ByDomain]:
        """What there is of each domain."""
        return [part for part in self.modules() if isinstance(part, ByDomain)]

    def shared(self) -> list[nn.Parameter]:
        """What all domains share."""
        own = {id(p) for part in self.parts() for p in part.parameters()}
        return [p for p in self.parameters() if id(p) not in own]

    def add_domain(self, domain: str, num_classes: int, like: str | None = None) -> None:
        """A new domain, in use from now on.

        Arguments:
            domain: a name without dots.
            num_classes: of its classifier, which is new.
            like: the domain from whose weights the rest of its own starts; None is the first.
        """
        like = self.base if like is None else like
        if domain in self.domains or "." in domain or hasattr(nn.ModuleDict, domain):
            raise ValueError(
                f"{domain!r} is no name for a new domain; give one without dots, and none of {', '.join(self.domains)}."
            )
        self._check(like)
        for part in self.parts():
            part.add(domain, like)
        self.domains.append(domain)
        for parameter in self.shared():
            parameter.requires_grad_(False)
        self.use(domain)
        self.reset_classifier(num_classes)

    def use(self, domain: str) -> None:
        """Sees and learns a domain from now on."""
        self._check(domain)
        self.domain = domain
        for part in self.parts():
            part.use(domain)
        self.train(self.training)

    def train(self, mode: bool = True) -> MultiDomainNet:
        """Shared normalisations keep their statistics as soon as there is a second domain."""
        super().train(mode)
        if len(self.domains) > 1:
            own = {id(module) for part in self.parts() for module in part.modules()}
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d) and id(module) not in own:
                    module.eval()
        return self

    def trainable_parameters(self, domain: str | None = None) -> list[nn.Parameter]:
        """What learns with a domain (None: the one in use): its own, and while there is one domain the shared part, too."""
        domain = self.domain if domain is None else domain
        self._check(domain)
        own = [p for part in self.parts() for p in part.own(domain)]
        return own if len(self.domains) > 1 else [*self.shared(), *own]

    def recipe(self, lr: float | None) -> Recipe:
        """AdamW on what learns with the domain in use: weight decay must not touch the rest."""
        return Recipe(torch.optim.AdamW(self.trainable_parameters(), lr=lr or 2e-3, weight_decay=0.01), warmup_cosine)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        return self.network.forward_features(x)

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Tensor:
        return self.network.forward_head(features, pre_logits=pre_logits)

    def forward(self, x: Float[Tensor, "B C H W"], domain: str | None = None) -> Float[Tensor, "B K"]:
        if domain is None or domain == self.domain:
            return self.network(x)
        before = self.domain
        self.use(domain)
        try:
            return self.network(x)
        finally:
            self.use(before)

    def _check(self, domain: str) -> None:
        if domain not in self.domains:
            raise ValueError(
                f"there is no domain {domain!r}; known are {', '.join(self.domains)} (add_domain makes a new one)."
            )


def multidomain_resnet26(num_classes: int = 10, in_channels: int = 3, soft: bool = False) -> MultiDomainNet:
    """The reference network with one domain, "base"."""

    def layer(in_channels: int, out_channels: int, stride: int) -> nn.Module:
        return DomainSeparableConv(in_channels, out_channels, stride, soft)

    return MultiDomainNet(SeparableResNet(num_classes, in_channels, layer=layer), soft=soft)


def decathlon_score(errors: Mapping[str, float], finetuned: Mapping[str, float]) -> float:
    """Σ_d a_d max(0, Emax_d − E_d)² with a_d = 1000 / Emax_d², Emax_d twice the error of a network finetuned whole: 0 … 1000 a domain.

    Arguments:
        errors: E of each domain, in [0, 1].
        finetuned: error of the finetuned network of each.

    S.-A. Rebuffi, H. Bilen, A. Vedaldi, Learning multiple visual domains with residual adapters, 2017, arXiv:1705.08045.
    """
    worst = {domain: 2 * error for domain, error in finetuned.items()}
    return sum(1000 / worst[d] ** 2 * max(0.0, worst[d] - error) ** 2 for d, error in errors.items())
