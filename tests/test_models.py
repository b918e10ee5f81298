"""The networks: what holds for each of them, and the mistakes that are easily made in one of them.

Graphs are built once for a network, size and number of classes; steps run eagerly, because tracing NASNet
takes longer than one step. Nothing here depends on the backend.
"""

import functools

import keras
import numpy as np
import pytest
from keras import layers

from bloodcell_lib import models
from bloodcell_lib.models import applications, attention56, cost, registry, shufflenetv2

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ORDER = [
    "cnn",
    "xception",
    "inceptionv3",
    "resnet50",
    "squeezenet",
    "googlenet",
    "shufflenetv2",
    "attention56",
    "nasnet",
]

# Parameters for 4 and for 1000 classes, how many of them are batch-norm statistics, and the multiply-adds of
# a 224x224 image with 4 classes, in thousands of millions: counted from the reference implementations.
COUNTS = {
    "cnn": (390_884, 646_856, 960, 0.73699),
    "xception": (20_869_676, 22_910_480, 54_528, 4.55084),
    "inceptionv3": (21_810_980, 23_851_784, 34_432, 2.83588),
    "resnet50": (23_595_908, 25_636_712, 53_120, 3.85593),
    "squeezenet": (737_476, 1_248_424, 0, 0.7327),
    "googlenet": (5_999_492, 7_020_392, 14_560, 1.58165),
    "shufflenetv2": (1_273_884, 2_294_784, 16_180, 0.14389),
    "attention56": (29_842_628, 31_883_432, 72_704, 6.26880),
    "nasnet": (4_273_944, 5_326_716, 36_738, 0.56259),
}

# Side and channels at the end of a stage for a 224x224 image, from the papers' tables.
SHAPES = {
    "cnn": {"block1": (112, 32), "block2": (56, 64), "block3": (28, 128), "block4": (14, 256)},
    "xception": {
        "block1": (109, 64),
        "block2": (55, 128),
        "block3": (28, 256),
        "block4": (14, 728),
        "block12": (14, 728),
        "block13": (7, 1024),
        "block14": (7, 2048),
    },
    "inceptionv3": {
        "stem": (25, 192),
        "mixed0": (25, 256),
        "mixed1": (25, 288),
        "mixed2": (25, 288),
        "mixed3": (12, 768),
        "mixed7": (12, 768),
        "mixed8": (5, 1280),
        "mixed9": (5, 2048),
        "mixed10": (5, 2048),
    },
    "resnet50": {"conv1": (112, 64), "conv2": (56, 256), "conv3": (28, 512), "conv4": (14, 1024), "conv5": (7, 2048)},
    "squeezenet": {
        "conv1": (109, 96),
        "fire2": (54, 128),
        "fire3": (54, 128),
        "fire4": (54, 256),
        "fire5": (27, 256),
        "fire6": (27, 384),
        "fire7": (27, 384),
        "fire8": (27, 512),
        "fire9": (13, 512),
        "conv10": (13, 1000),
    },
    "googlenet": {
        "conv2": (56, 192),
        "inception3a": (28, 256),
        "inception3b": (28, 480),
        "inception4a": (14, 512),
        "inception4b": (14, 512),
        "inception4c": (14, 512),
        "inception4d": (14, 528),
        "inception4e": (14, 832),
        "inception5a": (7, 832),
        "inception5b": (7, 1024),
    },
    "shufflenetv2": {
        "stem": (56, 24),
        "stage2": (28, 116),
        "stage3": (14, 232),
        "stage4": (7, 464),
        "conv5": (7, 1024),
    },
    "attention56": {
        "stem": (56, 64),
        "residual1": (56, 256),
        "attention1": (56, 256),
        "residual2": (28, 512),
        "attention2": (28, 512),
        "residual3": (14, 1024),
        "attention3": (14, 1024),
        "residual4": (7, 2048),
    },
    "nasnet": {
        "stem": (111, 32),
        "stem_1": (56, 44),
        "stem_2": (28, 88),
        "cell_0": (28, 264),
        "cell_3": (28, 264),
        "reduce_4": (14, 352),
        "cell_8": (14, 528),
        "reduce_8": (7, 704),
        "cell_12": (7, 1056),
    },
}

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
    assert models.names() == ORDER


@every
def test_card_is_complete(name):
    card = models.card(name)
    assert card.name == name and card.title and 2012 <= card.year <= 2026
    assert all(text and not text.endswith(" ") for text in (card.paper, card.preprocessing, card.notes))
    assert card.idea.endswith(".") and len(card.idea) < 120
    told = card.notes.lower().replace("-", " ")
    assert all(word in told for word in ("batch norm", "initialisation", "dropout"))
    assert "padding" in told or name == "cnn"
    assert min(card.image_size) >= card.min_side


