"""Xception, from Keras: convolutions that filter space and channels one after the other."""

import keras
from keras import KerasTensor

from bloodcell_lib.models import applications
from bloodcell_lib.models.registry import Card, Expected, register, table1

EXPECTED = Expected(
    parameters_1000=22_910_480,
    statistics=54_528,
    multiply_adds=4.55084e9,
    stages={
        "block1": (109, 64),
        "block2": (55, 128),
        "block3": (28, 256),
        "block4": (14, 728),
        "block12": (14, 728),
        "block13": (7, 1024),
        "block14": (7, 2048),
    },
)


@register(
    Card(
        name="xception",
        lesson=2,
        title="Xception",
        year=2017,
        paper="F. Chollet, Xception: Deep Learning with Depthwise Separable Convolutions, CVPR 2017",
        idea="A filter need not mix space and channels at once: a depthwise convolution, then a 1x1 convolution.",
        parameters=20_869_676,
        min_side=71,
        preprocessing="pixels / 127.5 - 1",
        imagenet=True,
        notes="keras.applications.Xception with a new softmax. Batch-norm momentum 0.99, epsilon 1e-3; Glorot "
        "initialisation; no dropout and no weight decay (the paper has both). Padding 'same', but none in "
        "the first two convolutions.",
        norm_momentum=0.99,
        table1=table1(0.97, 0.96, 0.89, 0.0459, 0.0902, 0.0129),
        expected=EXPECTED,
    )
)
def xception(inputs: KerasTensor, num_classes: int, weights: str | None = None) -> keras.Model:
    """Build Xception: entry, middle (eight times) and exit flow. Source: figure 5. See `models.build`."""
    return applications.network(
        "xception",
        keras.applications.Xception,
        applications.minus_one_to_one,
        "xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
        inputs,
        num_classes,
        weights,
    )
