"""A deliberately broken example for every check of every contract: (check's name, subject that it must catch)."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from ziggurat.curation import SeTaSampler
from ziggurat.explain.saliency import saliency_map
from ziggurat.graphs import GCN
from ziggurat.graphs.complexes.hodge import hodge
from ziggurat.graphs.hypergraphs.incidence import check_incidence, count_hyperedges, to_hyperedges, to_nodes
from ziggurat.graphs.links import Neighbours
from ziggurat.learning import Supervised
from ziggurat.learning.metric.triplet_network import SoftmaxRatioTripletLoss
from ziggurat.memory import ExactIndex, HNSWIndex
from ziggurat.nn import MLP, Staged
from ziggurat.nn.staged import Classifier
from ziggurat.testing import Subject
from ziggurat.testing.examples import MAP_CHANNELS
from ziggurat.vision.backbones.resnet import cifar_resnet
from ziggurat.vision.backbones.vgg import VGG
from ziggurat.vision.detection.detector import Detector
from ziggurat.vision.detection.heads import RetinaHead
from ziggurat.vision.necks.fpn import FPN
from ziggurat.vision.segmentation.fcn import FCN8s


class Convolution(nn.Module):
    """A sound layer, to be broken in one way at a time."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.conv(x)).relu()


class NotFinite(Convolution):
    def forward(self, x):
        return super().forward(x) / 0


class UnusedParameter(Convolution):
    def __init__(self):
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(3))


class DeadParameter(Convolution):
    def __init__(self):
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return super().forward(x) + 0 * self.spare


class Noisy(Convolution):
    def forward(self, x):
        return super().forward(x) + torch.rand(1)


class BatchDependent(Convolution):
    def forward(self, x):
        return super().forward(x) - x.mean()


class SingleIsNan(Convolution):
    def forward(self, x):
        return super().forward(x) / x.std(0, keepdim=True).mean()


class Casts(Convolution):
    def forward(self, x):
        return super().forward(x).float()


class IgnoresMeta(Convolution):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(3, device="cpu"))


class HiddenState(Convolution):
    def __init__(self):
        super().__init__()
        self.shift = float(torch.rand(()))

    def forward(self, x):
        return super().forward(x) + self.shift


class Twice(Convolution):
    def __init__(self):
        super().__init__()
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.act(self.norm(self.conv(x))) - 0.1)


class InPlace(Convolution):
    def forward(self, x):
        return super().forward(x.mul_(2))


class LongText(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 1 + 2 * (i % 2), padding=i % 2) for i in range(120))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class DataDependent(Convolution):
    def forward(self, x):
        return super().forward(x) if float(x.sum()) > 0 else x[:, :1].expand(-1, 4, -1, -1)


class ByNumber(nn.Module):
    """Adds the number of each node, which a renaming changes."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 3)

    def forward(self, x, edge_index):
        return self.linear(x) + torch.arange(len(x))[:, None]


class Neighbourless(nn.Module):
    """Divides by the degree, which is zero in a graph without edges."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 3)

    def forward(self, x, edge_index):
        return self.linear(x) / torch.bincount(edge_index[1], minlength=len(x))[:, None]


class AcrossGraphs(nn.Module):
    """The mean of all graphs' nodes, for every graph."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 3)

    def forward(self, x, edge_index, edge_weight=None, batch=None):
        return self.linear(x).mean(0).expand(int(batch.max()) + 1, -1)


class FirstMember(nn.Module):
    """Gives each node the features of the hyperedge's first member, whatever the names."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 3)

    def forward(self, x, hyperedge_index):
        return self.linear(x + x[hyperedge_index[0].min()] * torch.arange(len(x))[:, None])


class AcceptsAnyEdge(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 3)

    def forward(self, x, edge_index):
        return self.linear(x)


class Small(Staged):
    """A sound network of two stages."""

    def __init__(self, channels=(4, 6), strides=(1, 2), features=6):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.stages = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, 3, 2, 1)])
        self.channels, self.strides, self.num_features = channels, strides, features
        self.head = Classifier(6, 5)


class Skipping(Small):
    def forward_features(self, x):
        one = self.stages[0](self.stem(x))
        return [one, self.stages[1](one + 1)]


class OtherForward(Small):
    def forward(self, x):
        return super().forward(x) + 1


def layer(make, **options):
    return Subject(make, "layer", name=make.__name__, **options)


def staged(make, **options):
    return Subject(make, "staged", name="Small", **options)


class Wrong(Supervised):
    def __init__(self):
        super().__init__(cifar_resnet(8, 4, widths=(4, 4, 8)), lr=0.01)


class ShapedLoss(Wrong):
    def losses(self, batch):
        return {"loss": torch.ones(len(batch), 2)}


