"""Which checks each contract consists of."""

from ziggurat.testing.checking import Check
from ziggurat.testing.estimators import ESTIMATOR
from ziggurat.testing.learners import LEARNER
from ziggurat.testing.networks import LAYER, STAGED
from ziggurat.testing.objectives import OBJECTIVE
from ziggurat.testing.parts import EXPLAINER, INDEX, SAMPLER
from ziggurat.testing.vision import DENSE, DETECTOR, NECK, SEGMENTER

CONTRACTS: dict[str, tuple[Check, ...]] = {
    "staged": STAGED,
    "layer": LAYER,
    "neck": NECK,
    "detector": DETECTOR,
    "segmenter": SEGMENTER,
    "dense": DENSE,
    "learner": LEARNER,
    "rule": LEARNER,
    "objective": OBJECTIVE,
    "estimator": ESTIMATOR,
    "embedding": ESTIMATOR,
    "sampler": SAMPLER,
    "explainer": EXPLAINER,
    "index": INDEX,
}
