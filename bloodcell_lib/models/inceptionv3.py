"""Inception v3, from Keras: large filters factored into small ones."""

import keras
from keras import KerasTensor

from bloodcell_lib.models import applications
from bloodcell_lib.models.registry import Card, Expected, register, table1

EXPECTED = Expected(
    parameters_1000=23_851_784,
    statistics=34_432,
    multiply_adds=2.83588e9,
    stages={
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
)


@register(
    Card(
        name="inceptionv3",
        lesson=3,
        title="Inception v3",
        year=2016,
        paper="C. Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016",
        idea="A 1x7 and a 7x1 filter in sequence see what a 7x7 filter sees, with 14 weights in place of 49.",
        parameters=21_810_980,
        min_side=75,
        preprocessing="pixels / 127.5 - 1",
        imagenet=True,
        notes="keras.applications.InceptionV3 with a new softmax. Batch-norm momentum 0.99, epsilon 1e-3, no "
        "scale; Glorot initialisation; no auxiliary head, dropout or label smoothing (the original has them). "
        "Padding 'same', but none in most of the stem and where a side is halved.",
        norm_momentum=0.99,
        table1=table1(0.93, 0.93, 0.85, 0.4387, 0.0338, 0.2550),
        expected=EXPECTED,
    )
)
def inceptionv3(inputs: KerasTensor, num_classes: int, weights: str | None = None) -> keras.Model:
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
