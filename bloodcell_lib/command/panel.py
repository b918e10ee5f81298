"""The parameters of a notebook as fields, for a person in JupyterLab: the same knobs as the options of a batch."""

import html
from argparse import ArgumentTypeError
from typing import Any

from IPython.display import display

from bloodcell_lib import cards, files, protocols
from bloodcell_lib.command import cli
from bloodcell_lib.protocols import KNOBS, PROTOCOLS

BY_NAME = {knob.name.upper(): knob for knob in KNOBS}
FOLDS = [f"fold:{fold}/5" for fold in range(1, 6)]
GRID = {"display": "grid", "grid_template_columns": "repeat(auto-fill, minmax(28em, 1fr))"}
TAKEN = (
    "To use these values, choose <i>Run, Run All Cells</i>; a restarted kernel forgets them. "
    "In the names of a run's files they are <b>{}</b>."
)
REFUSED = '<b style="color: var(--jp-error-color1)">{}</b>'

kept: list[dict[str, Any]] = [{}, {}]  # of this kernel: what the parameters cell says, and what the fields say


def show(parameters: dict[str, Any]) -> None:
    """Show a field for each parameter, or say that ipywidgets is not installed.

    What is typed becomes the value of the parameter at once; an empty field is None. It outlasts a second run of the
    parameters cell, as an injected value does, until that cell is edited. What cannot be used is refused here, and
    again where the notebook reads it.

    Args:
        parameters: `globals()` of the notebook.
    """
    try:
        import ipywidgets as widgets
    except ImportError:
        print("No fields: ipywidgets, which draws them, is not installed. The values above are used.")
        return
    now = {name: parameters[name] for name in ("PROTOCOL", "DATA", "SEED", "OUT", *BY_NAME) if name in parameters}
    if now not in kept:
        kept[:] = now, now
    parameters.update(kept[1])
    fields = {name: _field(widgets, name, value) for name, value in kept[1].items()}
    said = widgets.HTML()

    def tell() -> None:
        said.value = _told(parameters)
        for name, hint in _hints(parameters["PROTOCOL"]).items():
            if name in fields:
                fields[name].placeholder = hint

    def take(change: dict[str, Any]) -> None:
        name = change["owner"].description
        kept[1] = kept[1] | {name: _value(name, change["new"])}
        parameters.update(kept[1])
        tell()

    for field in fields.values():
        field.observe(take, "value")
    tell()
    display(widgets.VBox([widgets.Box([*fields.values()], layout=GRID), said]))


def _field(widgets: Any, name: str, value: Any) -> Any:
    """Return the field of a parameter."""
    look = {"description": name, "style": {"description_width": "10em"}, "layout": {"width": "auto"}}
    if name == "PROTOCOL":
        return widgets.Dropdown(options=list(dict.fromkeys([*PROTOCOLS, *FOLDS, value])), value=value, **look)
    text = {"value": "" if value is None else str(value), "continuous_update": False}
    if name == "DATA":
        hint = "the archive, if found, else the sample"
        return widgets.Combobox(options=[*cards.names(), "kaggle"], placeholder=hint, **text, **look)
    if name == "OUT":
        return widgets.Text(placeholder=str(files.out_dir()), **text, **look)
    tip = "{help}: {give}".format(**BY_NAME[name].metadata) if name in BY_NAME else ""
    return widgets.Text(tooltip=tip, **text, **look)


def _value(name: str, typed: str) -> Any:
    """Return what a field says as it would stand in the parameters cell; what cannot be read stays text."""
    if name == "SEED" and typed.isdecimal():
        return int(typed)
    try:
        return BY_NAME[name].metadata["read"](typed) if typed and name in BY_NAME else typed or None
    except (TypeError, ValueError):
        return typed


def _told(parameters: dict[str, Any]) -> str:
    """Say how the values show in the names of a run's files, or why they cannot be used."""
    try:
        protocol = protocols.from_parameters(parameters)
        cli.whole(str(parameters["SEED"]))
    except (ValueError, ArgumentTypeError) as error:
        return REFUSED.format(html.escape(str(error)))
    return TAKEN.format(html.escape(files.run_name("", protocol.label, parameters["SEED"])[1:]))


def _hints(protocol: str) -> dict[str, str]:
    """Return what an empty field stands for: the protocol's value, or, where it has none, what the knob is."""
    try:
        base = protocols.get(protocol)
    except ValueError:
        return {}
    values = {name: getattr(base, knob.name) for name, knob in BY_NAME.items()}
    return {n: BY_NAME[n].metadata["help"] if v is None else protocols.written(v) for n, v in values.items()}
