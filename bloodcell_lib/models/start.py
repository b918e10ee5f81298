"""First weights that several networks share."""

from keras import initializers


def uniform() -> initializers.Initializer:
    """Return PyTorch's default: uniform between ±1 / sqrt(fan-in).

    Behind batch normalisation the scale of the first weights does not change the output, but it sets how large Adam's
    steps are beside them.
    """
    return initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
