"""ProtoPNet in one training: on any backbone, with the push and the last layer at the end of the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ziggurat.data.batch import Batch
from ziggurat.data.feeds import Labelled, Loader, feed
from ziggurat.memory.prototypes.protopnet import ProtoPNet
from ziggurat.memory.prototypes.protopnet_training import ProtoPNetLearner, push, train_last_layer
from ziggurat.nn.staged import Staged


class PrototypeParts(ProtoPNetLearner):
    """Puts prototypes behind a backbone and trains them; when the run ends they become patches of training images, and the last layer
    learns.

    `train_protopnet` goes through the three stages several times; here each has its turn once, so that ProtoPNet is trained like every
    other method, and its checkpoint can show which parts a decision comes from. Behind its budget of steps it looks at every training image
    twice more without a gradient, once for the push and once for the last layer, not augmented and also those that a training without its
    last, smaller batches left out.

    Arguments:
        network: any `Staged` network of images; its head is left out.
        num_classes: K, 2 or more.
        per_class: prototypes of each class.
        width: channels of the prototypes.
        warm, backbone_lr, lr: as of `ProtoPNetLearner`.
        last_epochs: how often the last layer sees the similarities of every image.
    """

    def __init__(
        self,
        network: Staged,
        num_classes: int,
        per_class: int = 5,
        width: int = 64,
        warm: float = 0.2,
        backbone_lr: float = 1e-3,
        lr: float | None = None,
        last_epochs: int = 5,
    ) -> None:
        super().__init__(ProtoPNet(network, num_classes, per_class, width), warm=warm, backbone_lr=backbone_lr, lr=lr)
        self.last_epochs = last_epochs

    def on_train_end(self) -> None:
        whole = unaugmented(self.trainer.train_dataloader)  # type: ignore[arg-type]
        push(self.network, self.moved(whole))
        train_last_layer(self.network, self.moved(whole), self.last_epochs, lr=1e-3, batch_size=512)

    def moved(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches where the network is."""
        return (batch.to(self.device) for batch in batches)


def unaugmented(batches: Iterable[Batch]) -> Iterable[Batch]:
    """Every sample of a loader's data set, as it is; batches that are no loader's stay what they are."""
    if not isinstance(batches, Loader):
        return batches
    return feed(batches.dataset, Labelled(), batches.batch_size, normalize=batches.normalize)