class ImpureLoss(Wrong):
    count = itertools.count()

    def losses(self, batch):
        return {"loss": super().losses(batch)["cross_entropy"] + next(self.count)}


class ForgottenParameter(Wrong):
    def __init__(self):
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(1))


class NeverLearns(Wrong):
    def recipe(self):
        recipe = super().recipe()
        recipe.optimizer.param_groups[0]["lr"] = 1e-12
        return recipe


class OwnRandom(Wrong):
    source = np.random.default_rng(0)

    def losses(self, batch):
        return {"loss": super().losses(batch)["cross_entropy"] * float(self.source.uniform(0.5, 2))}


class Forgetful(Wrong):
    """Keeps a number outside its state, so a resumed run starts again from zero."""

    steps = 0

    def losses(self, batch):
        return {"loss": super().losses(batch)["cross_entropy"] * (1 + self.steps)}

    def after_step(self, batch):
        self.steps += 1


class IgnoresWeight(Wrong):
    def total(self, terms, batch):
        return torch.stack([value.mean() for value in terms.values()]).sum()


class HidesNan(Wrong):
    def losses(self, batch):
        return {"loss": super().losses(batch)["cross_entropy"].nan_to_num(1.0)}


class FlatRepresentation(Wrong):
    def represent(self, *inputs):
        return super().represent(*inputs).mean(1)


class RandomPrediction(Wrong):
    def predict(self, *inputs):
        return torch.zeros(len(inputs[0]), 4)


def learner(make):
    return Subject(make, "learner", name=make.__name__)


class Mean(BaseEstimator):
    """A sound estimator: the class of the nearest mean, in one dimension."""

    def __init__(self, shift=0.0):
        self.shift = shift

    def fit(self, x, y):
        if not np.isfinite(x).all():
            raise ValueError("x is not finite; drop those rows.")
        self.means_ = np.array([x[y == label].mean() for label in (-1, 1)]) + self.shift
        return self

    def predict(self, x):
        if not hasattr(self, "means_"):
            raise ValueError("call fit first.")
        return np.where(abs(x.mean(1) - self.means_[0]) < abs(x.mean(1) - self.means_[1]), -1, 1)


class ReturnsNothing(Mean):
    def fit(self, x, y):
        super().fit(x, y)


class ComputesInConstructor(Mean):
    def __init__(self, shift=0.0):
        super().__init__(shift)
        self.double = 2 * shift


class Restless(Mean):
    fits = 0

    def fit(self, x, y):
        super().fit(x, y)
        Restless.fits += 1
        self.means_ = (-1) ** Restless.fits * self.means_
        return self


class LosesState(Mean):
    def __getstate__(self):
        return {"shift": self.shift, "means_": np.array([5.0, -5.0])}


class PredictsUnfitted(Mean):
    def predict(self, x):
        return super().predict(x) if hasattr(self, "means_") else np.ones(len(x))


class AcceptsNan(Mean):
    def fit(self, x, y):
        return super().fit(np.nan_to_num(x), y)


def estimator(make):
    return Subject(make, "estimator", input="table", name=make.__name__)


class Levels(nn.Module):
    """A neck that says the wrong stride of its last level."""

    channels, strides = (4, 4, 4), (4, 8, 32)

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, 4, 1) for c in MAP_CHANNELS)

    def forward(self, maps):
        return [conv(m) for conv, m in zip(self.convs, maps, strict=True)]


