import copy

import pytest
import torch
from lightning.pytorch.callbacks import Callback

import ziggurat
from ziggurat.data import feed, load
from ziggurat.data.feeds import Labelled
from ziggurat.memory.prototypes.protopnet import explain, log_similarity
from ziggurat.memory.prototypes.protopnet_training import push
from ziggurat.memory.prototypes.prototype_parts import PrototypeParts
from ziggurat.nn import fit
from ziggurat.testing.examples import example_images
from ziggurat.vision.backbones.resnet import cifar_resnet


def trained(steps):
    """Prototypes of small digits, and the digits they were trained on."""
    torch.manual_seed(0)
    data = load("digits").subset(slice(0, 300))
    network = ziggurat.build("cifar_resnet20", num_classes=10, in_channels=1)
    learner = PrototypeParts(network, 10, per_class=2, width=8)
    return fit(learner, feed(data, learner.feed, 50, 0), steps=steps), data


def test_at_the_end_prototypes_are_patches_and_the_last_layer_has_learnt():
    learner, data = trained(8)
    head = learner.network.head
    assert (data.labels[head.source] == head.owner).all(), "a patch comes from an image of the prototype's own class"
    with torch.no_grad():
        distances = learner.network.distances(data.inputs(head.source))
    own = distances[torch.arange(len(head.owner)), torch.arange(len(head.owner))].flatten(1).amin(1)
    torch.testing.assert_close(own, torch.zeros(20), rtol=0, atol=1e-4)
    assert not torch.equal(head.last.weight, 1.5 * head.owns() - 0.5)


def test_evidence_adds_up_to_the_logit_and_names_its_source():
    learner, data = trained(2)
    x = data.inputs([7])[0]
    found = explain(learner.network, x, count=20)
    with torch.no_grad():
        logits = learner.predict(x[None])[0]
    assert sum(one.contribution for one in found) == pytest.approx(float(logits.max()), abs=1e-3)
    assert all(one.source == int(learner.network.head.source[one.prototype]) for one in found)
    assert found[0].similarity <= float(log_similarity(torch.zeros(())))


class BeforeThePush(Callback):
    """Keeps a copy of the network as it is when the last step is done."""

    def on_train_end(self, trainer, learner):
        self.network = copy.deepcopy(learner.network)


@pytest.mark.parametrize("augment", [None, torch.rand_like])
def test_the_push_sees_every_training_image_as_it_is(augment):
    torch.manual_seed(0)
    data = example_images(24)
    learner = PrototypeParts(cifar_resnet(8, 4, widths=(4, 6, 8)), 4, per_class=3, width=6)
    kept, stats = BeforeThePush(), (torch.full((3,), 0.5), torch.full((3,), 0.3))
    # of two batches of thirteen, the second one is not full and left out
    fit(learner, feed(data, Labelled(augment), 13, 0, stats, drop_last=True), steps=2, callbacks=[kept])
    push(kept.network, feed(data, Labelled(), 5, 0, stats))
    assert torch.equal(learner.network.head.source, kept.network.head.source)
    torch.testing.assert_close(learner.network.head.prototypes, kept.network.head.prototypes)
