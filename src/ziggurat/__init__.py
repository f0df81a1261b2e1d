"""ziggurat: published methods of representation learning under one contract, each with its claim measured.

import ziggurat
network = ziggurat.build("resnet18", num_classes=10)
table = ziggurat.compare("digits", ["mlp", "resnet18:stem=cifar"], budget="60s")
"""

from importlib.metadata import version

from ziggurat._lazy import lazy

__version__ = version("ziggurat")

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Batch": ".data.batch",
        "Finding": ".metrics.finding",
        "Learner": ".nn.learner",
        "Staged": ".nn.staged",
        "build": ".catalogue",
        "compare": ".workflows.comparing",
        "load": ".data.loading",
    },
)
