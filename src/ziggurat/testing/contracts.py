"""Which checks each contract consists of."""

from ziggurat.testing.checking import Check
from ziggurat.testing.estimators import ESTIMATOR
from ziggurat.testing.learners import LEARNER
from ziggurat.testing.networks import LAYER, STAGED

CONTRACTS: dict[str, tuple[Check, ...]] = {
    "staged": STAGED,
    "layer": LAYER,
    "learner": LEARNER,
    "rule": LEARNER,
    "estimator": ESTIMATOR,
    "embedding": ESTIMATOR,
}
