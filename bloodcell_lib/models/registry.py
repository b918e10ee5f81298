"""A register of networks: a card that says what a network is, and the function that builds it."""

from collections.abc import Callable
from dataclasses import dataclass

from bloodcell_lib.backend import keras


@dataclass(frozen=True)
class Card:
    """What a network is, and what it needs.

    `parameters` counts all weights, batch-norm statistics included, for 4 classes and 3 channels;
    `image_size` is the default (height, width) in pixels; `min_side` the smallest legal side.
    """

    name: str
    title: str
    year: int
    paper: str
    idea: str
    parameters: int
    min_side: int
    preprocessing: str
    notes: str = ""
    imagenet: bool = False
    image_size: tuple[int, int] = (120, 160)


_NETWORKS: dict[str, tuple[Card, Callable, Callable | None]] = {}


def register(card: Card, auxiliary: Callable | None = None) -> Callable:
    """Return a decorator that puts `builder(inputs, num_classes, weights) -> keras.Model` on the list.

    Args:
        card: what the network is.
        auxiliary: `(network, num_classes) -> list[keras.KerasTensor]`, softmax outputs for training only.

    Raises:
        ValueError: the name is taken.
    """

    def add(builder: Callable) -> Callable:
        if card.name in _NETWORKS:
            raise ValueError(f"a network named {card.name!r} is registered already: choose another name.")
        _NETWORKS[card.name] = card, builder, auxiliary
        return builder

    return add


def names() -> list[str]:
    """Return the networks' names, in the order of the lessons."""
    return list(_NETWORKS)


def card(name: str) -> Card:
    """Return a network's card.

    Raises:
        ValueError: no network has this name.
    """
    if name not in _NETWORKS:
        raise ValueError(f"no network is named {name!r}. Choose one of: {', '.join(names())}.")
    return _NETWORKS[name][0]


def build(
    name: str, image_size: tuple[int, int] = (120, 160), num_classes: int = 4, weights: str | None = None
) -> keras.Model:
    """Build an uncompiled network, preprocessing inside.

    Args:
        name: one of `names()`.
        image_size: height and width of the images in pixels.
        num_classes: width of the softmax.
        weights: None to start at random, or "imagenet" where Keras publishes such weights.

    Returns:
        A model from pixels 0..255, uint8 or float, (batch, height, width, 3), to float32 probabilities
        (batch, num_classes).

    Raises:
        ValueError: the name, size, class count or weights cannot work.
    """
    about = card(name)
    if len(image_size) != 2 or not all(isinstance(s, int) and s >= about.min_side for s in image_size):
        raise ValueError(
            f"{name} cannot take image_size={image_size!r}. Give (height, width) in whole pixels, "
            f"each at least {about.min_side}."
        )
    if not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(f"num_classes={num_classes!r} cannot be used. Give a whole number, 2 at least.")
    if weights not in ((None, "imagenet") if about.imagenet else (None,)):
        raise ValueError(
            f"{name} has no weights {weights!r}. "
            + ("Give None or 'imagenet'." if about.imagenet else "None are published; give None and train it.")
        )
    inputs = keras.Input((*image_size, 3), name="pixels")
    return _NETWORKS[name][1](inputs, num_classes, weights)


def auxiliary(network: keras.Model) -> list[keras.KerasTensor]:
    """Return the softmax outputs that only training has, made anew at each call; none for most networks.

    Args:
        network: what `build` returned, or the same loaded from a file.

    Returns:
        Outputs for `keras.Model(network.input, [network.output, *outputs])`, which shares the variables.
    """
    _, _, make = _NETWORKS.get(network.name, (None, None, None))
    return (make(network, network.output.shape[-1]), 0.3) if make else ([], 0.0)


def builder(name: str) -> Callable:
    """Return the function that builds a network."""
    card(name)
    return _NETWORKS[name][1]


def head(network):
    return network.get_layer("probabilities").trainable_variables
