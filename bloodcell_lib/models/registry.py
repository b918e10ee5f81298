"""The registry of networks: a card that says what a network is, and the function that builds it."""

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bloodcell_lib.backend import keras
from bloodcell_lib.protocols import Protocol

Builder = Callable[..., keras.Model]
Heads = Callable[[keras.Model], list[keras.KerasTensor]]
WHOLE = int, np.integer


@dataclass(frozen=True)
class Expected:
    """What the tests expect of a network, from a reference implementation or the tables of its paper.

    `parameters_1000` counts all weights for 1000 classes, `statistics` the moving means and variances among
    them; `multiply_adds` are of one 224x224 image and 4 classes; `stages` maps the name of a stage to the side
    and the channels of its output for a 224x224 image. The tests skip what is None or not listed.
    """

    parameters_1000: int | None = None
    statistics: int | None = None
    multiply_adds: float | None = None
    stages: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """What a network is, and what is expected of it.

    `parameters` counts all weights, batch-norm statistics included, for 4 classes and 3 channels; `min_side` is
    the smallest legal side in pixels; `norm_momentum` is that of every batch normalisation, None where there is
    none; `learning_rate` is Adam's and `epochs` the passes over the training images where a protocol leaves them to
    the card; `imagenet` says whether Keras publishes weights. `lesson` is the number of the network's notebook,
    `table1` its row in the paper, `auxiliary_weight` the factor of each auxiliary head's loss.
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
    norm_momentum: float | None = None
    learning_rate: float = 1e-3
    epochs: int = 3
    auxiliary_weight: float | None = None
    lesson: int | None = None
    table1: dict[str, float] | None = None
    expected: Expected = Expected()

    def rate(self, protocol: Protocol) -> float:
        """Return Adam's learning rate by a protocol, which may leave it to the card."""
        return protocol.learning_rate or self.learning_rate

    def passes(self, protocol: Protocol) -> int:
        """Return the number of epochs by a protocol, which may leave it to the card."""
        return protocol.epochs or self.epochs


class _Network(NamedTuple):
    card: Card
    builder: Builder
    heads: Heads | None


_NETWORKS: dict[str, _Network] = {}


def table1(
    accuracy: float, val_accuracy: float, test_accuracy: float, loss: float, val_loss: float, test_loss: float
) -> dict[str, float]:
    """Return a row of the paper's Table 1, under the names that a record's history has.

    Source: Hemodynamic Analysis and Diagnosis Based on Multi-Deep Learning Models (2022). It gives accuracies in
    whole percents and does not say of which epoch.
    """
    return {
        "accuracy": accuracy,
        "val_accuracy": val_accuracy,
        "test_accuracy": test_accuracy,
        "loss": loss,
        "val_loss": val_loss,
        "test_loss": test_loss,
    }


def register(card: Card, auxiliary: Heads | None = None) -> Callable[[Builder], Builder]:
    """Return a decorator that adds `builder(inputs, num_classes, weights) -> keras.Model` to the registry.

    The builder starts from pixels 0..255 and ends in a float32 softmax. `class_maps` needs two of its layers by
    name: "pool", a mean over all positions, and "probabilities", the softmax.

    Args:
        card: what the network is.
        auxiliary: `(network) -> list[keras.KerasTensor]`, the softmax outputs of auxiliary heads, made anew at each
            call; their weight stands on the card.

    Raises:
        ValueError: the name or the lesson is taken, or heads and their weight do not come together.
    """

    def add(builder: Builder) -> Builder:
        if card.name in _NETWORKS:
            raise ValueError(f"a network named {card.name!r} is registered already: choose another name.")
        taken = {network.card.lesson: name for name, network in _NETWORKS.items()}
        if card.lesson is not None and card.lesson in taken:
            raise ValueError(
                f"{card.name} cannot be lesson {card.lesson}, which is {taken[card.lesson]}: choose another number."
            )
        if (auxiliary is None) != (card.auxiliary_weight is None):
            raise ValueError(
                f"{card.name} has {'no ' if auxiliary is None else ''}auxiliary heads and "
                f"auxiliary_weight={card.auxiliary_weight}. Give both or neither."
            )
        _NETWORKS[card.name] = _Network(card, builder, auxiliary)
        return builder

    return add


