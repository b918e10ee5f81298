"""Batches: notebooks executed headless, several at a time, each by a worker process of its own."""

import hashlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

import nbformat
import psutil

from bloodcell_lib import codebase, dataset, files, models, records
from bloodcell_lib.backend import keras
from bloodcell_lib.command import notebooks, watch
from bloodcell_lib.command.screen import Course, Screen
from bloodcell_lib.models import saved
from bloodcell_lib.protocols import KNOBS, Protocol
from bloodcell_lib.records import Record
from bloodcell_lib.training import DONE

MEMORY = 4 * 2**30  # bytes that a notebook may need: InceptionV3 on 7,965 images of 75x100 takes 3.1 GiB
PATIENCE = 1.0  # seconds between asking processes to end and killing them
THREADS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC"  # JAX
SESSION = "JPY_SESSION_NAME"  # set where a person looks at a notebook


@dataclass(frozen=True)
class Job:
    """One notebook, its parameters, where its executed copy goes, and the record that a lesson leaves behind.

    `stamp` is what must be equal for an executed copy to count as done, `identity` the same for the record; `name` is
    what the screen shows; `advice` is what to try where memory runs out; `unfit` says why the notebook does not
    apply to the set, or "".
    """

    notebook: Path
    output: Path
    parameters: dict[str, Any]
    stamp: dict[str, Any]
    name: str
    advice: str
    record: Path | None = None
    identity: dict[str, Any] | None = None
    unfit: str = ""

    @property
    def reads(self) -> bool:
        """Whether it reads the records of the others."""
        return self.notebook.stem[3:] in notebooks.READERS

    @property
    def is_trained(self) -> bool:
        """Whether its record is there, of this recipe, data, backend and code, with sound predictions and network."""
        return bool(self.record and self.identity and is_trained(self.record, self.identity))

    @cached_property
    def cells(self) -> int:
        """How many cells the notebook has, with the one that papermill adds."""
        return len(nbformat.read(self.notebook, as_version=4).cells) + 1


@dataclass(frozen=True)
class Outcome:
    """What became of a job: "done", "skipped" or "failed", the error, and the cell and line where it happened."""

    job: Job
    state: str
    seconds: float = 0.0
    error: str = ""
    where: str = ""


def plan(
    wanted: list[str],
    protocol: Protocol,
    data: str | None = None,
    seeds: Sequence[int] = (0,),
    out: str | os.PathLike | None = None,
) -> list[Job]:
    """Check what is asked for and lay out the jobs, before anything is run.

    Args:
        wanted: as for `notebooks.find`.
        protocol: the recipe of all.
        data: as for `dataset.load`; a relative path is taken from the working folder.
        seeds: each of the split, the first weights and the order of the images of one run of every notebook.
        out: folder of executed notebooks, records and networks.

    Raises:
        ValueError: something cannot work; also DatasetError.
    """
    chosen = notebooks.find(wanted)
    codes = {notebook: _code(notebook) for notebook in chosen}
    for model in (n.stem[3:] for n in chosen if n.stem[3:] in models.names()):
        models.check(model, protocol.image_size, weights=protocol.weights)
    source = dataset.describe(data)
    _check_split(chosen, source, protocol.split, seeds)
    folder = _writable(files.out_dir(out))
    own = {k.name.upper(): getattr(protocol, k.name) for k in KNOBS if f"-{k.name}=" in protocol.label}
    where = {"DATA": str(source.source.root.resolve()), "OUT": str(folder)}
    advice = f"Try --batch-size {max(1, protocol.batch_size // 2)}, or fewer --jobs."
    jobs = []
    for seed in seeds:
        parameters = {"PROTOCOL": protocol.name, "SEED": seed, **json.loads(json.dumps(own))}
        for notebook in chosen:
            model = notebook.stem[3:]
            stamp = {"code": codes[notebook], "data": source.fingerprint, "parameters": parameters}
            output = folder / f"{files.run_name(notebook.stem, protocol.label, seed)}.ipynb"
            name = notebook.stem if len(seeds) == 1 else f"{notebook.stem}-seed{seed}"
            lesson: dict[str, Any] = {}
            if model in models.names():
                args = records.settings(protocol), source.fingerprint, keras.backend.backend(), codebase.digest(model)
                path = folder / f"{files.run_name(model, protocol.label, seed)}.json"
                lesson = {"record": path, "identity": records.identity(*args)}
            unfit = dataset.why_not(source, "photo", seed) if model in notebooks.OF_PHOTOGRAPHS else ""
            jobs.append(Job(notebook, output, parameters | where, stamp, name, advice, unfit=unfit, **lesson))
    return jobs


def _check_split(chosen: list[Path], source: dataset.Index, split: str, seeds: Sequence[int]) -> None:
    """Refuse a split that the set does not allow, where a notebook would load the set by it."""
    loading = {*models.names(), *["cell"] * (split != "image")}  # "cell" itself replaces "image"
    if not loading & {notebook.stem[3:] for notebook in chosen}:
        return
    if wrong := next(filter(None, (dataset.why_not(source, split, seed) for seed in seeds)), ""):
        raise ValueError(wrong)