@every
def test_parameters_for_4_and_1000_classes(name):
    four, thousand, statistics, _ = COUNTS[name]
    small, large = network(name), network(name, (224, 224), 1000)
    assert models.card(name).parameters == small.count_params() == four
    assert large.count_params() == thousand
    moving = [v for v in small.non_trainable_variables if "/moving_" in v.path]
    assert sum(int(np.prod(v.shape)) for v in moving) == statistics


@every
def test_stage_shapes_and_multiply_adds_at_224(name):
    model = network(name, (224, 224), 1000)
    rows = {row.name: row for row in cost.stages(model)}
    for stage, (side, channels) in SHAPES[name].items():
        assert rows[stage].shape == (side, side, channels), stage
    assert sum(row.parameters for row in rows.values()) == model.count_params()
    assert sum(row.multiply_adds for row in rows.values()) == cost.multiply_adds(model)
    assert rows["probabilities"].shape == (1000,)
    assert isinstance(model.get_layer("pool"), layers.GlobalAveragePooling2D)
    head = rows["conv10" if name == "squeezenet" else "probabilities"].multiply_adds * 996 // 1000
    assert cost.multiply_adds(model) - head == pytest.approx(COUNTS[name][3] * 1e9, abs=5e4)


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
    momenta = {layer.momentum for layer in loaded.layers if isinstance(layer, layers.BatchNormalization)}
    expected = {"xception": {0.99}, "inceptionv3": {0.99}, "resnet50": {0.99}, "squeezenet": set()}
    assert momenta == expected.get(name, {0.9})


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


@pytest.mark.parametrize(
    ("name", "module"),
    [("xception", "xception"), ("inceptionv3", "inception_v3"), ("resnet50", "resnet50"), ("nasnet", "nasnet")],
)
def test_preprocessing_is_that_of_the_published_weights(name, module):
    model = network(name)
    first = next(layer for layer in model.layers if isinstance(layer, (layers.ZeroPadding2D, layers.Conv2D)))
    expected = getattr(keras.applications, module).preprocess_input(pixels(name).astype("float32"))
    np.testing.assert_allclose(run(keras.Model(model.input, first.input), pixels(name)), expected, atol=1e-4)


def test_missing_imagenet_weights_are_named(monkeypatch, tmp_path):
    def offline(**kwargs):
        asked.update(kwargs)
        raise Exception("URL fetch failure")

    asked = {}
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    inputs = keras.Input((32, 32, 3), name="pixels")
    arguments = "net", offline, applications.minus_one_to_one, "net_notop.h5", inputs, 4
    with pytest.raises(ValueError, match=rf"net_notop\.h5 in {tmp_path}/models"):
        applications.network(*arguments, "imagenet")
    assert asked["include_top"] is False and asked["weights"] == "imagenet"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "net_notop.h5").touch()
    with pytest.raises(Exception, match="URL fetch failure"):
        applications.network(*arguments, "imagenet")


def test_shuffle_deals_the_halves_in_turn():
    x = keras.Input((2, 3, 6))
    values = np.arange(36, dtype="float32").reshape(1, 2, 3, 6)
    shuffled = run(keras.Model(x, shufflenetv2.shuffle(x, "test")), values)
    np.testing.assert_array_equal(shuffled, values[..., [0, 3, 1, 4, 2, 5]])


def test_shuffle_unit_rests_one_half_and_works_on_the_other():
    x = keras.Input((4, 4, 8))
    values = np.random.default_rng(0).normal(size=(1, 4, 4, 8)).astype("float32")
    out = run(keras.Model(x, shufflenetv2.unit(x, "test")), values)
    np.testing.assert_array_equal(out[..., ::2], values[..., :4])
    assert (out[..., 1::2] >= 0).all() and out[..., 1::2].any()


def test_depthwise_convolutions_see_one_channel_and_have_no_activation_behind():
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


def test_residual_unit_adds_to_its_untouched_input():
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


def test_mask_weighs_the_trunk():
    model = network("attention56")
    for number in 1, 2, 3:
        ends = (f"attention{number}_{part}" for part in ("mask", "trunk2_add", "add"))
        mask, trunk, out = run(
            keras.Model(model.input, [model.get_layer(end).output for end in ends]), pixels("attention56")
        )
        assert 0 < mask.min() < mask.max() < 1
        np.testing.assert_allclose(out, (1 + mask) * trunk, rtol=1e-5, atol=1e-5)


