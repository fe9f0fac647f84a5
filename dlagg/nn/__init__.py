"""Part 3: neural networks from scratch, in NumPy: every line from an equation, every gradient proven.

All modules are imported at once: they are small, and layers and optimizers are found by name in files.
"""
from .attention import QueryPooling, plot_attention
from .attention_layers import SelfAttention
from .autoencoder import decoded_grid, latent_map, principal_angles
from .autoencoder_model import Autoencoder, GaussianNoise
from .autoencoder_variational import Sampling, VariationalAutoencoder
from .backprop import gradient_sizes
from .backprop_check import check_network
from .backprop_descent import GradientDescent
from .backprop_fit import EarlyStopping, History, TrainingDiverged
from .backprop_keras import from_keras, to_keras
from .backprop_layers import Activation, Dense, Dropout, Flatten, Layer, Reshape, ShapeError
from .backprop_network import Network
from .backprop_norm import BatchNormalization, LayerNormalization
from .convolution import convolve2d, correlate2d
from .convolution_layers import Conv2D, Conv2DTranspose
from .convolution_look import feature_maps, plot_channels, saliency
from .convolution_pooling import AveragePooling2D, GlobalAveragePooling2D, MaxPooling2D, UpSampling2D
from .neurons import plot_surface
from .neurons_losses import BinaryCrossentropy, CategoricalCrossentropy, Huber, MeanAbsoluteError, MeanSquaredError, SparseCategoricalCrossentropy
from .optimizers import converged, descend, lbfgs
from .optimizers_kinds import SGD, Adam, AdamW, RMSprop, cosine_decay, exponential_decay, step_decay
from .recurrent import gradient_lengths, windows_of
from .recurrent_base import SimpleRNN
from .recurrent_gates import GRU, LSTM
from .recurrent_masks import Bidirectional, Masking, RepeatVector

__all__ = [
    "Activation", "Adam", "AdamW", "Autoencoder", "AveragePooling2D", "BatchNormalization", "Bidirectional", "BinaryCrossentropy", "CategoricalCrossentropy", "Conv2D", "Conv2DTranspose", "Dense",
    "Dropout", "EarlyStopping", "Flatten", "GRU", "GaussianNoise", "GlobalAveragePooling2D", "GradientDescent", "History", "Huber", "LSTM", "Layer", "LayerNormalization", "Masking", "MaxPooling2D",
    "MeanAbsoluteError", "MeanSquaredError", "Network", "QueryPooling", "RMSprop", "RepeatVector", "Reshape", "SGD", "Sampling", "SelfAttention", "ShapeError", "SimpleRNN",
    "SparseCategoricalCrossentropy", "TrainingDiverged", "UpSampling2D", "VariationalAutoencoder", "check_network", "converged", "convolve2d", "correlate2d", "cosine_decay", "decoded_grid", "descend",
    "exponential_decay", "feature_maps", "from_keras", "gradient_lengths", "gradient_sizes", "latent_map", "lbfgs", "plot_attention", "plot_channels", "plot_surface", "principal_angles", "saliency",
    "step_decay", "to_keras", "windows_of",
]
