"""The networks by name: `names`, `card`, `build`; what they cost and what they look at."""

from importlib import import_module

from bloodcell_lib import LESSONS
from bloodcell_lib.models.maps import class_maps
from bloodcell_lib.models.registry import Card, auxiliary, build, builder, card, head, names, register

__all__ = ["Card", "auxiliary", "build", "builder", "card", "head", "class_maps", "names", "register"]

for lesson in LESSONS:  # importing a network registers it
    import_module(f"bloodcell_lib.models.{lesson}")
