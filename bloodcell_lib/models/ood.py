"""Out-of-distribution detection: which images are unlike those that a network was trained on."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import cdist

from bloodcell_lib.backend import keras
from bloodcell_lib.dataset import Dataset

DEPTH = 4  # features are read where the maps are this many times smaller than the image
QUANTILE = 0.95  # of the distances of validation images; greater ones are unusual
MOST = 4096  # training images that are enough for the covariance
BATCH = 64


@dataclass(frozen=True)
class Typical:
    """What the features of typical images are: their mean (d,), the inverse of their covariance (d, d), and the
    distance above which an image is unusual. `false_alarms` is the share of the test images that are."""

    mean: np.ndarray
    precision: np.ndarray
    threshold: np.ndarray
    false_alarms: np.ndarray

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Return how unlike the training images each image is (N,), from its features (N, d): above 1 it is unusual."""
        return cdist(features, self.mean[None], "mahalanobis", VI=self.precision)[:, 0] / self.threshold


def extractor(network: keras.Model) -> keras.Model:
    """Return a model from images to features (N, d): mean and standard deviation of each of the first feature maps
    that are `DEPTH` times smaller than the image.

    Deep features of a trained network say little but the class: whatever resembles a class in them counts as one.
    """
    side = -(-network.input_shape[1] // DEPTH)
    maps = next((o for layer in network.layers if len((o := layer.output).shape) == 4 and o.shape[1] <= side), None)
    maps = network.input if maps is None else maps
    both = keras.ops.mean(maps, (1, 2)), keras.ops.std(maps, (1, 2))
    return keras.Model(network.input, keras.layers.Concatenate(dtype="float32")(both))


def fit(network: keras.Model, data: Dataset) -> Typical:
    """Learn what typical images are: the Mahalanobis distance from training images, its threshold from validation.

    Source: Lee et al. 2018, A Simple Unified Framework for Detecting Out-of-Distribution Samples; Ledoit & Wolf 2004,
    A Well-Conditioned Estimator for Large-Dimensional Covariance Matrices.

    Args:
        network: trained.
        data: what it was trained on. On its test part, the false alarms are counted.
    """
    from sklearn.covariance import LedoitWolf  # slow to import

    model, train = extractor(network), data.train.images
    rows = np.linspace(0, len(train) - 1, min(MOST, len(train)), dtype=int)
    parts = train[rows], data.validation.images, data.test.images
    on_train, *others = (model.predict(images, batch_size=BATCH, verbose=0) for images in parts)
    scale = on_train.std(0) + 1e-6
    precision = LedoitWolf().fit(on_train / scale).precision_ / np.outer(scale, scale)
    found = Typical(on_train.mean(0), precision, np.array(1.0), np.array(0.0))
    on_validation, on_test = map(found.distance, others)
    threshold = np.quantile(on_validation, QUANTILE)
    return replace(found, threshold=threshold, false_alarms=np.mean(on_test > threshold))
