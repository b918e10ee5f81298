"""A network trained on one backend answers the same on the other."""

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
    np.savez(path.replace(".keras", f".{keras.backend.backend()}.npz"), features=features, probabilities=probabilities)
"""


def answer(backend: str, paths: list[Path]) -> None:
    env = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", ANSWER, *map(str, paths)], env=env, check=True)


@pytest.mark.timeout(1200)
def test_both_backends_agree_to_four_digits(tmp_path):
    pytest.importorskip(OTHER)
    paths = []
    for name in models.names():
        keras.utils.set_random_seed(1)
        size = (models.card(name).min_side + 3, models.card(name).min_side + 10)
        network = models.build(name, size)
        images = np.random.default_rng(1).integers(0, 256, (4, 3, 4, 3)).repeat(size[0] // 3, 1).repeat(size[1] // 4, 2)
        images = keras.ops.image.resize(images.astype("float32"), size, interpolation="nearest")
        for layer in network.layers:  # as after training: the running means and variances are those of the images
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.0
        network(images, training=True)
        paths.append(tmp_path / f"{name}.keras")
        network.save(paths[-1])
        np.save(tmp_path / f"{name}.npy", keras.ops.convert_to_numpy(images))
    for backend in (keras.backend.backend(), OTHER):
        answer(backend, paths)
    for name in models.names():
        here, there = (np.load(tmp_path / f"{name}.{backend}.npz") for backend in (keras.backend.backend(), OTHER))
        scale = np.abs(here["features"]).max()
        assert scale > 0 and np.abs(here["features"] - there["features"]).max() < 1e-4 * scale, name
        assert np.abs(here["probabilities"] - there["probabilities"]).max() < 1e-4, name
        assert np.abs(here["features"][0] - here["features"][1]).max() > 0.05 * scale, f"{name} sees no difference"
