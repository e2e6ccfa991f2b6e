"""Heads: classifiers trained on the vectors of a feature file.

=============  =====================================================================
estimators     scikit-learn classifiers: LinearHead, SVMHead, KNNHead, MLPHead, AttentiveHead
attention      what the attentive head computes, and its training
scorers        arrays to class scores: what is left of an estimator after training
selection      hyper-parameters by cross-validation inside the training part
head           a trained head as a folder
threads        one for small products
protocols      one split, cross-validation, few shots
=============  =====================================================================
"""

from vidfeat.heads.attentive_head import AttentiveHead
from vidfeat.heads.estimators import KNNHead, LinearHead, MLPHead, SVMHead
from vidfeat.heads.head import Head
from vidfeat.heads.protocols import cross_validate, few_shot, split_parts, train_and_test
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
