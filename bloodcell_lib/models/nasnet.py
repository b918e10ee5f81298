"""NASNet-A mobile, from Keras: a cell that a search found, stacked."""

import keras
from keras import KerasTensor, layers

from bloodcell_lib.models import applications
from bloodcell_lib.models.registry import Card, Expected, register, table1

MOMENTUM = 0.9  # with Keras' 0.9997, 15 % of the initial statistics are left after 20 epochs of 311 steps

EXPECTED = Expected(
    parameters_1000=5_326_716,
    statistics=36_738,
    multiply_adds=0.56259e9,
    stages={
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
)


@register(
    Card(
        name="nasnet",
        lesson=9,
        title="NASNet-A mobile",
        year=2018,
        paper="B. Zoph et al., Learning Transferable Architectures for Scalable Image Recognition, CVPR 2018",
        idea="Search for a small cell on small images, then stack it into a network for large ones.",
        parameters=4_273_944,
        min_side=32,
        preprocessing="pixels / 127.5 - 1",
        imagenet=True,
        notes="keras.applications.NASNetMobile (4 @ 1056) with a new softmax. Deviation: batch-norm momentum 0.9 "
        "instead of Keras' 0.9997, whose running statistics would not settle within 20 epochs; epsilon 1e-3. "
        "Glorot initialisation, He for 1x1; no drop-path, auxiliary head or dropout. Padding 'same' in "
        "effect, but none in the first convolution.",
        norm_momentum=0.9,
        table1=table1(0.98, 0.97, 0.87, 0.0470, 0.0098, 0.0410),
        expected=EXPECTED,
    )
)
def nasnet(inputs: KerasTensor, num_classes: int, weights: str | None = None) -> keras.Model:
    """Build NASNet-A mobile: a stem, then three groups of four normal cells. Source: figures 2 and 4.

    See `models.build`.
    """
    model = applications.network(
        "nasnet",
        keras.applications.NASNetMobile,
        applications.minus_one_to_one,
        "nasnet_mobile_no_top.h5",
        inputs,
        num_classes,
        weights,
    )
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = MOMENTUM
    return model
