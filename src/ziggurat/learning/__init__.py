"""How a network learns with backpropagation: supervised, self-supervised, metric, few-shot, and the probes that judge features."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "AHMLC": ".hierarchy.hmlc_features",
        "BearingVectorMatching": ".metric.spagbol",
        "CHIP": ".hierarchy.chip",
        "CalibratedStacking": ".fewshot.zero_shot.calibrated",
        "ConSE": ".fewshot.zero_shot.conse",
        "DAP": ".fewshot.zero_shot.attributes",
        "DeViSE": ".fewshot.zero_shot.devise",
        "DocumentCNN": ".document_cnn",
        "ESZSL": ".fewshot.zero_shot.eszsl",
        "FaceNet": ".metric.facenet",
        "FeatureExtractor": ".cnn_off_the_shelf",
        "FoPro": ".weak.fopro",
        "GHMLC": ".hierarchy.hmlc_features",
        "GPM": ".metric.gpm",
        "HGCLIP": ".hierarchy.hgclip",
        "HMLC": ".hierarchy.hmlc_features",
        "HierarchyGraphHead": ".hierarchy.hgclip",
        "IAP": ".fewshot.zero_shot.attributes",
        "MLCapsNet": ".hierarchy.ml_capsnet",
        "MLCapsNetLearner": ".hierarchy.ml_capsnet",
        "OffTheShelfClassifier": ".cnn_off_the_shelf",
        "RegionEnsemble": ".document_cnn",
        "SemanticRidge": ".fewshot.zero_shot.ridge",
        "SimSiam": ".selfsup.simsiam",
        "SiameseNetwork": ".metric.triplet_network",
        "SpaGBOL": ".metric.spagbol",
        "Supervised": ".supervised",
        "TripletNetwork": ".metric.triplet_network",
        "VisualRidge": ".fewshot.zero_shot.ridge",
    },
)
