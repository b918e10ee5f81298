"""Batches: notebooks executed headless through papermill, each in a kernel process of its own."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import nbformat
import papermill
from traitlets.config import Config

from bloodcell_lib import LESSONS, dataset, protocols, records

PARAMETERS = ("PROTOCOL", "DATA", "SEED", "OUT", "IMAGE_SIZE", "BATCH_SIZE", "EPOCHS", "LEARNING_RATE", "LIMIT")
READERS = ("comparison",)


class SuiteError(ValueError):
    """A batch cannot start; the message says what was asked for and what there is."""


@dataclass(frozen=True)
class Job:
    """One notebook, its parameters, and where its executed copy goes."""

    notebook: Path
    output: Path
    parameters: dict
    stamp: dict  # what must be equal for an executed copy to count as done
    record: Path | None  # what a lesson leaves behind
    reads: bool = False  # it reads the records of the lessons, so it comes after them and is never skipped


@dataclass(frozen=True)
class Outcome:
    """What became of a job: "done", "skipped" or "failed", and the last line of the error."""

    job: Job
    state: str
    seconds: float = 0.0
    error: str = ""


def notebooks_dir() -> Path:
    """Return the folder of notebooks: beside the library, or below the working folder.

    Raises:
        SuiteError: there is none.
    """
    for folder in (Path(__file__).parents[1] / "notebooks", Path.cwd() / "notebooks"):
        if folder.is_dir():
            return folder
    raise SuiteError(
        f"no notebooks folder beside {Path(__file__).parent} or below {Path.cwd()}. "
        "Run this from a checkout of the project."
    )


def find(wanted: list[str]) -> list[Path]:
    """Return the notebooks that are meant: all, or by model ("cnn"), number ("01"), name or path.

    Raises:
        SuiteError: one is unknown.
    """
    every = sorted(notebooks_dir().glob("[0-9][0-9]_*.ipynb"))
    if not wanted:
        return every
    chosen = []
    for want in wanted:
        stem = Path(want).name.removesuffix(".ipynb")
        match = [n for n in every if stem in (n.stem, n.stem[3:], n.stem[:2])]
        if not match:
            raise SuiteError(
                f"no notebook is meant by {want!r}. Choose from: {', '.join(n.stem for n in every)}, "
                "or give none for all."
            )
        chosen += match
    return list(dict.fromkeys(chosen))


def plan(
    wanted: list[str],
    protocol: str = "quick",
    data: str | None = None,
    seed: int = 0,
    out: str | os.PathLike | None = None,
    **overrides,
) -> list[Job]:
    """Check what is asked for and lay out the jobs, before anything is run.

    Args:
        wanted: as for `find`.
        protocol, seed, overrides: as for `protocols.get`; they become the notebooks' parameters.
        data: as for `dataset.load`; a relative path is taken from the working folder.
        out: folder of executed notebooks, records and checkpoints.

    Raises:
        SuiteError, DatasetError, ValueError: something cannot work.
    """
    recipe = protocols.get(protocol, **overrides)
    source = dataset.describe(data)
    folder = records.out_dir(out).resolve()
    parameters = {"PROTOCOL": protocol, "DATA": str(source.source.root.resolve()), "SEED": seed, "OUT": str(folder)}
    for key in (key for key, value in overrides.items() if value is not None):
        value = getattr(recipe, key)
        parameters[key.upper()] = list(value) if isinstance(value, tuple) else value
    jobs = []
    for notebook in find(wanted):
        stem = records.stem(notebook.stem, recipe.name, seed)
        model = notebook.stem[3:]
        stamp = {
            "source": hashlib.sha256(notebook.read_bytes()).hexdigest()[:16],
            "fingerprint": source.fingerprint,
            "parameters": {k: v for k, v in parameters.items() if k not in ("DATA", "OUT")},
        }
        record = folder / f"{records.stem(model, recipe.name, seed)}.json" if model in LESSONS else None
        jobs.append(Job(notebook, folder / f"{stem}.ipynb", parameters, stamp, record, model in READERS))
    return jobs


def is_done(job: Job) -> bool:
    """Return whether an earlier run executed this very job to its end and its record is sound."""
    try:
        if job.reads or json.loads(job.output.read_text())["metadata"]["bloodcell"] != job.stamp:
            return False
        return job.record is None or bool(records.read(job.record))
    except (OSError, ValueError, KeyError):
        return False


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
    with records.replacing(job.output) as file:
        file.write(nbformat.writes(notebook).encode())
    return Outcome(job, "done", perf_counter() - start)


def run(jobs: list[Job], workers: int = 1) -> list[Outcome]:
    """Execute jobs, printing a line as each ends.

    Args:
        jobs: from `plan`.
        workers: how many notebooks at a time.

    Returns:
        Their outcomes, in the order in which they ended.
    """
    outcomes = []
    with ThreadPoolExecutor(workers) as pool:
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
