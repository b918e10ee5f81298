"""What replaces Keras' own arithmetic computes the same."""

import keras
import numpy as np
import pytest

from bloodcell_lib import backend, models, protocols, training

ON_TENSORFLOW = keras.backend.backend() == "tensorflow" and not backend.gpus()


def small(fused: bool) -> keras.Model:
    keras.utils.set_random_seed(3)
    network = models.build("cnn", (16, 20), 3)
    if fused:
        backend.fuse(network)
    return network


def trained(network: keras.Model, optimizer: keras.optimizers.Optimizer, steps: int = 5) -> list[np.ndarray]:
    """Return all weights after some steps on random images, the last batch of another size."""
    rng = np.random.default_rng(0)
    network.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=backend.jit())
    for size in (*[8] * (steps - 1), 5):
        network.train_on_batch(rng.integers(0, 256, (size, 16, 20, 3)).astype("uint8"), rng.integers(0, 3, size))
    return network.get_weights()


def equal(found: list[np.ndarray], wanted: list[np.ndarray], **tolerance: float) -> bool:
    return all(np.allclose(a, b, **tolerance) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("rate", [1e-3, keras.optimizers.schedules.CosineDecay(1e-2, 4)])
def test_adam_is_keras_adam(rate):
    rng, ends = np.random.default_rng(0), []
    gradients = [rng.normal(0, 10.0**-step, (5, 7)).astype("float32") for step in range(4)]
    for kind in (backend.Adam, keras.optimizers.Adam):
        variable, optimizer = keras.Variable(np.ones((5, 7))), kind(rate)
        optimizer.build([variable])
        for gradient in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(gradient)])
        ends.append(keras.ops.convert_to_numpy(variable))
    assert np.abs(ends[0] - 1).max() > 1e-3
    assert np.allclose(*ends, rtol=1e-6)


def test_the_body_of_published_weights_moves_slowly():
    network = small(False)
    optimizer = training.FineTuning(models.head(network), 1e-3)
    start, found = network.get_weights(), trained(network, optimizer, steps=1)
    moved = {w.path: np.abs(a - b).max() for w, a, b in zip(network.weights, start, found, strict=True)}
    assert moved["probabilities/kernel"] == pytest.approx(1e-3, rel=0.01)
    assert moved["block1_conv/kernel"] == pytest.approx(1e-4, rel=0.01)


def test_fused_normalisation_is_keras_own():
    images = np.random.default_rng(1).integers(0, 256, (7, 16, 20, 3)).astype("uint8")
    plain, fused = small(False), small(True)
    assert equal(fused.get_weights(), plain.get_weights(), atol=0)
    for training_now in (True, False):
        answers = [keras.ops.convert_to_numpy(network(images, training=training_now)) for network in (plain, fused)]
        assert np.allclose(*answers, atol=1e-5)
    assert not np.allclose(plain.get_layer("block1_norm").moving_variance, 1)
    assert equal(fused.get_weights(), plain.get_weights(), rtol=1e-4, atol=1e-6)


def test_fused_normalisation_has_keras_gradient():
    # SGD: Adam divides a gradient by its size, so that rounding decides the step of a weight that has none.
    found, wanted = (trained(small(fused), keras.optimizers.SGD(0.1), steps=3) for fused in (True, False))
    assert not equal(wanted, small(False).get_weights(), atol=1e-2)
    assert equal(found, wanted, rtol=1e-3, atol=1e-4)


def test_what_is_frozen_stays():
    network = small(True)
    network.get_layer("block1_norm").trainable = False
    before = keras.ops.convert_to_numpy(network.get_layer("block1_norm").moving_mean)
    trained(network, keras.optimizers.SGD(0.1), steps=2)
    assert np.array_equal(before, network.get_layer("block1_norm").moving_mean)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="TensorFlow without a GPU")
def test_training_uses_them_and_the_file_does_not_know(tmp_path):
    network, protocol = small(False), protocols.get("quick", image_size=(16, 20))
    norm = training.for_training(network, protocol).get_layer("block1_norm")
    assert norm.call.func is backend._normalise
    assert isinstance(training.optimizer(network, protocol, 8), backend.Adam)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras").get_layer("block1_norm")
    assert "call" not in vars(loaded)
