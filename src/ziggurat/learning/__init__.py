"""How a network learns with backpropagation: supervised, self-supervised, metric, few-shot, and the probes that judge features."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "AHMLC": ".hierarchy.hmlc_features",
        "CHIP": ".hierarchy.chip",
        "CalibratedStacking": ".fewshot.zero_shot.calibrated",
        "ConSE": ".fewshot.zero_shot.conse",
        "DAP": ".fewshot.zero_shot.attributes",
        "DeViSE": ".fewshot.zero_shot.devise",
        "ESZSL": ".fewshot.zero_shot.eszsl",
        "FaceNet": ".metric.facenet",
        "GHMLC": ".hierarchy.hmlc_features",
        "GPM": ".metric.gpm",
        "HMLC": ".hierarchy.hmlc_features",
        "IAP": ".fewshot.zero_shot.attributes",
        "MLCapsNet": ".hierarchy.ml_capsnet",
        "MLCapsNetLearner": ".hierarchy.ml_capsnet",
        "SemanticRidge": ".fewshot.zero_shot.ridge",
        "SimSiam": ".selfsup.simsiam",
        "SiameseNetwork": ".metric.triplet_network",
        "Supervised": ".supervised",
        "TripletNetwork": ".metric.triplet_network",
        "VisualRidge": ".fewshot.zero_shot.ridge",
    },
)
