"""What a network costs: shape, parameters and multiply-adds of each stage."""

import math
import re
from typing import NamedTuple

import keras
import pandas as pd
from keras import layers

NASNET_CELL = re.compile(r"(?:adjust|normal|reduction|separable)_.*?_(stem_\d|reduce_\d+|\d+)$")


class Stage(NamedTuple):
    """A row of the table: `shape` is (height, width, channels) or (channels,) at the stage's end."""

    name: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def layer_multiply_adds(layer) -> int:
    """Return the multiplications of a convolution or dense layer for one image; 0 for every other layer.

    A kernel is applied once at every position of the output, a depthwise one as well; biases, normalisation,
    activations, pooling and sums are left out, as in the papers.
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
    """Return the rows of the model's table, in the order of the data.

    A stage is what has the same name up to the first underscore, in NASNet the same cell. Between two points
    that all data flow through, the last name that Keras did not make up holds for all layers; layers without
    such a name belong to the stage before, right behind the input to a "stem".
    """
    groups: dict[str, list] = {}
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
    """Return the stages laid out to read: a row each, the total last."""
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


def _by_stage(model: keras.Model):
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


def _stage(operation) -> str | None:
    """Return the stage that an operation's name tells, or None for a name that Keras gave by itself."""
    kind = type(operation).__name__
    if operation.name in ("pixels", "preprocess") or kind == "Flip":
        return "input"
    if cell := NASNET_CELL.match(operation.name):
        return f"cell_{cell[1]}" if cell[1].isdigit() else cell[1]
    automatic = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", kind).lower()
    return None if re.fullmatch(rf"{automatic}(_\d+)?", operation.name) else operation.name.split("_")[0]


def _segments(model: keras.Model):
    """Yield the operations in order, cut behind each one whose output is all that the later ones read."""
    last_use = {}
    for i, operation in enumerate(model.operations):
        for tensor in _flat(operation.input):
            last_use[id(tensor)] = i
    segment, reach = [], 0
    for i, operation in enumerate(model.operations):
        segment.append(operation)
        if reach <= i:
            yield segment
            segment = []
        reach = max(reach, *(last_use.get(id(tensor), i) for tensor in _flat(operation.output)))


def _flat(tensors) -> list:
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]
