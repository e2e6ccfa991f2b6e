"""Heads: classifiers trained on the vectors of a feature file.

================  ==================================================================
estimators        scikit-learn classifiers: LinearHead, SVMHead, KNNHead, MLPHead
attentive_head    AttentiveHead, which scores a video's rows with attention
scorers           arrays to class scores: what is left of an estimator after training
selection         hyper-parameters by cross-validation inside the training part
head              a trained head as a folder
protocols         one split, official splits, few shots
cross_validation  cross-validation, and the comparison of several heads
copies            near copies on both sides of a split
multi_label       several labels per sample, one class against the rest
================  ==================================================================
"""

from vidfeat.heads.attentive_head import AttentiveHead
from vidfeat.heads.cross_validation import cross_validate
from vidfeat.heads.estimators import KNNHead, LinearHead, MLPHead, SVMHead
from vidfeat.heads.head import Head
from vidfeat.heads.protocols import few_shot, split_parts, train_and_test
from vidfeat.heads.selection import HeadOptions

__all__ = [
    "AttentiveHead",
    "Head",
    "HeadOptions",
    "KNNHead",
    "LinearHead",
    "MLPHead",
    "SVMHead",
    "cross_validate",
    "few_shot",
    "split_parts",
    "train_and_test",
]
