"""Protocols: everything about a training run that is not the network, as data."""

from dataclasses import dataclass, fields, replace

from bloodcell_lib import splits


@dataclass(frozen=True)
class Protocol:
    """A training recipe.

    `image_size` is (height, width) in pixels; `schedule` "constant" or "cosine" (to zero over the
    run); `augmentation` names layers of `training.AUGMENTATION`; `limit` caps the images of each part;
    `norm_momentum` replaces the batch-norm momentum of every network, where a run has too few steps for theirs.
    """

    name: str
    image_size: tuple[int, int]
    batch_size: int
    epochs: int
    learning_rate: float
    split: str
    schedule: str = "constant"
    augmentation: tuple[str, ...] = ()
    limit: int | None = None
    norm_momentum: float | None = None


PROTOCOLS = {
    p.name: p
    for p in (
        # For two cores and the sample: every network takes images of this size, and 120 small steps. The rate falls to
        # zero so that the running means of batch normalisation catch up with the weights before the run ends.
        Protocol(
            "quick",
            (75, 100),
            batch_size=8,
            epochs=6,
            learning_rate=1e-3,
            split="paper",
            schedule="cosine",
            limit=160,
            norm_momentum=0.9,
        ),
        # What the paper states: Adam at 1e-4, 20 epochs, cross-entropy; it gives no batch size.
        Protocol("paper", (120, 160), batch_size=32, epochs=20, learning_rate=1e-4, split="paper"),
        # No photograph on both sides of the split; new flips and turns every epoch.
        Protocol(
            "grouped",
            (120, 160),
            batch_size=32,
            epochs=20,
            learning_rate=1e-3,
            split="grouped",
            schedule="cosine",
            augmentation=("flip", "rotate"),
        ),
    )
}


def get(name: str, /, **overrides) -> Protocol:
    """Return a protocol, some of its values replaced.

    Args:
        name: one of `PROTOCOLS`, or "fold:K/N": the recipe of `grouped`, tested on the K-th of N shares of all
            photographs, and named "foldKofN" for its files.
        overrides: values by field name; None keeps the protocol's own. Names may be upper case, as a
            notebook's parameters are.

    Raises:
        ValueError: a name is unknown or a value cannot work.
    """
    base = PROTOCOLS.get(name)
    if base is None and str(name).startswith("fold:"):
        base = replace(PROTOCOLS["grouped"], name="fold{}of{}".format(*splits.fold_of(name)), split=name)
    if base is None:
        raise ValueError(f"no protocol is named {name!r}. Choose one of: {', '.join(PROTOCOLS)}, or fold:K/N.")
    chosen = {key.lower(): value for key, value in overrides.items() if value is not None}
    known = {field.name for field in fields(Protocol)} - {"name"}
    if unknown := sorted(chosen.keys() - known):
        raise ValueError(f"a protocol has no {', '.join(unknown)}. Choose from: {', '.join(sorted(known))}.")
    for key, check in _CHECKS.items():
        if key in chosen:
            chosen[key] = check(key, chosen[key])
    return replace(base, **chosen)


def _whole(key: str, value) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)) or not str(value).isdigit() or int(value) < 1:
        raise ValueError(f"{key}={value!r} cannot be used. Give a whole number, 1 at least.")
    return int(value)


def _positive(key: str, value) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError(f"{key}={value!r} cannot be used. Give a number above 0, such as 1e-4.")
    return number


def _size(key: str, value) -> tuple[int, int]:
    sides = value.lower().split("x") if isinstance(value, str) else value
    if not isinstance(sides, (list, tuple)) or len(sides) != 2:
        raise ValueError(f"{key}={value!r} cannot be used. Give height and width, such as (120, 160) or '120x160'.")
    return tuple(_whole(key, side) for side in sides)


_CHECKS = {"image_size": _size, "batch_size": _whole, "epochs": _whole, "limit": _whole, "learning_rate": _positive}