class HalfSize(nn.Module):
    """A segmenter that gives scores at half of the size."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, 2, 1)

    def forward(self, x):
        return self.conv(x)


def sound_detector():
    backbone = cifar_resnet(8, widths=(8, 8, 16))
    neck = FPN(backbone.channels, backbone.strides, 16)
    return Detector(backbone, neck, RetinaHead(16, 2, [[8.0], [16.0], [32.0]], depth=1, lowest=0.0))


class BrokenDetector(nn.Module):
    """A sound detector inside, to be broken in one way at a time."""

    def __init__(self):
        super().__init__()
        self.inner = sound_detector()

    def forward(self, images, targets=None):
        return self.inner(images, targets)


class ShapedLosses(BrokenDetector):
    def forward(self, images, targets=None):
        found = self.inner(images, targets)
        return {name: value[None] for name, value in found.items()} if self.training else found


class RisingScores(BrokenDetector):
    def forward(self, images, targets=None):
        found = self.inner(images, targets)
        return found if self.training else [{name: value.flip(0) for name, value in one.items()} for one in found]


class RestlessDetector(BrokenDetector):
    def forward(self, images, targets=None):
        if not self.training:
            torch.rand(1)
        return self.inner(images, targets)


class BlindDetector(BrokenDetector):
    def forward(self, images, targets=None):  # not even the sizes tell the images apart
        return self.inner([0 * image[:, :48, :48] for image in images], targets)


class TrustingDetector(BrokenDetector):
    def forward(self, images, targets=None):
        if self.training and targets is None:
            return {"loss": torch.zeros(())}
        return self.inner(images, targets)


def detector(make):
    return Subject(make, "detector", name=make.__name__)


class SameSample(SeTaSampler):
    def choose(self, epoch, generator):
        return torch.zeros(5, dtype=torch.int64)


class OwnDraws(SeTaSampler):
    def choose(self, epoch, generator):
        return torch.randperm(self.n)[:20]


class ForgetfulSampler(SeTaSampler):
    def load_state_dict(self, state):
        pass


def sampler(make):
    return Subject(lambda: make(100, 8), "sampler", name=make.__name__)


def summed_map(network, x, target=None):
    return saliency_map(network, x, target).sum((1, 2))


def training_map(network, x, target=None):
    return network.eval() and saliency_map(network, x, target)


def trusting_map(network, x, target=None):
    return saliency_map(network, x, None if isinstance(target, int) else target)


def explainer(function):
    return Subject(lambda: function, "explainer", name=function.__name__)


class Approximate(ExactIndex):
    def search(self, queries, k, allowed=None):
        return super().search(-np.asarray(queries), k, allowed)


class Remembering(ExactIndex):
    def remove(self, keys):
        pass


def index(make):
    return Subject(lambda: make(6), "index", name=make.__name__)


class WholeMatrix(SoftmaxRatioTripletLoss):
    def forward(self, embeddings, triplets):
        return super().forward(embeddings, triplets)[:, None].expand(-1, 3)


class Detached(SoftmaxRatioTripletLoss):
    def forward(self, embeddings, triplets):
        return super().forward(embeddings, triplets) * embeddings.detach().norm()


class Normalising(SoftmaxRatioTripletLoss):
    def forward(self, embeddings, triplets):
        with torch.no_grad():
            embeddings.div_(embeddings.norm())
        return super().forward(embeddings, triplets)


class Overflowing(SoftmaxRatioTripletLoss):
    def forward(self, embeddings, triplets):
        a, p, n = (embeddings[triplets[:, i]] for i in range(3))
        positive, negative = (a - p).norm(dim=1).exp(), (a - n).norm(dim=1).exp()
        return 2 * (positive / (positive + negative)).square()


def objective(make):
    return Subject(make, "objective", input="embeddings, triplets", name=make.__name__)


class Coarse(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 2, 3, stride=2, padding=1)


class CommonNeighbours(nn.Module):
    """A sound score of pairs."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 1)

    def forward(self, x, edge_index, pairs):
        neighbours = Neighbours(edge_index, len(x))
        pair, node = neighbours.common(pairs)
        score = self.linear(x[pairs[0]] * x[pairs[1]])
        return (score + torch.zeros_like(score).index_add(0, pair, self.linear.bias * x[node, :1])).squeeze(1)


class HyperMean(nn.Module):
    """A sound layer of hypergraphs."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 3)

    def forward(self, x, hyperedge_index):
        check_incidence(hyperedge_index, len(x))
        count = count_hyperedges(hyperedge_index)
        return to_nodes(to_hyperedges(self.linear(x), hyperedge_index, count), hyperedge_index, len(x))


class HodgeStep(nn.Module):
    """A sound layer of complexes: a step along the edges' Hodge Laplacian, summed for each complex."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 3)

    def forward(self, data):
        z = self.linear(sum(hodge(data, 1, data.x[1])))
        return z.new_zeros(int(data.batch[1].max()) + 1, 3).index_add(0, data.batch[1], z)


