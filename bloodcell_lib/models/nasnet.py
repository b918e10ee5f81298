"""NASNet-A mobile, from Keras: a cell found by search, then stacked."""

import keras
from keras import layers

from bloodcell_lib.models import applications
from bloodcell_lib.models.registry import Card, register

MOMENTUM = 0.9  # Keras' 0.9997 still holds 15 % of the initial statistics after 20 epochs of 311 steps


@register(
    Card(
        name="nasnet",
        title="NASNet-A mobile",
        year=2018,
        paper="B. Zoph et al., Learning Transferable Architectures for Scalable Image Recognition, CVPR 2018",
        idea="Search for a small cell on small images, then stack it into a network for large ones.",
        parameters=4_273_944,
        min_side=32,
        preprocessing="pixels / 127.5 - 1",
        imagenet=True,
        notes="keras.applications.NASNetMobile (4 @ 1056) with a new softmax. Deviation: batch-norm momentum 0.9 "
        "where Keras has 0.9997, whose running statistics would not settle within 20 epochs; epsilon 1e-3. "
        "Glorot initialisation, He for 1x1; no drop-path, auxiliary head or dropout. Padding 'same' in "
        "effect, but none in the first convolution.",
    )
)
def nasnet(inputs, num_classes: int, weights: str | None = None) -> keras.Model:
    """Build NASNet-A mobile: a stem, then three times four normal cells. Source: figures 2 and 4.

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
