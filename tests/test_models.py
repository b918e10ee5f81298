"""The networks: what holds for each of them."""

import functools

import keras
import numpy as np
import pytest
from keras import layers

from bloodcell_lib import LESSONS, models
from bloodcell_lib.models import registry

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# Parameters for 4 and for 1000 classes, counted by hand from the widths.
COUNTS = {"cnn": (390_884, 646_856)}

every = pytest.mark.parametrize("name", models.names())


@functools.cache
def network(name: str, size: tuple[int, int] | None = None, num_classes: int = 4) -> keras.Model:
    keras.utils.set_random_seed(0)
    return models.build(name, size or (models.card(name).min_side,) * 2, num_classes)


def pixels(name: str, batch: int = 4, size: tuple[int, int] | None = None) -> np.ndarray:
    size = size or (models.card(name).min_side,) * 2
    return np.random.default_rng(0).integers(0, 256, (batch, *size, 3), dtype=np.uint8)


def run(model: keras.Model, x):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))


def step(model: keras.Model, x, y, **loss) -> set[str]:
    """Take one step of gradient descent and return the paths of the variables that it moved."""
    model.compile(keras.optimizers.SGD(1.0), run_eagerly=True, **loss)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    model.train_on_batch(x, y)
    after = {v.path: v.numpy() for v in model.trainable_variables}
    assert all(np.isfinite(value).all() for value in after.values())
    return {path for path in before if (before[path] != after[path]).any()}


def test_names_are_the_lessons_in_their_order():
    assert tuple(models.names()) == LESSONS


@every
def test_parameters_for_4_and_1000_classes(name):
    four, thousand = COUNTS[name]
    assert models.card(name).parameters == network(name).count_params() == four
    assert network(name, num_classes=1000).count_params() == thousand


@every
def test_pixels_in_probabilities_out(name):
    model = network(name)
    whole = run(model, pixels(name))
    assert whole.shape == (4, 4) and whole.dtype == np.float32
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-5)
    assert np.ptp(whole, axis=0).max() > 1e-8, "the output does not depend on the image"
    np.testing.assert_array_equal(run(model, pixels(name).astype("float32")), whole)


@every
def test_called_plainly_it_does_not_train(name):
    model = network(name)
    before = model.get_weights()
    answer = keras.ops.convert_to_numpy(model(pixels(name)))
    np.testing.assert_array_equal(answer, run(model, pixels(name)))
    assert all((old == new).all() for old, new in zip(before, model.get_weights(), strict=True))


@every
def test_one_less_than_the_smallest_side_is_refused(name):
    side = models.card(name).min_side
    for size in (side - 1, side), (side, side - 1):
        with pytest.raises(ValueError, match=rf"{name}.*at least {side}"):
            models.build(name, size)


@every
def test_sides_may_be_odd_and_differ(name):
    probabilities = run(network(name, (77, 101)), pixels(name, 2, (77, 101)))
    assert probabilities.shape == (2, 4)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@every
def test_every_weight_learns(name):
    model = network(name)
    start = model.get_weights()
    moved = step(model, pixels(name), np.arange(4), loss="sparse_categorical_crossentropy")
    model.set_weights(start)
    assert {v.path for v in model.trainable_variables} - moved == set()


@every
def test_saved_and_loaded_it_answers_the_same(name, tmp_path):
    model = network(name)
    model.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras", safe_mode=True)
    np.testing.assert_array_equal(run(loaded, pixels(name)), run(model, pixels(name)))
    assert loaded.name == name


@every
def test_mixed_precision_computes_small_and_answers_in_float32(name):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.build(name, (models.card(name).min_side,) * 2)
    finally:
        keras.config.set_dtype_policy(policy)
    convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
    assert {layer.compute_dtype for layer in convolutions} == {"bfloat16"}
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    probabilities = run(model, pixels(name, 2))
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match="'vgg'.*cnn"):
        models.card("vgg")
    with pytest.raises(ValueError, match="'vgg'.*cnn"):
        models.build("vgg")


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="'cnn' is registered already"):
        registry.register(models.card("cnn"))(lambda *arguments: None)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"image_size": (120,)}, "image_size=.*height, width"),
    ({"image_size": (120.0, 160)}, "image_size=.*whole pixels"),
    ({"image_size": (0, 160)}, "at least 16"),
    ({"num_classes": 1}, "num_classes=1.*2 at least"),
    ({"num_classes": 4.0}, "num_classes=4.0"),
    ({"weights": "imagenet"}, "cnn has no weights 'imagenet'"),
])
def test_what_cannot_work_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.build("cnn", **arguments)
