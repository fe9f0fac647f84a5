"""Part 3: neural networks from scratch, in NumPy: every line from an equation, every gradient proven.

All modules are imported at once: they are small, and layers and optimizers are found by name in files.
"""
from .backprop_descent import GradientDescent
from .backprop_fit import EarlyStopping, History, TrainingDiverged
from .backprop_keras import from_keras, to_keras
from .backprop_layers import Activation, Dense, Dropout, Flatten, Layer, Reshape, ShapeError
from .backprop_network import Network
from .backprop_norm import BatchNormalization, LayerNormalization
from .neurons_losses import BinaryCrossentropy, CategoricalCrossentropy, Huber, MeanAbsoluteError, MeanSquaredError, SparseCategoricalCrossentropy

__all__ = [
    "Activation", "BatchNormalization", "BinaryCrossentropy", "CategoricalCrossentropy", "Dense", "Dropout", "EarlyStopping", "Flatten", "GradientDescent", "History",
    "Huber", "Layer", "LayerNormalization", "MeanAbsoluteError", "MeanSquaredError", "Network", "Reshape", "ShapeError", "SparseCategoricalCrossentropy", "TrainingDiverged",
    "from_keras", "to_keras",
]