def is_done(job: Job) -> bool:
    """Return whether an earlier run executed this job to its end.

    A lesson is judged by its record: recipe, data, backend and the code of training. Any other notebook is judged by
    its own code, and a lesson that is not the shipped one by both. Prose never counts.
    """
    stamp = notebooks.stamp(job.output)
    if stamp is None or (job.record and not job.is_trained):
        return False
    if job.record and job.notebook.parent == files.shipped("notebooks"):
        return True
    return stamp == job.stamp and not job.reads


def is_trained(path: Path, wanted: dict[str, Any]) -> bool:
    """Return whether a sound record of an identity is there, with its predictions and its network.

    The network is written before the record: after a kill in between, it is of another run.
    """
    try:
        record, network = Record.read(path), path.with_suffix(".keras")
        with zipfile.ZipFile(network) as file:
            sound = file.testzip() is None
        its_own = saved.about(network)["record"]["history"] == record.history
        return sound and its_own and record.identity == wanted and bool(record.answers)
    except Exception:  # whatever a file raises that was cut or flipped
        return False


class Crew:
    """The worker processes of a batch: begun one after another, and ended together, with all that they started."""

    def __init__(self) -> None:
        self.running: set[subprocess.Popen] = set()
        self.lock, self.starting, self.stopped = threading.Lock(), threading.Lock(), False

    def start(self, task: dict[str, Any], log: Path, env: dict[str, str]) -> subprocess.Popen:
        """Start a worker in a session of its own, so that Ctrl-C reaches it through `stop` alone."""
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
        command = [sys.executable, "-m", "bloodcell_lib.command.worker"]
        with self.lock, open(log, "ab") as file:
            if self.stopped:
                raise KeyboardInterrupt
            process = subprocess.Popen(command, env=env, stderr=file, start_new_session=True, **pipes)
            self.running.add(process)
        print(json.dumps(task), file=process.stdin, flush=True)  # it stays open: the worker ends when it closes
        return process

    def stop(self) -> None:
        """Ask all processes to end, and kill those that do not, at once if interrupted again."""
        with self.lock:
            self.stopped = True
        found: list[psutil.Process] = []
        for process in self.running:
            with suppress(psutil.NoSuchProcess):
                worker = psutil.Process(process.pid)
                found += [worker, *worker.children(recursive=True)]
        for each in found:
            with suppress(psutil.NoSuchProcess):
                each.terminate()
        try:
            _, found = psutil.wait_procs(found, PATIENCE)
        except KeyboardInterrupt:
            pass
        for each in found:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(found, PATIENCE)


def execute(
    job: Job,
    crew: Crew | None = None,
    screen: Screen | None = None,
    env: dict[str, str] | None = None,
    html: bool = False,
    timeout: int | None = None,
) -> Outcome:
    """Execute one notebook; a failure is returned, its partial copy and its log kept.

    Args:
        job: from `plan`.
        crew: the processes that it joins.
        screen: where it is shown.
        env: environment variables of its process.
        html: whether to write a page beside the notebook.
        timeout: seconds that a cell may take; None is no limit.
    """
    crew, screen = crew or Crew(), screen or Screen(1)
    paths = {"notebook": str(job.notebook), "output": str(job.output)}
    task = paths | {"parameters": job.parameters, "stamp": job.stamp, "advice": job.advice}
    start, log = perf_counter(), job.output.with_suffix(".log")
    with crew.starting:  # the next one starts when this one has its kernel
        try:
            process = crew.start(task | {"html": html, "timeout": timeout}, log, env or dict(os.environ))
        except OSError as error:  # a full disk: the others still run
            return _end(screen, Outcome(job, "failed", error=f"it cannot be started ({error})."))
        course = screen.begin(job.name, job.cells)
        events = map(json.loads, process.stdout or ())
        first: dict[str, Any] = next(events, {})
    said = first
    for said in chain([first], events):
        screen.update(course, said)
    status = process.wait()
    crew.running.discard(process)
    seconds, why = perf_counter() - start, f"most often for lack of memory. {job.advice}"
    if said.get("state") == "done":
        return _end(screen, Outcome(job, "done", seconds), course)
    silent = f"its process was killed, {why}" if status == -signal.SIGKILL else f"its process ended with {status}."
    return _end(screen, Outcome(job, "failed", seconds, said.get("error", silent), said.get("where", "")), course)


