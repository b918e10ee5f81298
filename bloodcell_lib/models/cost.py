"""What a network costs: shape, parameters and multiply-adds of each stage."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import keras
import pandas as pd
from keras import KerasTensor, layers

NASNET_CELL = re.compile(r"(?:adjust|normal|reduction|separable)_.*?_(stem_\d|reduce_\d+|\d+)$")


class Stage(NamedTuple):
    """A row of the table: `shape` is the (height, width, channels) or (channels,) of the stage's output."""

    name: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def layer_multiply_adds(layer: keras.Operation) -> int:
    """Return the multiply-adds of a convolution or dense layer for one image, 0 for every other layer.

    A kernel, also a depthwise one, is applied once at every position of the output; biases, normalisation,
    activations, pooling and sums are not counted, as in the papers.
    """
    kernels = [
        getattr(layer, name)
        for name in ("kernel", "depthwise_kernel", "pointwise_kernel")
        if getattr(layer, name, None) is not None
    ]
    return sum(math.prod(kernel.shape) * math.prod(layer.output.shape[1:-1]) for kernel in kernels)


def multiply_adds(model: keras.Model) -> int:
    """Return the multiply-adds of a forward pass of one image."""
    return sum(layer_multiply_adds(layer) for layer in model.layers)


def stages(model: keras.Model) -> list[Stage]:
    """Return the rows of the model's table, in the order of the forward pass.

    A stage is a group of layers with the same name up to the first underscore, in NASNet a cell. Between two
    points that all data pass through, the last name that Keras did not make up holds for all layers; layers
    without such a name belong to the stage before them, or to a "stem" right after the input.
    """
    groups: dict[str, list[keras.Operation]] = {}
    for stage, operation in _by_stage(model):
        groups.setdefault(stage, []).append(operation)
    return [
        Stage(
            name,
            tuple(members[-1].output.shape[1:]),
            sum(member.count_params() for member in members if isinstance(member, layers.Layer)),
            sum(layer_multiply_adds(member) for member in members),
        )
        for name, members in groups.items()
    ]


def table(model: keras.Model) -> pd.DataFrame:
    """Return the stages as a table to read: one row per stage, the total last."""
    rows = stages(model)
    rows.append(Stage("total", rows[-1].shape, model.count_params(), multiply_adds(model)))
    return pd.DataFrame(
        {
            "shape": [" × ".join(map(str, row.shape)) for row in rows],
            "parameters": [f"{row.parameters:,}" for row in rows],
            "multiply-adds": [f"{row.multiply_adds:,}" for row in rows],
        },
        index=[row.name for row in rows],
    )


def _by_stage(model: keras.Model) -> Iterator[tuple[str, keras.Operation]]:
    """Yield (stage, operation) in order."""
    stage = "input"
    for segment in _segments(model):
        named = [name for name in map(_stage, segment) if name]
        if not named and stage == "input":
            stage = "stem"
        has_cells = any(NASNET_CELL.match(operation.name) for operation in segment)
        for operation in segment:
            stage = (_stage(operation) if has_cells else named and named[-1]) or stage
            yield stage, operation


def _stage(operation: keras.Operation) -> str | None:
    """Return the stage that an operation's name gives, or None for a name that Keras made up."""
    kind = type(operation).__name__
    if operation.name in ("pixels", "preprocess") or kind == "Flip":
        return "input"
    if cell := NASNET_CELL.match(operation.name):
        return f"cell_{cell[1]}" if cell[1].isdigit() else cell[1]
    automatic = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", kind).lower()
    return None if re.fullmatch(rf"{automatic}(_\d+)?", operation.name) else operation.name.split("_")[0]


def _segments(model: keras.Model) -> Iterator[list[keras.Operation]]:
    """Yield the operations in order, cut after each one whose output is all that the later ones read."""
    last_use: dict[int, int] = {}
    for i, operation in enumerate(model.operations):
        for tensor in _flat(operation.input):
            last_use[id(tensor)] = i
    segment: list[keras.Operation] = []
    reach = 0
    for i, operation in enumerate(model.operations):
        segment.append(operation)
        if reach <= i:
            yield segment
            segment = []
        reach = max(reach, *(last_use.get(id(tensor), i) for tensor in _flat(operation.output)))


def _flat(tensors: KerasTensor | list[KerasTensor] | tuple[KerasTensor, ...]) -> list[KerasTensor]:
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]
