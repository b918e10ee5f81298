"""Protocols: everything about a training run that is not the network, as data. The one list of knobs.

A field of `Protocol` is an option of the command line, a parameter of every notebook and a key of every record.
"""

import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

SCHEDULES = ("constant", "warmup")  # the second rises, in one epoch at most, then falls along a cosine to zero
AUGMENTATIONS = ("flip", "rotate", "turn", "zoom", "shift", "stain")


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not str(value).isdecimal() or int(value) < 1:
        raise ValueError
    return int(value)


def _number(value: Any, below: float = float("inf")) -> float:
    if isinstance(value, bool) or not 0 < float(value) < below:
        raise ValueError
    return float(value)


def _size(value: Any) -> tuple[int, ...]:
    sides = re.split(r"[x,]\s*", value.strip("()[] ").lower()) if isinstance(value, str) else value
    height, width = map(_whole, sides)
    return height, width


def _split(value: Any) -> str:
    if value not in ("image", "photo"):
        from bloodcell_lib import splits  # imports scikit-learn, for which `bloodcell --help` shall not wait

        splits.fold_of(value)
    return value


def _augmentations(value: Any) -> tuple[str, ...]:
    named = tuple(filter(None, re.split(r"[+,\s]+", value))) if isinstance(value, str) else tuple(value)
    if set(named) - {*AUGMENTATIONS, "none"}:
        raise ValueError
    return tuple(name for name in AUGMENTATIONS if name in named)


def _one_of(*choices: str) -> Callable[[Any], str]:
    return lambda value: choices[choices.index(value)]


def _precision(value: Any) -> str:
    if value == "auto":  # settled here, so that names and records say what it became
        from bloodcell_lib import backend  # imports Keras, for which `bloodcell --help` shall not wait

        return backend.fast_precision()
    return _one_of("float32", "mixed_bfloat16")(value)


def knob(read: Callable[[Any], Any], give: str, what: str, **options: Any) -> Any:
    """Declare a knob: how a value is read, also from text, or refused; what can be given; what it means."""
    return field(metadata={"read": read, "give": give, "help": what}, **options)


WHOLE, NUMBER, SHARE = "a whole number, 1 at least", "a number above 0, such as 1e-4", "a number between 0 and 1"
SIZE, NAMES = "height and width, such as (120, 160) or 120x160", f"{'+'.join(AUGMENTATIONS)}, one of these, or none"


@dataclass(frozen=True)
class Protocol:
    """A training recipe that checks itself.

    Raises:
        ValueError: a value cannot work; the message names it and says what can.
    """

    name: str
    image_size: tuple[int, int] = knob(_size, SIZE, "of the images in pixels")
    batch_size: int = knob(_whole, WHOLE, "images per step")
    epochs: int | None = knob(_whole, WHOLE, "passes over the training images, or the card's", default=None)
    learning_rate: float | None = knob(_number, NUMBER, "of Adam, at the start, or the card's", default=None)
    split: str = knob(_split, "image, photo, fold:K/N or train:K/N", "what is divided", default="image")
    schedule: str = knob(_one_of(*SCHEDULES), " or ".join(SCHEDULES), "of the rate", default="constant")
    augmentation: tuple[str, ...] = knob(_augmentations, NAMES, "of images, new in every epoch", default=())
    limit: int | None = knob(_whole, WHOLE, "at most so many images in each part", default=None)
    norm_momentum: float | None = knob(partial(_number, below=1), SHARE, "of batch normalisation", default=None)
    weights: str | None = knob(_one_of("imagenet"), "imagenet, or nothing", "to start from, fine-tuned", default=None)
    precision: str = knob(
        _precision, "float32, mixed_bfloat16, or auto: what is faster here", "of arithmetic", default="float32"
    )
    frame: str = knob(_one_of("slide", "cell"), "slide or cell", "the whole image, or around its cell", default="slide")
    weight_decay: float | None = knob(_number, NUMBER, "per step and unit of rate (AdamW)", default=None)
    label_smoothing: float | None = knob(partial(_number, below=1), SHARE, "of the training labels", default=None)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", str(self.name)):
            raise ValueError(f"name={self.name!r} cannot be used. Give letters, digits, - and _, as in a file's name.")
        for knob in KNOBS:
            value = getattr(self, knob.name)
            if value is None and knob.default is None:
                continue
            try:
                object.__setattr__(self, knob.name, knob.metadata["read"](value))
            except (TypeError, ValueError) as error:
                if isinstance(error, TypeError) or not str(error).startswith(knob.name):  # a split is refused in full
                    give = knob.metadata["give"]
                    raise ValueError(f"{knob.name}={value!r} cannot be used. Give {give}.") from None
                raise

    @property
    def label(self) -> str:
        """What files and tables show: the name, and every value that differs from the protocol registered under it.

        A name that is not registered is followed by a checksum of the values.
        """
        base, values = _base(self.name), {knob.name: getattr(self, knob.name) for knob in KNOBS}
        if base is None:
            return f"{self.name}-{zlib.crc32(repr(values).encode()):08x}"
        own = [f"{name}={written(value)}" for name, value in values.items() if value != getattr(base, name)]
        return "-".join([self.name, *own])

    @property
    def whole(self) -> "Protocol":
        """The same on whole images: as many pixels, 3 : 4, where it trains on windows around the cell."""
        side = math.sqrt(self.image_size[0] * self.image_size[1])
        size = round(side * math.sqrt(3 / 4)), round(side * math.sqrt(4 / 3))
        return self if self.frame == "slide" else replace(self, frame="slide", image_size=size)

    @property
    def data(self) -> dict[str, Any]:
        """What `dataset.load` needs of it."""
        return {"image_size": self.image_size, "split": self.split, "limit": self.limit, "frame": self.frame}