def run(
    jobs: list[Job],
    workers: int | None = None,
    *,
    fresh: bool = False,
    html: bool = False,
    timeout: int | None = None,
    devices: str | None = None,
    watchers: Sequence[str] = (),
) -> list[Outcome]:
    """Execute jobs, showing what runs, and a line for each that ends.

    Args:
        jobs: from `plan`.
        workers: how many at a time, or None for as many as cores, memory and GPUs allow.
        fresh: execute again what is done, and train from the first epoch.
        html, timeout: see `execute`.
        devices: how many devices train one network, or "all".
        watchers: "tensorboard", "mlflow", or both.

    Returns:
        Their outcomes, in the order in which they ended.

    Raises:
        ValueError: a watcher cannot be used; nothing was begun.
        BusyError: another batch executes one of them into the same folder; nothing was begun.
        KeyboardInterrupt: it was interrupted; every process that it began has ended.
    """
    waiting = [job for job in jobs if not job.unfit and (fresh or not is_done(job))]
    workers = max(1, min(workers or fitting(devices), len(waiting)))
    shown = watch.check(watchers, jobs[0].output.parent) if watchers else []
    crew, slots = Crew(), queue.SimpleQueue[int]()
    for slot in range(workers):
        slots.put(slot)

    def begin(job: Job) -> Outcome:
        slot, watched = slots.get(), _watched(job, watchers)
        try:
            env = _environment(job, slot, workers, fresh, devices) | watched.environment
            outcome = execute(job, crew, screen, env, html, timeout)
        finally:
            slots.put(slot)
        if wrong := watched.finish(job.record, outcome.state == "failed"):
            screen.say(wrong)
        return outcome

    with ExitStack() as stack:
        for job in waiting:
            stack.enter_context(files.alone(job.output, wait=False))
        screen = stack.enter_context(Screen(len(jobs)))
        for command in shown if waiting else ():
            screen.say(f"To watch: {command}")
        outcomes = [Outcome(job, "skipped", error=job.unfit) for job in jobs if job not in waiting]
        for outcome in outcomes:
            _end(screen, outcome)
        for job in waiting:
            _prepare(job, fresh, screen)
        pool = stack.enter_context(ThreadPoolExecutor(workers))
        try:
            for reads in (False, True):
                asked = [pool.submit(begin, job) for job in waiting if job.reads == reads]
                outcomes += [future.result() for future in as_completed(asked)]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            crew.stop()
            raise
    return outcomes


def fitting(devices: str | None = None) -> int:
    """Return how many jobs fit at a time: by GPUs where there are some, else by cores and free memory."""
    if devices:
        return 1
    return len(_gpus()) or max(1, min(_cores(), psutil.virtual_memory().available // MEMORY))


def _environment(job: Job, slot: int, workers: int, fresh: bool, devices: str | None) -> dict[str, str]:
    """Return the variables of a worker: its share of the cores, its GPU, and what a notebook cannot know."""
    share = {name: str(max(1, _cores() // workers)) for name in THREADS} if workers > 1 else {}
    outside = {name: value for name, value in os.environ.items() if name != SESSION}  # whoever set threads is obeyed
    own = {"BLOODCELL_DEVICES": devices} if devices else {}
    if (gpus := _gpus()) and not devices:
        own["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    if job.is_trained and not fresh:
        own[DONE] = str(job.record)
    return share | outside | own


def _watched(job: Job, watchers: Sequence[str]) -> watch.Watched:
    """Return what watchers are told of a job."""
    known = dict(job.identity or {})
    recipe = {name: value for name, value in known.pop("recipe", {}).items() if value not in (None, [])}
    protocol = {"protocol": recipe.pop("name", job.parameters["PROTOCOL"])}
    params = {"notebook": job.notebook.stem, "seed": job.parameters["SEED"], **protocol, **recipe, **known}
    name = (job.record or job.output).stem
    return watch.Watched(watchers, str(job.output.parent), name, params)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _gpus() -> tuple[str, ...]:
    """Return the GPUs that may be used, as CUDA_VISIBLE_DEVICES names them; a backend would take their memory."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return tuple(filter(None, visible.split(",")))
    if not shutil.which("nvidia-smi"):
        return ()
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    return tuple(str(place) for place, _ in enumerate(re.findall("^GPU", listed.stdout, re.MULTILINE)))


def _prepare(job: Job, fresh: bool, screen: Screen) -> None:
    """Say what a job will replace, before anything is lost; forget an interrupted run where it shall be made fresh."""
    if job.record and job.identity:
        if other := records.replaced(job.record, job.identity):
            screen.say(other)
        if fresh:
            job.record.with_suffix(".state.npz").unlink(missing_ok=True)


def _end(screen: Screen, outcome: Outcome, course: Course | None = None) -> Outcome:
    """Show how a job ended, and return it."""
    skipped = "does not apply to this set" if outcome.error else "already done"
    detail = f"{outcome.seconds:6.1f} s" if outcome.state != "skipped" else skipped
    output = outcome.job.output
    see = f"see {output} and {output.with_suffix('.log').name}"
    notes = [note for note in (outcome.where, outcome.error, see if outcome.state == "failed" else "") if note]
    screen.end(outcome.job.name, outcome.state, detail, notes, course)
    return outcome


def _code(notebook: Path) -> str:
    """Return a digest of the code that a batch executes of a notebook."""
    try:
        cells = nbformat.read(notebook, as_version=4).cells
    except Exception as error:  # whatever a file raises that was cut, or is no notebook
        raise ValueError(f"{notebook}: not a notebook ({watch.brief(error)}). Name another.") from error
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code" and notebooks.is_in_batch(cell))
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def _writable(folder: Path) -> Path:
    """Make the folder of a batch, or say why it cannot be used."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (probe := folder / f".{os.getpid()}.probe").touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written ({error.strerror}). Give --out a folder that can.") from error
    return folder.resolve()
