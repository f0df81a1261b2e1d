"""iTPN: masked-image modelling that trains the feature pyramid together with the backbone, so that nothing is left to learn anew.

    L = mean over hidden units |pixels − prediction|²  +  λ Σ_levels mean over kept units |h_s − t|²

A quarter of the units is seen. Each level of the neck is brought to the decoder's width a unit (a level of 4×4 tokens gives a
sixteenth for each token), their sum is decoded, and the hidden units' pixels, normalised in each unit, are predicted: modelling of
pixels. And from each level alone a linear layer predicts t, what a slow copy of the network says of the unit when it sees the whole
image: modelling of features. Each channel of t has mean 0 and deviation 1 over the batch; normalised in each unit instead, it soon
became one constant vector, which is easily predicted and says nothing. λ and the form of t are our reading: the official code has the
pixels only, or the features of CLIP.

Y. Tian, L. Xie, Z. Wang, L. Wei, X. Zhang, J. Jiao, Y. Wang, Q. Tian, Q. Ye, Integrally Pre-Trained Transformer Pyramid Networks,
2022, arXiv:2211.12735.
"""

from __future__ import annotations

from typing import Any

import kornia.augmentation as K
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import batch_norm, layer_norm, pad

from ziggurat.data.batch import Batch
from ziggurat.data.feeds import Labelled
from ziggurat.nn.ema import EMA
from ziggurat.nn.learner import Learner
from ziggurat.nn.masking import put, random_masking
from ziggurat.nn.positions import sincos_positions
from ziggurat.nn.recipe import Recipe, warmup_cosine
from ziggurat.nn.transformer import TransformerBlock
from ziggurat.vision.backbones.transformers.hivit import EPS, ITPN, SIDE, Units
from ziggurat.vision.backbones.transformers.vit import init_transformer


def unit_pixels(x: Float[Tensor, "B C H W"], unit: int) -> Float[Tensor, "B N P"]:
    """The pixels of each unit, row by row, with mean 0 and deviation 1 in each; the image is padded with zeros to whole units."""
    height, width = x.shape[-2:]
    x = pad(x, (0, -width % unit, 0, -height % unit))
    pixels = x.unflatten(3, (-1, unit)).unflatten(2, (-1, unit)).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    return layer_norm(pixels, pixels.shape[-1:], eps=1e-6)


class LevelEmbed(nn.Module):
    """A level's tokens, normalised and projected, side by side for each unit.

    Shapes: (B, K, s, s, width) -> (B, K, out).
    """

    def __init__(self, width: int, out: int, side: int) -> None:
        super().__init__()
        self.norm, self.proj = nn.LayerNorm(width, eps=EPS), nn.Linear(width, out // side**2)

    def forward(self, x: Float[Tensor, "B K s s C"]) -> Float[Tensor, "B K D"]:
        return self.proj(self.norm(x)).flatten(2)


class UnitDecoder(nn.Module):
    """Transformer blocks on all units of an image, of which some are a learned token, and the pixels of each.

    Arguments:
        dim, depth, heads: of the blocks.
        pixels: numbers a unit.
    """

    def __init__(self, dim: int, depth: int, heads: int, pixels: int) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.Sequential(*(TransformerBlock(dim, heads, eps=EPS) for _ in range(depth)))
        self.norm, self.pixels = nn.LayerNorm(dim, eps=EPS), nn.Linear(dim, pixels)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, x: Float[Tensor, "B K D"], units: Units) -> Float[Tensor, "B N P"]:
        assert units.kept is not None
        rows, columns = units.grid
        whole = put(x, units.kept, rows * columns, self.mask_token)
        positions = sincos_positions(rows, columns, x.shape[2]).to(whole)
        return self.pixels(self.norm(self.blocks(whole + positions)))


