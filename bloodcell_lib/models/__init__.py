"""The networks by name: `names`, `card`, `build`; what they cost and what they look at."""

from importlib import import_module
from pkgutil import iter_modules

from bloodcell_lib.models.maps import class_maps, evidence, share_inside
from bloodcell_lib.models.registry import (
    Card,
    Expected,
    auxiliary,
    build,
    builder,
    card,
    check,
    head,
    lessons,
    names,
    register,
    table1,
)

__all__ = [
    "Card",
    "Expected",
    "auxiliary",
    "build",
    "builder",
    "card",
    "check",
    "class_maps",
    "evidence",
    "head",
    "lessons",
    "names",
    "register",
    "share_inside",
    "table1",
]

for module in iter_modules(__path__):  # importing a network registers it
    import_module(f"{__name__}.{module.name}")
