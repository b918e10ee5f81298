"""The networks: what is true of each of them, and the mistakes that are easily made in one of them.

What is expected of a network stands on its card. A toy that is registered here, outside the package, is held to
the same. Graphs are built once for a network, size and number of classes; steps run eagerly, because tracing NASNet
takes longer than one step. Nothing here depends on the backend.
"""

import functools
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from scipy import special

import bloodcell_lib
from bloodcell_lib import lesson as lessons
from bloodcell_lib import models
from bloodcell_lib.models import applications, attention56, cost, googlenet, ood, registry, shufflenetv2, squeezenet
from bloodcell_lib.models.saved import Saved

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

APPLICATIONS = {  # the module and the function of keras.applications
    "xception": ("xception", "Xception"),
    "inceptionv3": ("inception_v3", "InceptionV3"),
    "resnet50": ("resnet50", "ResNet50"),
    "nasnet": ("nasnet", "NASNetMobile"),
}

# All that is written for a network outside the package: this card and this function.
TOY = models.Card(
    name="toy",
    title="A toy",
    year=2024,
    paper="no paper",
    idea="One convolution sees edges, and edges alone.",
    parameters=216 + 32 + 36,
    min_side=8,
    preprocessing="pixels / 255",
)


def toy(inputs: keras.KerasTensor, num_classes: int, weights: str | None) -> keras.Model:
    x = layers.Conv2D(8, 3, use_bias=False)(layers.Rescaling(1 / 255)(inputs))
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(inputs, x)


every = pytest.mark.parametrize("name", [*models.names(), TOY.name])
lesson = pytest.mark.parametrize("name", models.lessons())


