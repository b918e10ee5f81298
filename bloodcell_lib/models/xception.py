"""Xception, from Keras: convolutions that look at space and channels one after the other."""

import keras

from bloodcell_lib.models import applications
from bloodcell_lib.models.registry import Card, register


@register(
    Card(
        name="xception",
        title="Xception",
        year=2017,
        paper="F. Chollet, Xception: Deep Learning with Depthwise Separable Convolutions, CVPR 2017",
        idea="A filter need not look at space and channels at once: a depthwise convolution, then a 1x1 one.",
        parameters=20_869_676,
        min_side=71,
        preprocessing="pixels / 127.5 - 1",
        imagenet=True,
        notes="keras.applications.Xception with a new softmax. Batch-norm momentum 0.99, epsilon 1e-3; Glorot "
        "initialisation; no dropout and no weight decay (the paper has both). Padding 'same', but none in "
        "the first two convolutions.",
    )
)
def xception(inputs, num_classes: int, weights: str | None = None) -> keras.Model:
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
