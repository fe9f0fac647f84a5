"""Part 4: rows become vectors, the vectors of a group become one: classic and learned aggregation, mergeable and explained.

Keras reads its backend once, when it is first imported. JAX is the default here; KERAS_BACKEND chooses another one.
"""
import os

import lazy_loader

os.environ.setdefault("KERAS_BACKEND", "jax")

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["states", "groups", "pooling", "encoders", "estimator", "estimator_groups", "explain"],
    submod_attrs={
        "states": ["ArgMax", "Count", "Distinct", "First", "Kurt", "Last", "LogSumExp", "Max", "Mean", "Min", "Moments", "PowerMean",
                   "Product", "Quantile", "Several", "Skew", "Softmax", "State", "StateTable", "Std", "Sum", "TopK", "VPA", "Var", "state_of"],
        "groups": ["group_aggregate"],
        "pooling": ["AttentionPooling", "ConcatPooling", "DeepSetsPooling", "GRUPooling", "LSTMPooling", "LastPooling", "LogSumExpPooling",
                    "MaxPooling", "MeanPooling", "MinPooling", "NetVLADPooling", "PMAPooling", "PNAPooling", "Pooling",
                    "PowerMeanPooling", "SetTransformerPooling", "SoftmaxPooling", "StdPooling", "SumPooling", "TopKPooling",
                    "VPAPooling", "pooling_layer"],
        "encoders": ["AutoEncoder", "Encoder", "ImageEncoder", "KerasEncoder", "NumbersEncoder", "SequenceEncoder", "TabularEncoder", "encoder_of", "row_errors"],
        "estimator": ["DeepAggregator"],
        "estimator_groups": ["Groups"],
        "explain": ["column_importance", "contributions", "explain_columns", "explain_group", "explain_vector", "kinds_of_rows", "leave_one_out",
                    "plot_explanation", "plot_importance", "plot_kinds", "plot_waterfall"],
    },
)
