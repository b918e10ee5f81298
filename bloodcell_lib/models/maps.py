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


def evidence(network: keras.Model, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return how much each position speaks for a class (positive) or against it (negative).

    Softmax ignores what all classes have in common, so the zero of a class map means nothing. This one is the class
    map minus the mean of all class maps: zero is where a position raises the class as much as the others.

    Args:
        network, images: as for `class_maps`.
        classes: the class asked about, of each image (N,).

    Returns:
        Maps (N, rows, columns).
    """
    every = class_maps(network, images)
    relative = every - every.mean(-1, keepdims=True)
    return np.take_along_axis(relative, np.asarray(classes)[:, None, None, None], -1)[..., 0]


def share_inside(maps: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the share of the positive evidence that lies in a box, of each image (N,); 0 where there is none.

    A position that the box covers in part counts in part.

    Args:
        maps: from `evidence`, (N, rows, columns).
        boxes: left, top, right, bottom in pixels, of each image (N, 4).
        size: height and width of the images in pixels.
    """
    left, top, right, bottom = np.transpose(boxes)
    inside = _covered(maps.shape[1], size[0], top, bottom)[:, :, None]
    inside = inside * _covered(maps.shape[2], size[1], left, right)[:, None, :]
    positive = np.maximum(maps, 0)
    return (positive * inside).sum((1, 2)) / np.maximum(positive.sum((1, 2)), 1e-12)


def _covered(places: int, length: int, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Return which share of each of some equal places along a side lies between two points, (N, places)."""
    edges = np.linspace(0, length, places + 1)
    common = np.minimum(edges[1:], last[:, None]) - np.maximum(edges[:-1], first[:, None])
    return np.maximum(common, 0) * places / length