BROKEN = [
    ("check_forward", layer(NotFinite)),
    ("check_every_parameter_gets_a_gradient", layer(UnusedParameter)),
    ("check_every_parameter_gets_a_gradient", layer(DeadParameter)),
    ("check_evaluation_is_deterministic", layer(Noisy)),
    ("check_one_sample", layer(SingleIsNan)),
    ("check_batch_independence", layer(BatchDependent)),
    ("check_types", layer(Casts)),
    ("check_bfloat16", layer(Casts)),
    ("check_meta_device", layer(IgnoresMeta)),
    ("check_state_round_trip", layer(HiddenState)),
    ("check_no_module_twice_and_nothing_in_place", layer(Twice)),
    ("check_no_module_twice_and_nothing_in_place", layer(InPlace)),
    ("check_text", layer(LongText)),
    ("check_permutation_of_nodes", layer(ByNumber, input="graph")),
    ("check_permutation_of_nodes", layer(FirstMember, input="hypergraph")),
    ("check_batch_independence", layer(AcrossGraphs, input="graphs")),
    ("check_odd_graphs_are_taken", layer(Neighbourless, input="graph")),
    ("check_bad_edges_are_refused", layer(AcceptsAnyEdge, input="graph")),
    ("check_export", layer(DataDependent, export="torch.export")),
    ("check_export", layer(Convolution, export="no: it was tried once")),
    ("check_attributes_tell_the_truth", staged(lambda: Small(channels=(4, 7)))),
    ("check_attributes_tell_the_truth", staged(lambda: Small(features=7))),
    ("check_strides_tell_the_truth", staged(lambda: Small(strides=(1, 4)))),
    ("check_sequential_promise", staged(Skipping)),
    ("check_head", staged(OtherForward)),
    ("check_levels_tell_the_truth", Subject(Levels, "neck", input="maps", name="Levels")),
    ("check_every_pixel_gets_scores", Subject(HalfSize, "segmenter", name="HalfSize")),
    ("check_losses_of_a_detector", detector(ShapedLosses)),
    ("check_detections", detector(RisingScores)),
    ("check_detector_is_deterministic", detector(RestlessDetector)),
    ("check_detector_overfits", detector(BlindDetector)),
    ("check_bad_targets_are_refused", detector(TrustingDetector)),
    ("check_draws_are_samples", sampler(SameSample)),
    ("check_draws_are_seeded", sampler(OwnDraws)),
    ("check_sampler_state", sampler(ForgetfulSampler)),
    ("check_maps", explainer(summed_map)),
    ("check_network_is_left_alone", explainer(training_map)),
    ("check_bad_class_is_refused", explainer(trusting_map)),
    ("check_finds_itself", index(Approximate)),
    ("check_forgets", index(Remembering)),
    ("check_size_is_kept", Subject(Coarse, "dense", name="Coarse")),
    ("check_loss_is_a_scalar_or_one_a_row", objective(WholeMatrix)),
    ("check_gradient_is_the_numerical_one", objective(Detached)),
    ("check_objective_is_pure", objective(Normalising)),
    ("check_large_values_stay_finite", objective(Overflowing)),
    ("check_losses_are_scalars_or_one_a_sample", learner(ShapedLoss)),
    ("check_losses_are_pure", learner(ImpureLoss)),
    ("check_every_parameter_learns", learner(ForgottenParameter)),
    ("check_overfits_eight_samples", learner(NeverLearns)),
    ("check_same_seed_same_weights", learner(OwnRandom)),
    ("check_resumes_exactly", learner(Forgetful)),
    ("check_weight_counts", learner(IgnoresWeight)),
    ("check_stops_on_nan", learner(HidesNan)),
    ("check_represents", learner(FlatRepresentation)),
    ("check_predicts", learner(RandomPrediction)),
    ("check_fits", estimator(ReturnsNothing)),
    ("check_parameters_and_clone", estimator(ComputesInConstructor)),
    ("check_repeatable", estimator(Restless)),
    ("check_pickles", estimator(LosesState)),
    ("check_unfitted_is_refused", estimator(PredictsUnfitted)),
    ("check_bad_input_is_refused", estimator(AcceptsNan)),
]

SOUND = [
    (Subject(Convolution, "layer", name="Convolution", export="onnx")),
    (Subject(Small, "staged", name="Small", export="onnx")),
    (Subject(lambda: MLP(8, 3, (6,)), "staged", input="table", name="MLP")),
    (Subject(lambda: GCN(8, 3), "staged", input="graph", name="GCN")),
    (Subject(lambda: GCN(8, 3), "layer", input="graphs", name="GCN of graphs")),
    (Subject(CommonNeighbours, "layer", input="links", name="CommonNeighbours")),
    (Subject(HyperMean, "layer", input="hypergraph", name="HyperMean")),
    (Subject(HodgeStep, "layer", input="complex", name="HodgeStep")),
    (Subject(lambda: FPN(MAP_CHANNELS, (4, 8, 16), 6), "neck", input="maps", name="FPN", export="torch.export")),
    (Subject(sound_detector, "detector", name="Detector")),
    (Subject(lambda: FCN8s(2, VGG((1,) * 5, (4,) * 5, 0, hidden=0), 6, 3, dropout=0.0), "segmenter", name="FCN")),
    (Subject(lambda: SeTaSampler(100, 8), "sampler", name="SeTa")),
    (Subject(lambda: saliency_map, "explainer", name="saliency_map")),
    (Subject(lambda: ExactIndex(6), "index", name="ExactIndex")),
    (Subject(lambda: HNSWIndex(6), "index", name="HNSWIndex")),
    (Subject(lambda: nn.Conv2d(3, 2, 3, padding=1), "dense", name="Convolution")),
    (objective(SoftmaxRatioTripletLoss)),
    (Subject(Wrong, "learner", name="Supervised")),
    (Subject(Mean, "estimator", input="table", name="Mean")),
]
