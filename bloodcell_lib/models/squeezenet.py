"""SqueezeNet 1.0: few channels enter every 3x3 filter."""

import keras
from keras import KerasTensor, initializers, layers

from bloodcell_lib.models.registry import Card, Expected, register, table1

# Squeeze width and expand width (of each kind) of the fire modules, grouped by the stages between the poolings.
STAGES = (
    (("fire2", 16, 64), ("fire3", 16, 64), ("fire4", 32, 128)),
    (("fire5", 32, 128), ("fire6", 48, 192), ("fire7", 48, 192), ("fire8", 64, 256)),
    (("fire9", 64, 256),),
)


def conv(x: KerasTensor, width: int, kernel: int, name: str, strides: int = 1, padding: str = "same") -> KerasTensor:
    """Convolution with bias and ReLU; He initialisation, because no batch normalisation sets the scale."""
    return layers.Conv2D(
        width, kernel, strides, padding, activation="relu", kernel_initializer="he_uniform", name=name
    )(x)


def fire(x: KerasTensor, squeeze: int, expand: int, name: str) -> KerasTensor:
    """Squeeze to a few channels, then expand by 1x1 and by 3x3 filters side by side.

    Source: SqueezeNet, section 3.2 and figure 1.

    Args:
        x: (batch, height, width, channels).
        squeeze: channels in between.
        expand: channels of each kind of expansion.
        name: first part of the layers' names.

    Returns:
        (batch, height, width, 2 * expand).
    """
    x = conv(x, squeeze, 1, f"{name}_squeeze")
    branches = [conv(x, expand, 1, f"{name}_expand1x1"), conv(x, expand, 3, f"{name}_expand3x3")]
    return layers.Concatenate(name=f"{name}_concat")(branches)


def pool(x: KerasTensor, name: str) -> KerasTensor:
    """Maximum pooling 3x3, stride 2, that rounds up as Caffe does: an even side is padded with one zero at its end.

    Zero is the smallest value after a ReLU, so the padding never changes a maximum.
    """
    bottom, right = (int(side % 2 == 0) for side in x.shape[1:3])
    x = layers.ZeroPadding2D(((0, bottom), (0, right)), name=f"{name}_pad")(x)
    return layers.MaxPooling2D(3, 2, name=name)(x)


EXPECTED = Expected(
    parameters_1000=1_248_424,
    statistics=0,
    multiply_adds=0.7327e9,
    stages={
        "conv1": (109, 96),
        "fire2": (54, 128),
        "fire3": (54, 128),
        "fire4": (54, 256),
        "fire5": (27, 256),
        "fire6": (27, 384),
        "fire7": (27, 384),
        "fire8": (27, 512),
        "fire9": (13, 512),
        "conv10": (13, 4),
    },
)


@register(
    Card(
        name="squeezenet",
        lesson=5,
        title="SqueezeNet 1.0",
        year=2016,
        paper="F. Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, arXiv:1602.07360",
        idea="Squeeze the channels before the costly 3x3 filters, and reduce the size of the feature maps late.",
        parameters=737_476,
        min_side=21,
        preprocessing="pixels / 127.5 - 1",
        learning_rate=3e-4,
        epochs=6,
        notes="No batch normalisation; He initialisation, but a normal distribution of standard deviation 0.01 for "
        "the class maps; dropout 0.5. Deviation: no ReLU on the class maps, because after it a class whose map "
        "is negative cannot learn. Padding as in the authors' network: none in the stem, poolings round up.",
        table1=table1(0.96, 0.94, 0.85, 0.1893, 0.0327, 0.0478),
        expected=EXPECTED,
    )
)
def squeezenet(inputs: KerasTensor, num_classes: int, weights: str | None = None) -> keras.Model:
    """Build SqueezeNet 1.0: a stem, eight fire modules, one map per class. Source: table 1.

    See `models.build`.
    """
    x = layers.Rescaling(1 / 127.5, -1, dtype="float32", name="preprocess")(inputs)
    x = conv(x, 96, 7, "conv1", strides=2, padding="valid")  # 120x160 becomes 57x77
    for number, modules in enumerate(STAGES, 1):  # then 28x38, 14x19, 7x9
        x = pool(x, f"pool{number}")
        for name, squeeze, expand in modules:
            x = fire(x, squeeze, expand, name)
    x = layers.Dropout(0.5, name="drop")(x)
    narrow = initializers.RandomNormal(stddev=0.01)
    x = layers.Conv2D(num_classes, 1, kernel_initializer=narrow, name="conv10")(x)
    x = layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)
    outputs = layers.Softmax(dtype="float32", name="probabilities")(x)
    return keras.Model(inputs, outputs, name="squeezenet")
