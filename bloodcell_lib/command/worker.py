"""One notebook, executed by papermill in a process of its own, which says in JSON lines on stdout how far it is.

The process that starts it writes the job as one line to stdin and keeps stdin open: when it closes, also because that
process was killed, this one and its kernel end. What the kernel and the libraries print goes to stderr, the log.
"""

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.iorw import LocalHandler, papermill_io
from traitlets import default
from traitlets.config import Config

from bloodcell_lib import files

START_TIMEOUT = 300  # seconds that a kernel may take to answer on a busy machine


class Kernel(AsyncKernelManager):
    """A kernel of this interpreter, whatever kernels are installed under the name of a notebook's."""

    @default("kernel_spec_manager")
    def _own(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


class Whole(LocalHandler):
    """Writes a notebook whole or not at all: papermill writes it after every cell, and may be killed meanwhile."""

    def write(self, buf: str, path: str) -> None:
        with files.replacing(Path(path)) as part:
            super().write(buf, str(part))


class Watch(logging.Handler):
    """Says which cell and which epoch papermill's log has reached."""

    def __init__(self, say: Callable[..., None]):
        super().__init__()
        self.say = say

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        for cell in re.findall(r"^Executing Cell (\d+)", text):
            self.say(cell=int(cell))
        for epoch, epochs in re.findall(r"^epoch +(\d+)/(\d+) ", text, re.MULTILINE):
            self.say(epoch=int(epoch), epochs=int(epochs))


def main() -> int:
    """Execute the job that stdin names, and return 0 if it ended well."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the kernel inherits it

    def say(**event: Any) -> None:
        print(json.dumps(event), file=told, flush=True)

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log = logging.getLogger("papermill")
    log.setLevel(logging.INFO)
    log.addHandler(Watch(say))
    log.addFilter(lambda record: "unknown parameter" not in record.getMessage())  # a knob that it does not repeat
    error = _attempt(job)
    print(error, file=sys.stderr, flush=True)
    say(**error, state="failed" if error else "done")
    return 1 if error else 0


def execute(job: dict[str, Any]) -> None:
    """Execute a notebook, stamp its copy as finished, and write it as a page where that is asked for."""
    output = Path(job["output"])
    papermill_io.register(str(output), Whole())
    try:
        notebook = papermill.execute_notebook(
            _literal(job["notebook"]),
            _literal(job["output"]),
            job["parameters"],
            progress_bar=False,
            log_output=True,
            coalesce_streams=True,
            kernel_name="python3",
            kernel_manager_class=Kernel,
            start_timeout=START_TIMEOUT,
            execution_timeout=job["timeout"],
            cwd=str(Path(job["notebook"]).parent),
            config=Config(KernelManager={"transport_encryption": "auto"}),
        )
        notebook.metadata["bloodcell"] = job["stamp"]
        Whole().write(nbformat.writes(notebook), str(output))
    finally:
        if job["html"] and output.exists():
            from bloodcell_lib.command import pages  # slow to import

            pages.write(output, output.with_suffix(".html"))


def _attempt(job: dict[str, Any]) -> dict[str, str]:
    """Execute a job; return {} or what failed: the error, and the line of the notebook where it happened."""
    try:
        execute(job)
    except papermill.PapermillExecutionError as error:
        line = re.search(r"^-+> *\d+ (.*)", re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback)), re.MULTILINE)
        where = f"cell {error.cell_index + 1}: {line[1].strip() if line else error.source.splitlines()[0]}"
        return {"error": f"{error.ename}: {error.evalue.strip()}".splitlines()[0], "where": where}
    except DeadKernelError:
        return {"error": f"DeadKernelError: the kernel was killed, most often for lack of memory. {job['advice']}"}
    except CellTimeoutError:
        return {"error": f"CellTimeoutError: a cell took longer than --timeout {job['timeout']} seconds."}
    except Exception as error:  # a full disk, a kernel that does not start: said, and the other notebooks still run
        return {"error": (f"{type(error).__name__}: {error}".splitlines() or [""])[0]}
    return {}


def _literal(path: str) -> str:
    """Return a path in which papermill finds no parameters to fill in."""
    return path.replace("{", "{{").replace("}", "}}")


def _end_with_parent() -> None:
    os.read(0, 1)  # blocks until stdin closes; `sys.stdin` could not be left at the end
    for process in psutil.Process().children(recursive=True):
        process.kill()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
