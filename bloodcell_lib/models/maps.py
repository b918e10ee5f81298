"""What a network looks at: class activation maps."""

import numpy as np

from bloodcell_lib.backend import keras


def class_maps(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return how much each place adds to the score of each class, without a gradient.

    A mean over places and a weighted sum over channels may change places: the map of a class is the last maps,
    weighed by the class's weights, plus its bias. Source: Zhou et al., Learning Deep Features for Discriminative
    Localization, CVPR 2016, equation 2.

    Args:
        network: from `models.build`: its layer "pool" takes a mean over places, "probabilities" a softmax.
        images: pixels 0..255 (N, height, width, 3); N small, all are computed at once.

    Returns:
        Maps (N, rows, columns, classes), float32. Their mean over rows and columns is the score before the softmax.
    """
    features = keras.Model(network.input, network.get_layer("pool").input)(images, training=False)
    features = keras.ops.convert_to_numpy(keras.ops.cast(features, "float32"))
    weights = network.get_layer("probabilities").get_weights()
    if not weights:  # SqueezeNet's last maps are one for each class already
        return features
    kernel, bias = weights
    return features @ kernel + bias