KNOBS = tuple(knob for knob in fields(Protocol) if "read" in knob.metadata)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        # For two cores and the sample: every network takes images of this size, and few small steps. The rate falls
        # to zero so that the running means of batch normalisation catch up with the weights before the run ends. In
        # batches of 8 the networks need different rates and numbers of epochs: the card has them.
        Protocol("quick", (75, 75), 8, schedule="warmup", limit=320, norm_momentum=0.8, frame="cell"),
        # What the paper states: Adam at 1e-4, 20 epochs, cross-entropy; it gives no batch size.
        Protocol("paper", (120, 160), 32, 20, 1e-4, "image"),
        # No photograph on both sides of the split. Chosen by folds of TRAIN's photographs: results/RECIPE.md.
        Protocol("grouped", (75, 75), 32, 12, 1e-3, "photo", schedule="warmup", augmentation=("flip", "turn", "stain"),
                 frame="cell", weight_decay=0.05, label_smoothing=0.1),
    )
}  # fmt: skip


def get(name: str, /, **overrides: Any) -> Protocol:
    """Return a protocol, some of its values replaced.

    Args:
        name: one of `PROTOCOLS`, or "fold:K/N": the recipe of `grouped`, tested on the K-th of N shares of all
            photographs, and named "foldKofN".
        overrides: values by field name, also as text; None keeps the protocol's own.

    Raises:
        ValueError: a name is unknown or a value cannot work.
    """
    base = _base(name)
    if base is None:
        raise ValueError(f"no protocol is named {name!r}. Choose one of: {', '.join(PROTOCOLS)}, or fold:K/N.")
    chosen = {key.lower(): value for key, value in overrides.items() if value is not None}
    known = [knob.name for knob in KNOBS]
    if unknown := sorted(chosen.keys() - set(known)):
        raise ValueError(f"a protocol has no {', '.join(unknown)}. Choose from: {', '.join(known)}.")
    return replace(base, **chosen)


def from_parameters(parameters: Mapping[str, Any]) -> Protocol:
    """Return the protocol that a notebook's parameters ask for.

    Args:
        parameters: `globals()` of the notebook: PROTOCOL, and the upper-case name of any field to replace it.
    """
    names = [knob.name.upper() for knob in KNOBS]
    return get(parameters["PROTOCOL"], **{name: parameters[name] for name in names if name in parameters})


def _base(name: Any) -> Protocol | None:
    """Return the registered protocol of a name, "fold:1/5" or "fold1of5" included."""
    if found := re.fullmatch(r"fold:?(\d+)(?:/|of)(\d+)", str(name)):
        fold, folds = found.groups()
        return replace(PROTOCOLS["grouped"], name=f"fold{fold}of{folds}", split=f"fold:{fold}/{folds}")
    if str(name).startswith("fold:"):
        _split(name)  # says what is wrong with it
    return PROTOCOLS.get(name)


def written(value: Any) -> str:
    """Write a value as it may stand in a file's name."""
    if isinstance(value, tuple):
        return ("x" if value and isinstance(value[0], int) else "+").join(map(str, value)) or "none"
    return re.sub(r"[^\w.+-]", "", f"{value:g}" if isinstance(value, float) else str(value).replace("/", "of"))
