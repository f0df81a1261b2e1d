"""The contract checks, public, so that a network, learner or estimator of your own can be checked too.

from ziggurat.testing import CONTRACTS, Subject, run_checks
run_checks(Subject(make=lambda: MyNetwork(num_classes=4), contract="staged", input="image"), CONTRACTS["staged"])
"""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "CONTRACTS": ".contracts",
        "Reason": ".checking",
        "Skip": ".checking",
        "Subject": ".checking",
        "example": ".examples",
        "example_images": ".examples",
        "ring_graph": ".examples",
        "run_checks": ".checking",
        "subject": ".checking",
    },
)