def test_mask_sees_ever_smaller_maps():
    model = network("attention56", (224, 224), 1000)
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
    rows = {row.name: row.shape for row in cost.stages(network("squeezenet", (77, 101)))}
    assert [rows[f"pool{number}"][:2] for number in (1, 2, 3)] == [(18, 24), (9, 12), (4, 6)]


def test_squeezenet_class_maps_may_be_negative():
    model = network("squeezenet")
    assert run(keras.Model(model.input, model.get_layer("conv10").output), pixels("squeezenet")).min() < 0


def test_auxiliary_heads_teach_the_layers_below_them():
    model = models.build("googlenet", (40, 56))
    training = keras.Model(model.input, [model.output, *models.auxiliary(model)])
    assert training.count_params() == 10_338_188
    assert [output.shape for output in training.outputs] == [(None, 4)] * 3
    x, y = pixels("googlenet", 4, (40, 56)), np.arange(4)
    np.testing.assert_allclose([output.sum(axis=1) for output in run(training, x)], 1, atol=1e-5)
    before = run(model, x)
    moved = {
        path.split("/")[0].split("_")[0]
        for path in step(training, x, [y] * 3, loss=["sparse_categorical_crossentropy"] * 3, loss_weights=[0, 0.3, 0.3])
    }
    below = {"conv1", "conv2", *(f"inception{stage}" for stage in ("3a", "3b", "4a", "4b", "4c", "4d"))}
    assert moved == {*below, "auxiliary1", "auxiliary2"}
    assert np.abs(run(model, x) - before).max() > 1e-6, "the heads train a copy of the network"


def test_first_auxiliary_head_hangs_on_inception_4a():
    model = models.build("googlenet", (32, 32))
    for output, deepest in zip(models.auxiliary(model), ("inception4a", "inception4d"), strict=True):
        names = {layer.name.split("_")[0] for layer in keras.Model(model.input, output).layers}
        assert max(name for name in names if name.startswith("inception")) == deepest


def test_auxiliary_heads_are_made_anew_and_only_where_they_belong():
    model = network("googlenet")
    first, second = (keras.Model(model.input, models.auxiliary(model)) for _ in range(2))
    assert first.get_layer("auxiliary1_hidden").kernel is not second.get_layer("auxiliary1_hidden").kernel
    assert first.get_layer("conv1_conv").kernel is second.get_layer("conv1_conv").kernel
    assert all(models.auxiliary(network(name)) == [] for name in models.names() if name != "googlenet")
    stranger = keras.Sequential([keras.Input((4,)), layers.Dense(2)], name="stranger")
    assert models.auxiliary(stranger) == []


def test_cost_counts_what_a_hand_counts():
    x = keras.Input((8, 6, 3), name="pixels")
    y = layers.Conv2D(4, 3, 2, "same", name="a_conv")(x)  # 4x3 positions, 3x3x3 weights for 4 channels
    y = layers.BatchNormalization(name="a_norm")(y)
    y = layers.DepthwiseConv2D(3, padding="same", name="b_depthwise")(y)  # 3x3 weights for each of 4 channels
    y = layers.SeparableConv2D(5, 3, padding="valid", name="b_separable")(y)  # 2x1 positions
    y = layers.Conv2D(10, 1, groups=5, name="c_grouped")(y)  # one channel seen by each filter
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
    with pytest.raises(ValueError, match=r"'vgg'.*cnn.*nasnet"):
        models.build("vgg")


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="'cnn' is registered already"):
        registry.register(models.card("cnn"))(lambda *arguments: None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": (120,)}, "image_size=.*height, width"),
        ({"image_size": (120.0, 160)}, "image_size=.*whole pixels"),
        ({"image_size": (0, 160)}, "at least 16"),
        ({"num_classes": 1}, "num_classes=1.*2 at least"),
        ({"num_classes": 4.0}, "num_classes=4.0"),
        ({"weights": "imagenet"}, "cnn has no weights 'imagenet'"),
    ],
)
def test_what_cannot_work_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.build("cnn", **arguments)


@every
def test_imagenet_weights_only_where_keras_has_them(name):
    published = name in ("xception", "inceptionv3", "resnet50", "nasnet")
    assert models.card(name).imagenet == published
    with pytest.raises(ValueError, match="None or 'imagenet'" if published else "None are published"):
        models.build(name, weights="noisy-student")
