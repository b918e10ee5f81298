"""ResNet-50, from Keras: layers that learn what to add to their input."""

import keras
from keras import KerasTensor

from bloodcell_lib.models import applications
from bloodcell_lib.models.registry import Card, Expected, register, table1

EXPECTED = Expected(
    parameters_1000=25_636_712,
    statistics=53_120,
    multiply_adds=3.85593e9,
    stages={
        "conv1": (112, 64),
        "conv2": (56, 256),
        "conv3": (28, 512),
        "conv4": (14, 1024),
        "conv5": (7, 2048),
    },
)


@register(
    Card(
        name="resnet50",
        lesson=4,
        title="ResNet-50",
        year=2016,
        paper="K. He et al., Deep Residual Learning for Image Recognition, CVPR 2016",
        idea="A block adds a correction to its input; the shortcut carries signal and gradient past it.",
        parameters=23_595_908,
        min_side=32,
        preprocessing="RGB to BGR, minus ImageNet's means",
        imagenet=True,
        notes="keras.applications.ResNet50 with a new softmax: version 1, with the stride on a block's first 1x1; "
        "biases in the convolutions. Batch-norm momentum 0.99, epsilon 1.001e-5; Glorot initialisation "
        "(the original paper: He); no dropout. Symmetric zero padding in the stem, 'same' elsewhere.",
        norm_momentum=0.99,
        table1=table1(0.93, 0.95, 0.87, 0.0080, 0.0126, 1.6920),
        expected=EXPECTED,
    )
)
def resnet50(inputs: KerasTensor, num_classes: int, weights: str | None = None) -> keras.Model:
    """Build ResNet-50: 3, 4, 6 and 3 bottleneck blocks. Source: table 1. See `models.build`."""
    return applications.network(
        "resnet50",
        keras.applications.ResNet50,
        applications.centred_bgr,
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        inputs,
        num_classes,
        weights,
    )
