"""Inception v3, from Keras: large filters taken apart into small ones."""

import keras

from bloodcell_lib.models import applications
from bloodcell_lib.models.registry import Card, register


@register(
    Card(
        name="inceptionv3",
        title="Inception v3",
        year=2016,
        paper="C. Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016",
        idea="A 7x7 filter is nearly a 1x7 after a 7x1: branches of factored filters see more for the same cost.",
        parameters=21_810_980,
        min_side=75,
        preprocessing="pixels / 127.5 - 1",
        imagenet=True,
        notes="keras.applications.InceptionV3 with a new softmax. Batch-norm momentum 0.99, epsilon 1e-3, no "
        "scale; Glorot initialisation; no auxiliary head, dropout or label smoothing (the paper has them). "
        "Padding 'same', but none in most of the stem and where a side is halved.",
    )
)
def inceptionv3(inputs, num_classes: int, weights: str | None = None) -> keras.Model:
    """Build Inception v3: stem, then the blocks mixed0 to mixed10. Source: table 1. See `models.build`."""
    return applications.network(
        "inceptionv3",
        keras.applications.InceptionV3,
        applications.minus_one_to_one,
        "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        inputs,
        num_classes,
        weights,
    )
