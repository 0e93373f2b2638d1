"""Meta-training, and the sequential meta-test."""

from snn_anml.meta.heads import HEADS, LinearHead, class_means, learn_in_sequence
from snn_anml.meta.inner import dual_sgd
from snn_anml.meta.outer import Metrics, train
from snn_anml.meta.sequential import Learned, Outcome, extract_features, meta_test
from snn_anml.meta.stage import Learner, Stage

__all__ = [
    "HEADS",
    "Learned",
    "Learner",
    "LinearHead",
    "Metrics",
    "Outcome",
    "Stage",
    "class_means",
    "dual_sgd",
    "extract_features",
    "learn_in_sequence",
    "meta_test",
    "train",
]