def names() -> list[str]:
    """Return the names of all networks: the lessons in their order, then the others as they were registered."""
    return lessons() + [name for name, network in _NETWORKS.items() if network.card.lesson is None]


def lessons() -> list[str]:
    """Return the names of the networks that have a lesson, in the order of the lessons."""
    numbered = [network.card for network in _NETWORKS.values() if network.card.lesson is not None]
    return [card.name for card in sorted(numbered, key=operator.attrgetter("lesson"))]


def card(name: str) -> Card:
    """Return a network's card.

    Raises:
        ValueError: no network has this name.
    """
    if not isinstance(name, str) or name not in _NETWORKS:
        raise ValueError(f"no network is named {name!r}. Choose one of: {', '.join(names())}.")
    return _NETWORKS[name].card


def builder(name: str) -> Builder:
    """Return the function that builds a network. For the error, see `card`."""
    card(name)
    return _NETWORKS[name].builder


def check(name: str, image_size: tuple[int, int], num_classes: int = 4, weights: str | None = None) -> None:
    """Check what `build` is to be called with, without building.

    Raises:
        ValueError: the name, size, class count or weights cannot work.
    """
    about = card(name)
    if not _is_size(image_size, about.min_side):
        raise ValueError(
            f"{name} cannot take image_size={image_size!r}. Give (height, width) in whole pixels, "
            f"each at least {about.min_side}."
        )
    if not isinstance(num_classes, WHOLE) or num_classes < 2:
        raise ValueError(f"num_classes={num_classes!r} cannot be used. Give a whole number, at least 2.")
    if weights not in ((None, "imagenet") if about.imagenet else (None,)):
        raise ValueError(
            f"{name} has no weights {weights!r}. "
            + ("Give None or 'imagenet'." if about.imagenet else "None are published; give None and train it.")
        )


def _is_size(size: Any, least: int) -> bool:
    try:
        height, width = size
    except (TypeError, ValueError):
        return False
    return all(isinstance(side, WHOLE) and side >= least for side in (height, width))


def build(
    name: str, image_size: tuple[int, int] = (120, 160), num_classes: int = 4, weights: str | None = None
) -> keras.Model:
    """Build an uncompiled network, preprocessing inside.

    Args:
        name: one of `names()`, and the name of the model.
        image_size: height and width of the images in pixels.
        num_classes: width of the softmax.
        weights: None to start at random, or "imagenet" where Keras publishes such weights.

    Returns:
        A model from pixels 0..255, uint8 or float, (batch, height, width, 3), to float32 probabilities
        (batch, num_classes).

    Raises:
        ValueError: the name, size, class count or weights cannot work.
    """
    check(name, image_size, num_classes, weights)
    about, builder, heads = _NETWORKS[name]
    height, width = map(int, image_size)  # Keras takes no integers of NumPy
    network = builder(keras.Input((height, width, 3), name="pixels"), int(num_classes), weights)
    network.name = name
    if heads:  # a plain function, which Keras neither tracks nor saves
        network.auxiliary_heads = lambda: (heads(network), about.auxiliary_weight)
    return network


def auxiliary(network: keras.Model) -> tuple[list[keras.KerasTensor], float]:
    """Return the softmax outputs that only training has, and the factor of each one's loss.

    Args:
        network: what `build` returned. A network that was loaded from a file or cloned has no heads any more.

    Returns:
        (outputs, weight): outputs for `keras.Model(network.input, [network.output, *outputs])`, which shares the
            variables, made anew at each call; ([], 0.0) for a network without auxiliary heads.
    """
    make = getattr(network, "auxiliary_heads", None)
    return make() if make else ([], 0.0)


def head(network: keras.Model) -> list[keras.Variable]:
    """Return the variables of the classifier, which published weights never include: the last layer with weights."""
    return next(layer.trainable_variables for layer in reversed(network.layers) if layer.weights)
