"""Batches: notebooks executed headless through papermill, each in a kernel process of its own."""

import hashlib
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import nbformat
import papermill
from traitlets.config import Config

from bloodcell_lib import codebase, dataset, files, models, records
from bloodcell_lib.backend import keras
from bloodcell_lib.protocols import KNOBS, Protocol

logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of knobs that a parameters cell does not repeat
READERS = ("comparison",)  # they read the records of the lessons, so they come last and are never skipped


class RunnerError(ValueError):
    """A batch cannot start; the message says what was asked for and what is possible."""


@dataclass(frozen=True)
class Job:
    """One notebook, its parameters, where its executed copy goes, and the record that a lesson leaves behind.

    `stamp` is what must be equal for an executed copy to count as done, `identity` the same for the record.
    """

    notebook: Path
    output: Path
    parameters: dict[str, Any]
    stamp: dict[str, Any]
    record: Path | None = None
    identity: dict[str, Any] | None = None

    @property
    def reads(self) -> bool:
        """Whether it reads the records of the others."""
        return self.notebook.stem[3:] in READERS


@dataclass(frozen=True)
class Outcome:
    """What became of a job: "done", "skipped" or "failed", and the last line of the error."""

    job: Job
    state: str
    seconds: float = 0.0
    error: str = ""


def find(wanted: list[str]) -> list[Path]:
    """Return the notebooks that are meant: all, or by model ("cnn"), number ("01"), name or path.

    Raises:
        RunnerError: one is unknown.
    """
    every = sorted(files.shipped("notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not wanted:
        return every
    chosen = []
    for want in wanted:
        stem = Path(want).name.removesuffix(".ipynb")
        match = [n for n in every if stem in (n.stem, n.stem[3:], n.stem[:2])]
        if not match:
            names = ", ".join(n.stem for n in every)
            raise RunnerError(f"{want!r} is not the name of a notebook. Choose from: {names}, or give none for all.")
        chosen += match
    return list(dict.fromkeys(chosen))


def plan(
    wanted: list[str], protocol: Protocol, data: str | None = None, seed: int = 0, out: str | os.PathLike | None = None
) -> list[Job]:
    """Check what is asked for and lay out the jobs, before anything is run.

    Args:
        wanted: as for `find`.
        protocol: the recipe of all.
        data: as for `dataset.load`; a relative path is taken from the working folder.
        seed: of the split, the first weights and the order of the images.
        out: folder of executed notebooks, records and networks.

    Raises:
        RunnerError, DatasetError, ValueError: something cannot work.
    """
    notebooks = find(wanted)
    for model in (n.stem[3:] for n in notebooks if n.stem[3:] in models.names()):
        models.check(model, protocol.image_size, weights=protocol.weights)
    source = dataset.describe(data)
    folder = _writable(files.out_dir(out))
    own = {k.name.upper(): getattr(protocol, k.name) for k in KNOBS if f"-{k.name}=" in protocol.label}
    parameters = {"PROTOCOL": protocol.name, "SEED": seed, **json.loads(json.dumps(own))}
    where = {"DATA": str(source.source.root.resolve()), "OUT": str(folder)}
    jobs = []
    for notebook in notebooks:
        model = notebook.stem[3:]
        stamp = {"code": _code(notebook), "data": source.fingerprint, "parameters": parameters}
        output = folder / f"{files.run_name(notebook.stem, protocol.label, seed)}.ipynb"
        lesson: tuple = ()
        if model in models.names():
            args = records.settings(protocol), source.fingerprint, keras.backend.backend(), codebase.digest(model)
            lesson = folder / f"{files.run_name(model, protocol.label, seed)}.json", records.identity(*args)
        jobs.append(Job(notebook, output, parameters | where, stamp, *lesson))
    return jobs


def is_done(job: Job) -> bool:
    """Return whether an earlier run executed this job to its end.

    A lesson is judged by its record: recipe, data, backend and the code of training. Any other notebook is judged by
    its own code. Prose never counts.
    """
    try:
        stamp = json.loads(job.output.read_text(encoding="utf-8"))["metadata"]["bloodcell"]
    except (OSError, ValueError, KeyError):
        return False
    if job.record and job.identity:
        return records.is_done(job.record, job.identity)
    return stamp == job.stamp and not job.reads


def execute(job: Job) -> Outcome:
    """Execute one notebook; a failure is returned, its partial copy kept."""
    if is_done(job):
        return Outcome(job, "skipped")
    start = perf_counter()
    try:
        papermill.execute_notebook(
            str(job.notebook),
            str(job.output),
            job.parameters,
            progress_bar=False,
            coalesce_streams=True,
            kernel_name="python3",
            cwd=str(job.notebook.parent),
            config=Config(KernelManager={"transport_encryption": "auto"}),
        )
    except papermill.PapermillExecutionError as error:
        return Outcome(job, "failed", perf_counter() - start, f"{error.ename}: {error.evalue}")
    except Exception as error:  # a dead kernel, a full disk: the other notebooks still run
        return Outcome(job, "failed", perf_counter() - start, f"{type(error).__name__}: {error}".splitlines()[0])
    notebook = nbformat.read(job.output, as_version=4)
    notebook.metadata["bloodcell"] = job.stamp
    with files.replacing(job.output) as part:
        part.write_text(nbformat.writes(notebook), encoding="utf-8")
    return Outcome(job, "done", perf_counter() - start)


def run(jobs: list[Job], workers: int = 1) -> list[Outcome]:
    """Execute jobs, printing a line when each ends.

    Args:
        jobs: from `plan`.
        workers: how many notebooks at a time.

    Returns:
        Their outcomes, in the order in which they ended.
    """
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(workers) as pool:
        for job in jobs:  # said before anything is lost
            if job.record and job.identity and (other := records.replaced(job.record, job.identity)):
                print(other, flush=True)
        for reads in (False, True):
            for future in as_completed([pool.submit(execute, job) for job in jobs if job.reads == reads]):
                outcome = future.result()
                outcomes.append(outcome)
                detail = f"{outcome.seconds:6.1f} s" if outcome.state != "skipped" else "already done"
                name = outcome.job.notebook.stem
                print(f"[{len(outcomes)}/{len(jobs)}] {name:<16} {outcome.state:<8} {detail}", flush=True)
                if outcome.error:
                    print(f"    {outcome.error}\n    see {outcome.job.output}", flush=True)
    return outcomes


def _code(notebook: Path) -> str:
    """Return a digest of a notebook's code cells."""
    cells = nbformat.read(notebook, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def _writable(folder: Path) -> Path:
    """Make the folder of a batch, or say why it cannot be used."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (probe := folder / f".{os.getpid()}.probe").touch()
        probe.unlink()
    except OSError as error:
        raise RunnerError(f"{folder}: cannot be written ({error.strerror}). Give --out a folder that can.") from error
    return folder.resolve()
