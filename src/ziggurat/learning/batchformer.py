"""BatchFormer: while training, the samples of a batch attend to each other, and one classifier scores them with and without it.

    x' = encoder(x), the batch as the sequence;  logits = W [x; x'];  labels [y; y];  the loss is the mean over both halves

The gradient of one sample's loss so reaches the features of the others, and rare classes borrow from frequent ones. In evaluation
it is the identity: a sample is judged alone, at no cost.

Z. Hou, B. Yu, D. Tao, BatchFormer: Learning to Explore Sample Relationships for Robust Representation Learning, 2022,
arXiv:2203.01522. For dense maps: Z. Hou, B. Yu, C. Wang, Y. Zhan, D. Tao, BatchFormerV2, 2022, arXiv:2204.01254.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.data.batch import Batch
from ziggurat.learning.supervised import Supervised
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.transformer import check_heads


class BatchFormer(nn.Module):
    """One post-norm transformer layer along the batch, with ReLU, a hidden width of `dim`, and no positions.

    Stands between the features and what scores them: a classifier, or the projector of a contrastive method, which then projects
    both halves of every view. The sequence is the batch of one process and of one forward pass: with several processes, or
    gradients gathered over several batches, each of these attends within itself.

    Arguments:
        dim: width of the features.
        heads: of the attention.
        dropout: in the attention and behind both parts of the layer.

    Shapes: training (N, dim) -> (2N, dim), first as they came and then mixed; tokens (N, T, dim) -> (2N, T, dim), where each place
    attends to the same place of the other samples. Evaluation: as they came.
    """

    def __init__(self, dim: int, heads: int = 4, dropout: float = 0.5) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.encoder = nn.TransformerEncoderLayer(dim, heads, dim, dropout)

    def mix(self, x: Float[Tensor, "N *places C"]) -> Float[Tensor, "N *places C"]:
        """The encoder's output; its first axis is the sequence."""
        return self.encoder(x if x.ndim == 3 else x.unsqueeze(1)).view_as(x)

    def forward(self, x: Float[Tensor, "N *places C"]) -> Float[Tensor, "M *places C"]:
        if not self.training:
            return x
        if len(x) < 2:
            raise ValueError(
                f"{type(self).__name__} relates the samples of a batch and needs two or more, got {len(x)}; take larger "
                "batches, and drop a last one that is too small (drop_last=True)."
            )
        return torch.cat([x, self.mix(x)])


class BatchFormerV2(BatchFormer):
    """The same for maps: at each place the samples attend to each other. What follows sees both streams, as one batch twice as large.

    Shapes: training (N, dim, H, W) -> (2N, dim, H, W); evaluation: as they came.
    """

    def mix(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        tokens = x.flatten(2).transpose(1, 2)
        return self.encoder(tokens).transpose(1, 2).reshape(x.shape)


def classifier(network: nn.Module) -> nn.Linear:
    """The last linear layer of a network's head, which takes its `num_features`."""
    head, width = getattr(network, "head", network), getattr(network, "num_features", None)
    layers = [part for part in head.modules() if isinstance(part, nn.Linear) and part.in_features == width]
    if not layers:
        raise ValueError(
            f"{type(network).__name__} has no linear classifier of its num_features ({width}); build it with num_classes, "
            "or call BatchFormer yourself in front of what scores its features."
        )
    return layers[-1]


class BatchFormed(Supervised):
    """Trains any classifier with a BatchFormer in front of its own linear classifier; the network itself stays as it is.

    It goes in front of another supervised learner, too: `class Mine(BatchFormed, Other)` has the other's loss and recipe.

    Arguments:
        network: a `Staged` network with classes.
        lr, label_smoothing, weight_decay: as of `Supervised`; the layer learns at the rate of the classifier.
        heads, dropout: of the BatchFormer.
        layer: another module in its place; (N, C) -> (N, C) or (2N, C) while training.
    """

    def __init__(
        self,
        network: nn.Module,
        lr: float | None = None,
        label_smoothing: float = 0.0,
        weight_decay: float = 0.01,
        heads: int = 4,
        dropout: float = 0.5,
        layer: nn.Module | None = None,
    ) -> None:
        super().__init__(network, lr, label_smoothing, weight_decay)
        width = classifier(network).in_features
        self.layer = BatchFormer(width, heads, dropout) if layer is None else layer

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        before = classifier(self.network).register_forward_pre_hook(lambda _, given: (self.layer(*given),))
        try:
            return super().losses(batch)
        finally:
            before.remove()

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """One value a sample: the mean of the other learner's loss over the halves of the logits."""
        single, parts = super().loss, logits.split(len(batch.inputs[0]))
        return torch.stack([single(part, batch) for part in parts]).mean(0)

    def recipe(self) -> Recipe:
        """The network's, or the other learner's; what it leaves out of the layer is added to it."""
        recipe = super().recipe()
        recipe.add(self.layer.parameters())
        return recipe
