"""ResNet-50, from Keras: layers that learn what to add to their input."""

import keras

from bloodcell_lib.models import applications
from bloodcell_lib.models.registry import Card, register


@register(
    Card(
        name="resnet50",
        title="ResNet-50",
        year=2016,
        paper="K. He et al., Deep Residual Learning for Image Recognition, CVPR 2016",
        idea="A block adds a correction to its input; the untouched path lets a signal and its gradient through.",
        parameters=23_595_908,
        min_side=32,
        preprocessing="RGB to BGR, minus ImageNet's means",
        imagenet=True,
        notes="keras.applications.ResNet50 with a new softmax: version 1, the stride on a block's first 1x1, "
        "biases in the convolutions. Batch-norm momentum 0.99, epsilon 1.001e-5; Glorot initialisation "
        "(the paper: He); no dropout. Symmetric zero padding in the stem, 'same' elsewhere.",
    )
)
def resnet50(inputs, num_classes: int, weights: str | None = None) -> keras.Model:
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