class IntegralPretraining(Learner):
    """Pre-trains an `ITPN` without labels; the backbone's positions must be absolute ones (`relative_bias=False`).

    Afterwards the network is used with its neck for dense prediction, or its `HiViT` without for classification.

    Arguments:
        network: is trained; its classifier is removed.
        image_size, channels: of the images.
        mask_ratio: share of the units that are hidden.
        feature_weight: λ; 0 is the modelling of pixels alone, without a slow copy.
        width, depth, heads: of the decoder.
        momentum: of the slow copy.
        lr: of a batch of 256; it is scaled by batch / 256.
        weight_decay, batch_size: of the recipe.
    """

    score = "linear_probe"

    def __init__(
        self,
        network: nn.Module,
        image_size: int = 224,
        channels: int = 3,
        mask_ratio: float = 0.75,
        feature_weight: float = 0.3,
        width: int = 512,
        depth: int = 8,
        heads: int = 16,
        momentum: float = 0.996,
        lr: float | None = None,
        weight_decay: float = 0.05,
        batch_size: int = 256,
    ) -> None:
        super().__init__(network, lr)
        if not isinstance(network, ITPN):
            raise ValueError(
                f"integral pre-training trains a backbone with its neck, an ITPN; got a {type(network).__name__}."
            )
        if width % SIDE**2:
            raise ValueError(f"width must be a multiple of {SIDE**2} (a unit's tokens share it), got {width}.")
        network.reset_classifier(0)
        self.unit, level = SIDE * network.stem.token, network.channels[0]  # type: ignore[operator]
        self.embed = nn.ModuleList(LevelEmbed(level, width, side) for side in (4, 2, 1))
        self.decoder = UnitDecoder(width, depth, heads, channels * self.unit**2)
        self.image_size, self.mask_ratio, self.feature_weight = image_size, mask_ratio, feature_weight
        self.weight_decay, self.batch_size = weight_decay, batch_size
        self.teacher = EMA(network, momentum) if feature_weight else None
        self.predict_features = nn.ModuleList(nn.Linear(width, network.dim) for _ in range(3 if feature_weight else 0))
        for part in (self.embed, self.decoder, self.predict_features):
            init_transformer(part)

    @property
    def feed(self) -> Labelled:
        view = nn.Sequential(
            K.RandomResizedCrop((self.image_size, self.image_size), scale=(0.2, 1.0), cropping_mode="resample"),
            K.RandomHorizontalFlip(),
        )
        return Labelled(view)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        (x,) = batch.inputs
        target = unit_pixels(x, self.unit)
        kept, hidden = random_masking(*target.shape[:2], self.mask_ratio, x.device)
        network: Any = self.network
        units = network.encode(x, kept)
        levels = [embed(u.tokens) for embed, u in zip(self.embed, network.neck(units), strict=True)]
        predicted = self.decoder(torch.stack(levels).sum(0), units[-1])
        error = (predicted - target).square().mean(2)
        terms = {"pixels": (error * hidden).sum(1) / hidden.sum(1)}
        if self.teacher is not None:
            wanted = self.wanted(x).gather(1, kept[:, :, None].expand(-1, -1, network.dim))
            errors = [
                (head(h) - wanted).square().mean((1, 2)) for head, h in zip(self.predict_features, levels, strict=True)
            ]
            terms["features"] = self.feature_weight * torch.stack(errors).sum(0)
        return terms

    @torch.no_grad()
    def wanted(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N D"]:
        """t: the slow copy's unit features of the whole images; each channel has mean 0 and deviation 1 over the batch."""
        assert self.teacher is not None
        teacher: Any = self.teacher.eval().network
        tokens = teacher.encode(x)[-1].tokens[:, :, 0, 0]
        return batch_norm(tokens.flatten(0, 1), None, None, training=True).view_as(tokens)

    def after_step(self, batch: Batch) -> None:
        if self.teacher is not None:
            self.teacher.update(self.network)

    def represent(self, *inputs: Any) -> Float[Tensor, "B D"]:
        """Mean of the backbone's last features (B, d)."""
        network: Any = self.network
        return network.encode(*inputs)[-1].tokens.mean((1, 2, 3))

    def recipe(self) -> Recipe:
        """AdamW with a warm-up and a cosine; vectors are not decayed."""
        lr = (1.5e-4 if self.lr is None else self.lr) * self.batch_size / 256
        trained = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1]},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return Recipe(
            torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), weight_decay=self.weight_decay), warmup_cosine
        )
