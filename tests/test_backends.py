"""A network saved on one backend answers the same on the other."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from bloodcell_lib import models

OTHER = {"tensorflow": "jax", "jax": "tensorflow"}[keras.backend.backend()]
ANSWER = """
import sys
from bloodcell_lib.backend import keras
import numpy as np
for path in sys.argv[1:]:
    model = keras.saving.load_model(path, safe_mode=True)
    both = keras.Model(model.input, [model.get_layer("pool").input, model.output])
    features, probabilities = both.predict_on_batch(np.load(path.replace(".keras", ".npy")))
    np.savez(path.replace(".keras", ".npz"), features=features, probabilities=probabilities)
"""


def random_patches(size: tuple[int, int]) -> np.ndarray:
    """Return four images of large random patches, as different as images can be."""
    patches = np.random.default_rng(1).integers(0, 256, (4, 3, 4, 3))
    images = np.kron(patches, np.ones((1, size[0] // 3 + 1, size[1] // 4 + 1, 1), "float32"))
    return images[:, : size[0], : size[1]].astype("float32")


def settle(network: keras.Model, images: np.ndarray) -> None:
    """Give batch normalisation the statistics of the images, as training does, so that outputs differ between images.

    One variance per layer: four images leave channels that hardly vary, and would amplify every rounding error.
    """
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0
    network(images, training=True)
    for layer in norms:
        variance = keras.ops.convert_to_numpy(layer.moving_variance)
        layer.moving_variance.assign(np.full_like(variance, variance.mean()))


@pytest.mark.timeout(1200)
def test_both_backends_agree_to_four_digits(tmp_path: Path) -> None:
    pytest.importorskip(OTHER)
    here: dict[str, list[np.ndarray]] = {}
    for name in models.names():
        keras.utils.set_random_seed(1)
        size = (models.card(name).min_side + 3, models.card(name).min_side + 10)
        network, images = models.build(name, size), random_patches(size)
        settle(network, images)
        both = keras.Model(network.input, [network.get_layer("pool").input, network.output])
        here[name] = [keras.ops.convert_to_numpy(answer) for answer in both(images, training=False)]
        network.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", images)
    quick = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # compiling for one answer takes longest
    env = os.environ | quick | {"KERAS_BACKEND": OTHER, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run(
        [sys.executable, "-c", ANSWER, *(str(tmp_path / f"{name}.keras") for name in here)], env=env, check=True
    )
    for name, (features, probabilities) in here.items():
        there = np.load(tmp_path / f"{name}.npz")
        scale = np.abs(features).max()
        assert np.abs(features[0] - features[1]).max() > 0.05 * scale, f"{name} sees no difference"
        assert np.abs(features - there["features"]).max() < 1e-4 * scale, name
        assert np.abs(probabilities - there["probabilities"]).max() < 1e-4, name
