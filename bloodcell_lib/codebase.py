"""Which code a run was made by: a digest of what training depends on, and the git revision."""

import ast
import hashlib
import inspect
import subprocess
import sys
import textwrap
from importlib import import_module
from types import ModuleType

from bloodcell_lib import files, models

NETWORKS = "bloodcell_lib.models."
MODULES = "backend", "dataset", "images", "layouts", "sources", "splits", "training", "models.registry"


def digest(name: str) -> str:
    """Return a digest of the code that training a network depends on.

    Comments, docstrings, and the sentences of cards and errors do not count: to correct one costs no training.

    Args:
        name: of a network. The module that builds it counts, and what this imports from `bloodcell_lib.models`.
    """
    builder = models.builder(name)
    own = sys.modules[builder.__module__]
    used = [thing for thing in vars(own).values() if isinstance(thing, ModuleType) and NETWORKS in thing.__name__]
    library = [import_module(f"bloodcell_lib.{module}") for module in MODULES]
    written_in = builder if own.__name__ == "__main__" else own
    return digest_of(*map(inspect.getsource, (written_in, *used, *library)))


def digest_of(*sources: str) -> str:
    """Return a digest of Python code, its texts left out."""
    found = hashlib.sha256()
    for source in sources:
        found.update(ast.unparse(_WithoutTexts().visit(ast.parse(textwrap.dedent(source)))).encode())
    return found.hexdigest()[:16]


def revision() -> str | None:
    """Return the git revision of the checkout, marked where files differ from it; None outside a checkout."""
    command = ["git", "-C", str(files.CHECKOUT), "describe", "--always", "--dirty", "--abbrev=12", "--match", ""]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if (files.CHECKOUT / ".git").exists() else None


class _WithoutTexts(ast.NodeTransformer):
    """Leaves out docstrings, and of every other string what has a blank in it: sentences of cards and of errors."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Pass() if is_text else self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) and " " in node.value else node