@pytest.fixture(autouse=True)
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the toy in a copy of the registry, which the test may change."""
    monkeypatch.setattr(registry, "_NETWORKS", dict(registry._NETWORKS))
    models.register(TOY)(toy)


@functools.cache
def network(name: str, size: tuple[int, int] | None = None, num_classes: int = 4) -> keras.Model:
    keras.utils.set_random_seed(0)
    return models.build(name, size or (models.card(name).min_side,) * 2, num_classes)


def odd(name: str) -> tuple[int, int]:
    side = max(77, models.card(name).min_side | 1)
    return side, side + 24


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


@pytest.mark.parametrize("name", models.names())
def test_features_that_tell_unusual_images_are_finite_and_not_all_alike(name):
    found = ood.extractor(network(name, odd(name))).predict(pixels(name, size=odd(name)), verbose=0)
    assert len(found) == 4 and found.shape[1] >= 16 and np.isfinite(found).all()
    assert (found.std(0) > 0).mean() > 0.5


@every
def test_the_embedding_is_all_that_the_classes_are_computed_from(name):
    about = Saved(Path(), network(name), {}, None)
    kernel, bias = [layer for layer in about.network.layers if layer.weights][-1].get_weights()
    scores = run(about.embedding, pixels(name)) @ kernel.reshape(-1, 4) + bias
    assert run(about.network, pixels(name)) == pytest.approx(special.softmax(scores, -1), abs=1e-5)


def test_names_are_the_lessons_in_their_order_then_the_others():
    numbers = [models.card(name).lesson for name in models.lessons()]
    assert numbers == sorted(numbers) and None not in numbers
    models.register(replace(TOY, name="later"))(toy)
    models.register(replace(TOY, name="first", lesson=0))(toy)
    assert models.lessons()[0] == "first"
    assert models.names() == [*models.lessons(), "toy", "later"]


def test_a_module_in_the_package_registers_by_being_there(tmp_path):
    package = Path(bloodcell_lib.__file__).parent
    shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / package.name / "models" / "tenth.py").write_text(
        "from bloodcell_lib.models.registry import Card, register\n"
        "register(Card('a_tenth', 'Tenth', 2024, 'none', 'None.', 10, 8, 'none', lesson=10))(print)\n"
    )
    ask = "from bloodcell_lib import models; print(models.names(), models.lessons()[-1], models.tenth.__name__)"
    told = subprocess.run(
        [sys.executable, "-c", ask],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.strip() == f"{[*models.lessons(), 'a_tenth']} a_tenth bloodcell_lib.models.tenth"


@every
def test_card_is_complete(name):
    card = models.card(name)
    assert card.name == name and card.title and 2012 <= card.year <= 2026
    assert card.paper and card.preprocessing
    assert card.idea.endswith(".") and len(card.idea) < 120


@lesson
def test_lesson_states_everything_that_is_expected(name):
    card = models.card(name)
    assert card.notes and card.expected.stages
    assert None not in (card.expected.parameters_1000, card.expected.statistics, card.expected.multiply_adds)
    assert (card.norm_momentum is None) == (card.expected.statistics == 0)


def test_the_paper_has_a_row_for_each_of_nine_lessons():
    rows = {name: models.card(name).table1 for name in models.names() if models.card(name).table1}
    assert list(rows) == models.lessons()[:9]
    parts = "", "val_", "test_"
    for row in rows.values():
        assert list(row) == [part + metric for metric in ("accuracy", "loss") for part in parts]
        assert all(0.7 < row[f"{part}accuracy"] < 1 and 0 < row[f"{part}loss"] < 2.1 for part in parts)
    best = max(rows, key=lambda name: rows[name]["val_accuracy"])
    assert (best, rows[best]["val_accuracy"], rows["cnn"]["test_loss"]) == ("nasnet", 0.97, 2.0388)


@every
def test_parameters_for_4_and_1000_classes(name):
    card, model = models.card(name), network(name)
    assert model.count_params() == card.parameters
    assert card.expected.parameters_1000 in (None, network(name, odd(name), 1000).count_params())
    moving = [v for v in model.non_trainable_variables if "/moving_" in v.path]
    assert card.expected.statistics in (None, sum(int(np.prod(v.shape)) for v in moving))


@every
def test_stage_shapes_and_multiply_adds_at_224(name):
    model, expected = network(name, (224, 224)), models.card(name).expected
    rows = {row.name: row for row in cost.stages(model)}
    for stage, (side, channels) in expected.stages.items():
        assert rows[stage].shape == (side, side, channels), stage
    assert sum(row.parameters for row in rows.values()) == model.count_params()
    assert sum(row.multiply_adds for row in rows.values()) == cost.multiply_adds(model)
    assert rows["probabilities"].shape == (4,)
    assert isinstance(model.get_layer("pool"), layers.GlobalAveragePooling2D)
    if expected.multiply_adds is not None:
        assert cost.multiply_adds(model) == pytest.approx(expected.multiply_adds, abs=5e4)


@every
def test_head_is_the_classifier_alone(name):
    four, thousand = (models.head(model) for model in (network(name), network(name, odd(name), 1000)))
    assert [v.shape[-1] for v in four] == [4, 4] and [v.shape[-1] for v in thousand] == [1000, 1000]
    assert network(name).count_params() - sum(int(np.prod(v.shape)) for v in four) == network(
        name, odd(name), 1000
    ).count_params() - sum(int(np.prod(v.shape)) for v in thousand)


@every
def test_pixels_in_probabilities_out(name):
    model = network(name)
    whole = run(model, pixels(name))
    assert whole.shape == (4, 4) and whole.dtype == np.float32
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-5)
    assert np.ptp(whole, axis=0).max() > 1e-8, "the output does not depend on the image"
    np.testing.assert_array_equal(run(model, pixels(name).astype("float32")), whole)


@every
def test_a_plain_call_does_not_train(name):
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
    probabilities = run(network(name, odd(name), 1000), pixels(name, 2, odd(name)))
    assert probabilities.shape == (2, 1000)
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
    momenta = {layer.momentum for layer in loaded.layers if isinstance(layer, layers.BatchNormalization)}
    if models.card(name).norm_momentum is not None:
        assert momenta == {models.card(name).norm_momentum}


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


@every
def test_the_mean_of_a_class_map_is_the_score(name):
    images = pixels(name, 2)
    maps = models.class_maps(network(name), images)
    assert maps.ndim == 4 and maps.shape[-1] == 4
    scores = np.exp(maps.mean((1, 2)))
    assert scores / scores.sum(1, keepdims=True) == pytest.approx(run(network(name), images), abs=1e-5)


def test_evidence_ignores_what_all_classes_have_in_common():
    model, images = models.build("cnn", (24, 32)), np.random.default_rng(0).integers(0, 256, (3, 24, 32, 3))
    maps, found = models.class_maps(model, images), models.evidence(model, images, [2, 0, 3])
    assert found[0] == pytest.approx(maps[0, ..., 2] - maps[0].mean(-1), abs=1e-5)
    last = model.get_layer("probabilities")
    kernel, bias = last.get_weights()
    last.set_weights([kernel + np.arange(len(kernel))[:, None], bias + 7])
    assert not np.allclose(models.class_maps(model, images), maps, atol=1)
    assert models.evidence(model, images, [2, 0, 3]) == pytest.approx(found, abs=1e-3)


def test_the_share_of_evidence_inside_a_box_by_hand():
    maps = np.array([[[3.0, 1.0], [-5.0, 4.0]]] * 3)  # places of 10 x 20 pixels
    boxes = np.array([(0, 0, 20, 10), (10, 5, 40, 20), (0, 0, 40, 20)])
    shares = [3 / 8, (3 / 4 + 1 / 2 + 4) / 8, 1]
    assert models.share_inside(maps, boxes, (20, 40)) == pytest.approx(shares)


def test_class_maps_name_the_layers_that_they_need():
    plain = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(2)], name="plain")
    with pytest.raises(ValueError, match="plain has no class maps.*'pool'.*'probabilities'"):
        models.class_maps(plain, np.zeros((1, 8, 8, 3)))


@pytest.mark.parametrize("name", APPLICATIONS)
def test_preprocessing_is_that_of_the_published_weights(name):
    model = network(name)
    first = next(layer for layer in model.layers if isinstance(layer, (layers.ZeroPadding2D, layers.Conv2D)))
    published = getattr(keras.applications, APPLICATIONS[name][0])
    expected = published.preprocess_input(pixels(name).astype("float32"))
    np.testing.assert_allclose(run(keras.Model(model.input, first.input), pixels(name)), expected, atol=1e-4)


def save_as_published(body: keras.Model, path: Path) -> None:
    """Write weights in the layout of the files that Keras publishes: HDF5, layers at the root."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body.save(path.with_suffix(".whole.h5"))
    with h5py.File(path.with_suffix(".whole.h5")) as whole, h5py.File(path, "w") as file:
        weights = whole["model_weights"]
        file.attrs.update(weights.attrs)
        for layer in weights:
            whole.copy(weights[layer], file)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give Keras an empty home, and no connection."""

    def refuse(*arguments, **options):
        raise OSError("no connection")

    home = str(tmp_path / "keras home")
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("KERAS_HOME", home)
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", home)  # Keras reads the variable on import


@pytest.mark.parametrize("name", APPLICATIONS)
def test_published_weights_are_taken_from_the_file_that_the_error_names(name, offline):
    side = models.card(name).min_side
    with pytest.raises(ValueError, match=f"weights of {name} are missing") as refusal:
        models.build(name, (side, side), weights="imagenet")
    file, folder = re.search(r"Place the file (\S+) in (.+), or give", str(refusal.value)).groups()
    assert file.replace("_", "-") in str(refusal.value.__cause__).replace("_", "-").lower(), "Keras wants another file"
    application = getattr(keras.applications, APPLICATIONS[name][1])
    body = application(include_top=False, weights=None, input_shape=(side, side, 3))
    rng = np.random.default_rng(0)
    body.set_weights([rng.random(v.shape, "float32") for v in body.weights])
    save_as_published(body, Path(folder) / file)
    loaded = models.build(name, (side, side), weights="imagenet")
    assert len(loaded.weights) == len(body.weights) + len(models.head(loaded))
    for ours, published in zip(loaded.get_weights(), body.get_weights(), strict=False):
        np.testing.assert_array_equal(ours, published)


def test_missing_and_broken_imagenet_weights_are_named(monkeypatch, tmp_path):
    def application(weights, **arguments):
        asked.append(weights)
        raise Exception("it cannot be read")

    asked = []
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    inputs = keras.Input((32, 32, 3), name="pixels")
    arguments = "net", application, applications.minus_one_to_one, "net_notop.h5", inputs, 4
    with pytest.raises(ValueError, match=rf"net_notop\.h5 in {tmp_path}/models"):
        applications.network(*arguments, "imagenet")
    file = tmp_path / "models" / "net_notop.h5"
    file.parent.mkdir()
    file.touch()
    with pytest.raises(ValueError, match=rf"{file} does not hold .* of net: replace or remove it"):
        applications.network(*arguments, "imagenet")
    with pytest.raises(Exception, match="it cannot be read"):
        applications.network(*arguments, None)
    assert asked == ["imagenet", str(file), None] and file.exists()


def test_shuffle_interleaves_the_halves():
    x = keras.Input((2, 3, 6))
    values = np.arange(36, dtype="float32").reshape(1, 2, 3, 6)
    shuffled = run(keras.Model(x, shufflenetv2.shuffle(x, "test")), values)
    np.testing.assert_array_equal(shuffled, values[..., [0, 3, 1, 4, 2, 5]])


def test_shuffle_unit_passes_one_half_and_processes_the_other():
    x = keras.Input((4, 4, 8))
    values = np.random.default_rng(0).normal(size=(1, 4, 4, 8)).astype("float32")
    out = run(keras.Model(x, shufflenetv2.unit(x, "test")), values)
    np.testing.assert_array_equal(out[..., ::2], values[..., :4])
    assert (out[..., 1::2] >= 0).all() and out[..., 1::2].any()


def test_depthwise_convolutions_see_one_channel_and_no_activation_follows():
    model = network("shufflenetv2")
    made_by = {id(layer.output): layer for layer in model.layers}
    depthwise = [layer for layer in model.layers if isinstance(layer, layers.DepthwiseConv2D)]
    assert len(depthwise) == 19
    for layer in depthwise:
        assert layer.kernel.shape == (3, 3, layer.input.shape[-1], 1)
        assert layer.activation is keras.activations.linear and not layer.use_bias
    for relu in (layer for layer in model.layers if isinstance(layer, layers.ReLU)):
        norm = made_by[id(relu.input)]
        assert not isinstance(made_by[id(norm.input)], layers.DepthwiseConv2D), relu.name


def test_residual_unit_adds_to_its_unchanged_input():
    x = keras.Input((5, 4, 8))
    model = keras.Model(x, attention56.unit(x, 8, "test"))
    last = model.get_layer("test_3_conv")
    last.kernel.assign(keras.ops.zeros_like(last.kernel))
    values = np.random.default_rng(0).normal(size=(2, 5, 4, 8)).astype("float32")
    np.testing.assert_array_equal(run(model, values), values)


def test_residual_unit_projects_the_activated_input_where_the_width_changes():
    x = keras.Input((5, 4, 8))
    model = keras.Model(x, attention56.unit(x, 16, "test", strides=2))
    assert model.output.shape == (None, 3, 2, 16)
    assert model.get_layer("test_shortcut_conv").input is model.get_layer("test_1_relu").output
    assert model.get_layer("test_2_conv").strides == (2, 2)


def test_mask_weights_the_trunk():
    model = network("attention56")
    for number in 1, 2, 3:
        ends = (f"attention{number}_{part}" for part in ("mask", "trunk2_add", "add"))
        mask, trunk, out = run(
            keras.Model(model.input, [model.get_layer(end).output for end in ends]), pixels("attention56")
        )
        assert 0 < mask.min() < mask.max() < 1
        np.testing.assert_allclose(out, (1 + mask) * trunk, rtol=1e-5, atol=1e-5)


def test_mask_sees_smaller_and_smaller_maps():
    model = network("attention56", (224, 224))
    for number, sides in (1, (28, 14, 7)), (2, (14, 7)), (3, (7,)):
        pools = [
            layer
            for layer in model.layers
            if isinstance(layer, layers.MaxPooling2D) and layer.name.startswith(f"attention{number}_")
        ]
        assert tuple(layer.output.shape[1] for layer in pools) == sides


def test_hourglass_returns_to_any_size():
    x = keras.Input((7, 13, 8))
    assert attention56.hourglass(x, 3, "test").shape == x.shape


def test_squeezenet_poolings_round_up():
    rows = {row.name: row.shape for row in cost.stages(network("squeezenet", (77, 101), 1000))}
    assert [rows[f"pool{number}"][:2] for number in (1, 2, 3)] == [(18, 24), (9, 12), (4, 6)]


def test_squeezenet_class_maps_may_be_negative():
    model = network("squeezenet")
    assert run(keras.Model(model.input, model.get_layer("conv10").output), pixels("squeezenet")).min() < 0


def test_auxiliary_heads_teach_the_layers_below_them():
    model = models.build("googlenet", (40, 56))
    heads, weight = models.auxiliary(model)
    training = keras.Model(model.input, [model.output, *heads])
    assert weight == models.card("googlenet").auxiliary_weight == 0.3
    assert training.count_params() == 10_338_188
    assert [output.shape for output in training.outputs] == [(None, 4)] * 3
    x, y = pixels("googlenet", 4, (40, 56)), np.arange(4)
    np.testing.assert_allclose([output.sum(axis=1) for output in run(training, x)], 1, atol=1e-5)
    before = run(model, x)
    losses = ["sparse_categorical_crossentropy"] * 3
    moved = {
        path.split("/")[0].split("_")[0]
        for path in step(training, x, [y] * 3, loss=losses, loss_weights=[0, weight, weight])
    }
    below = {"conv1", "conv2", *(f"inception{stage}" for stage in ("3a", "3b", "4a", "4b", "4c", "4d"))}
    assert moved == {*below, "auxiliary1", "auxiliary2"}
    assert np.abs(run(model, x) - before).max() > 1e-6, "the heads train a copy of the network"


def test_auxiliary_heads_are_attached_to_inception_4a_and_4d():
    model = network("googlenet")
    for output, deepest in zip(models.auxiliary(model)[0], ("inception4a", "inception4d"), strict=True):
        names = {layer.name.split("_")[0] for layer in keras.Model(model.input, output).layers}
        assert max(name for name in names if name.startswith("inception")) == deepest


def test_auxiliary_heads_are_made_anew():
    model = network("googlenet")
    first, second = (keras.Model(model.input, models.auxiliary(model)[0]) for _ in range(2))
    assert first.get_layer("auxiliary1_hidden").kernel is not second.get_layer("auxiliary1_hidden").kernel
    assert first.get_layer("conv1_conv").kernel is second.get_layer("conv1_conv").kernel


@every
def test_auxiliary_heads_belong_to_networks_whose_card_has_their_weight(name):
    heads, weight = models.auxiliary(network(name))
    assert (bool(heads), weight) == ((False, 0.0) if models.card(name).auxiliary_weight is None else (True, weight))
    assert weight == (models.card(name).auxiliary_weight or 0.0)


def test_auxiliary_heads_follow_the_network_and_not_its_name():
    card = replace(models.card("googlenet"), name="twin", lesson=None, auxiliary_weight=0.5)
    models.register(card, googlenet.auxiliary)(googlenet.googlenet)
    twin = models.build("twin", (32, 32))
    heads, weight = models.auxiliary(twin)
    assert twin.name == "twin" and len(heads) == 2 and weight == 0.5
    stranger = keras.Sequential([keras.Input((4,)), layers.Dense(2)], name="googlenet")
    assert models.auxiliary(stranger) == ([], 0.0)


def test_auxiliary_heads_and_their_weight_come_together():
    card = replace(TOY, name="half", auxiliary_weight=0.5)
    with pytest.raises(ValueError, match="half has no auxiliary heads and auxiliary_weight=0.5"):
        models.register(card)(toy)
    with pytest.raises(ValueError, match="half has auxiliary heads and auxiliary_weight=None"):
        models.register(replace(card, auxiliary_weight=None), lambda network: [])(toy)


def test_cost_is_what_a_count_by_hand_gives():
    x = keras.Input((8, 6, 3), name="pixels")
    y = layers.Conv2D(4, 3, 2, "same", name="a_conv")(x)  # 4x3 positions, 3x3x3 weights for 4 channels
    y = layers.BatchNormalization(name="a_norm")(y)
    y = layers.DepthwiseConv2D(3, padding="same", name="b_depthwise")(y)  # 3x3 weights for each of 4 channels
    y = layers.SeparableConv2D(5, 3, padding="valid", name="b_separable")(y)  # 2x1 positions
    y = layers.Conv2D(10, 1, groups=5, name="c_grouped")(y)  # each filter sees one channel
    y = layers.GlobalAveragePooling2D(name="d_pool")(y)
    model = keras.Model(x, layers.Dense(2, name="d_dense")(y))
    assert [row[1:] for row in cost.stages(model)] == [
        ((8, 6, 3), 0, 0),
        ((4, 3, 4), 112 + 16, 12 * 108),
        ((2, 1, 5), 40 + 61, 12 * 36 + 2 * (36 + 20)),
        ((2, 1, 10), 20, 2 * 10),
        ((2,), 22, 20),
    ]
    assert cost.multiply_adds(model) == 1296 + 432 + 112 + 20 + 20
    assert cost.table(model).loc["total"].tolist() == ["2", "271", "1,880"]


def test_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match=r"'vgg'.*cnn.*nasnet"):
        models.card("vgg")
    for name in ("vgg", ["cnn"], None):
        with pytest.raises(ValueError, match=f"{re.escape(repr(name))}.*cnn.*nasnet"):
            models.build(name)


def test_integers_of_numpy_are_whole_numbers():
    built = models.build("cnn", np.array([16, 20]), np.int64(3))
    assert built.input_shape == (None, 16, 20, 3) and built.output_shape == (None, 3)
    assert models.build("cnn", (16, 20), 3).to_json() == built.to_json()


def test_a_name_is_used_once():
    with pytest.raises(ValueError, match="'cnn' is registered already"):
        models.register(models.card("cnn"))(toy)


def test_a_lesson_number_is_used_once():
    with pytest.raises(ValueError, match="other cannot be lesson 3, which is inceptionv3"):
        models.register(replace(TOY, name="other", lesson=3))(toy)
    assert "other" not in models.names()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": (120,)}, "image_size=.*height, width"),
        ({"image_size": (120.0, 160)}, "image_size=.*whole pixels"),
        ({"image_size": (0, 160)}, "at least 16"),
        ({"image_size": 75}, "image_size=75. Give .height, width"),
        ({"image_size": None}, "image_size=None. Give .height, width"),
        ({"image_size": "75"}, "image_size='75'. Give .height, width"),
        ({"num_classes": 1}, "num_classes=1.*at least 2"),
        ({"num_classes": 4.0}, "num_classes=4.0"),
        ({"weights": "imagenet"}, "cnn has no weights 'imagenet'"),
    ],
)
def test_what_cannot_work_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.build("cnn", **arguments)
    with pytest.raises(ValueError, match=message):
        models.check("cnn", **{"image_size": (120, 160)} | arguments)


@every
def test_imagenet_weights_only_where_keras_has_them(name):
    published = name in APPLICATIONS
    assert models.card(name).imagenet == published
    with pytest.raises(ValueError, match="None or 'imagenet'" if published else "None are published"):
        models.build(name, weights="noisy-student")


def parameters(name: str, prefix: str) -> int:
    return sum(layer.count_params() for layer in network(name).layers if layer.name.startswith(prefix))


def receptive_field() -> int:
    """Of one place of the last map of the four-layer CNN: a convolution and a pooling, four times."""
    side, step = 1, 1
    for _ in range(4):
        side, step = side + 2 * step + step, 2 * step
    return side


def fire(squeeze: int) -> int:
    inputs = keras.Input((13, 13, 512))
    return keras.Model(inputs, squeezenet.fire(inputs, squeeze, 256, "fire9")).count_params()


def bypassed() -> list[str]:
    """The fire modules of SqueezeNet that have as many channels behind them as before them."""
    ends = [layer for layer in network("squeezenet").layers if layer.name.endswith("_concat")]
    before = [network("squeezenet").get_layer(f"{end.name[:5]}_squeeze").input.shape[-1] for end in ends]
    return [end.name for end, channels in zip(ends, before, strict=True) if end.output.shape[-1] == channels]


def moved_strides() -> int:
    """Multiply-adds that ResNet-50 gains at 224 x 224 where its 1 x 1 convolutions with stride 2 have none."""
    first = [network("resnet50", (224, 224)).get_layer(f"conv{stage}_block1_1_conv") for stage in (3, 4, 5)]
    return sum(3 * cost.layer_multiply_adds(layer) for layer in first)


def by_gradients() -> tuple[int, ...]:
    """Parameters of GoogLeNet up to the first head, up to the second, and behind both."""
    rows = cost.stages(network("googlenet"))
    first, second = ([row.name for row in rows].index(f"inception{module}") + 1 for module in ("4a", "4d"))
    return tuple(sum(row.parameters for row in part) for part in (rows[:first], rows[first:second], rows[second:]))


def shuffles() -> int:
    once, count = np.arange(12).reshape(2, 6).T.ravel(), 1
    order = once
    while (order != np.arange(12)).any():
        order, count = order[once], count + 1
    return count


ANSWERS = {
    "00.1": lambda: [round(0.95 * share / (0.95 * share + 0.05 * (1 - share)), 2) for share in (0.25, 0.03)],
    "00.3": lambda: [round(196 * np.sqrt(0.9 * 0.1 / count), 2) for count in (2487, 71)],
    "01.1": lambda: parameters("cnn", "block3"),
    "01.2": receptive_field,
    "02.1": lambda: parameters("xception", "block14"),
    "02.2": lambda: sum(
        (25 - 9) * layer.input.shape[-1]
        for layer in network("xception").layers
        if isinstance(layer, layers.SeparableConv2D)
    ),
    "02.3": lambda: np.linalg.matrix_rank(np.random.default_rng(0).normal(size=(9, 64))),
    "03.1": lambda: {row.name: row.parameters for row in cost.stages(network("inceptionv3"))}["mixed0"],
    "03.2": lambda: np.linalg.matrix_rank(np.eye(7)),
    "03.3": lambda: np.prod(network("inceptionv3", (120, 160)).get_layer("pool").input.shape[1:3]),
    "04.1": lambda: parameters("resnet50", "conv4_block2"),
    "04.2": moved_strides,
    "05.1": lambda: fire(128) - fire(64),
    "05.2": lambda: len(bypassed()),
    "06.1": lambda: parameters("googlenet", "inception5b"),
    "06.2": lambda: max(m for m in range(64) if 9 * 16 * m + 9 * m * 32 < 25 * 16 * 32),
    "06.3": by_gradients,
    "07.1": lambda: parameters("shufflenetv2", "stage2_unit2"),
    "07.2": shuffles,
    "08.1": lambda: {row.name: row.parameters for row in cost.stages(network("attention56"))}["attention2"],
    "08.2": lambda: np.lcm.reduce([4 * 2**3, 8 * 2**2, 16 * 2]),
    "09.1": lambda: {row.name: row.parameters for row in cost.stages(network("nasnet"))}["cell_0"],
    "09.2": lambda: 22 * (4 * 4032 // 24) ** 2 + 202 * (4 * 4032 // 24),
}


@pytest.mark.parametrize("exercise", ANSWERS)
def test_an_exercise_has_the_answer_of_the_library(exercise, monkeypatch):
    said = []
    monkeypatch.setattr(lessons, "_say", said.append)
    answer = ANSWERS[exercise]()
    lessons.check(exercise, answer)
    lessons.check(exercise, np.ravel(answer) + 1)
    lessons.check(exercise, None)
    assert [text.rpartition(": ")[2] for text in said] == ["**correct**.", "not yet.", "not answered yet."]


def test_every_answer_that_is_kept_is_checked():
    with pytest.raises(ValueError, match="no answer to exercise '00.9'.*00.1, 00.3") as caught:
        lessons.check("00.9", 1)
    assert re.findall(r"\d\d\.\d", str(caught.value))[1:] == list(ANSWERS)
    with pytest.raises(ValueError, match="answer='many' cannot be checked. Give a number"):
        lessons.check("01.1", "many")
