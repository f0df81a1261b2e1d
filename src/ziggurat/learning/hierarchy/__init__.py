"""Learners that know a hierarchy of the classes."""

from ziggurat._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "AHMLC": ".hmlc_features",
        "CHIP": ".chip",
        "ConceptSubspace": ".concept_subspace",
        "ConceptSubspaceLearner": ".concept_subspace",
        "ConceptSubspaceNetwork": ".concept_subspace",
        "GHMLC": ".hmlc_features",
        "HGCLIP": ".hgclip",
        "HMLC": ".hmlc_features",
        "HMLCLoss": ".hmlc_features",
        "HierarchicalConceptLearner": ".concept_subspace",
        "HierarchicalContrastiveLoss": ".chip",
        "HierarchicalPrototypeClassifier": ".chip",
        "HierarchyEncoder": ".hgclip",
        "HierarchyGraphHead": ".hgclip",
        "LevelMarginLoss": ".chip",
        "MappedText": ".hgclip",
        "MLCapsNet": ".ml_capsnet",
        "MLCapsNetLearner": ".ml_capsnet",
        "PromptedText": ".hgclip",
        "subspace_alignment": ".concept_subspace",
    },
)
