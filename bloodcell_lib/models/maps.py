"""What a network looks at: class activation maps."""

import numpy as np

from bloodcell_lib.backend import keras


def class_maps(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return how much each position adds to the score of each class; no gradient is needed.

    The mean over positions and the weighted sum over channels can be swapped: the map of a class is the sum of the
    last feature maps, weighted by the weights of the class, plus its bias. Source: Zhou et al., Learning Deep
    Features for Discriminative Localization, CVPR 2016, equation 2.

    Args:
        network: from `models.build`; its layer "pool" is a mean over positions, "probabilities" a softmax.
        images: pixels 0..255 (N, height, width, 3); N is small, because all are computed at once.

    Returns:
        Maps (N, rows, columns, classes), float32. Their mean over rows and columns is the score before the softmax.

    Raises:
        ValueError: the network has no such layers.
    """
    if not {"pool", "probabilities"} <= {layer.name for layer in network.layers}:
        raise ValueError(
            f"{network.name} has no class maps: they need a layer 'pool', a mean over positions, and a layer "
            "'probabilities', a softmax."
        )
    features = keras.Model(network.input, network.get_layer("pool").input)(images, training=False)
    features = keras.ops.convert_to_numpy(keras.ops.cast(features, "float32"))
    weights = network.get_layer("probabilities").get_weights()
    if not weights:  # the last feature maps of SqueezeNet are the class maps
        return features
    kernel, bias = weights
    return features @ kernel + bias
