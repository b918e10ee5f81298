"""Do batches survive? They are killed, interrupted, given full disks and damaged files, and compared with others.

Each part prints one table, and exits with 1 if anything was believed that is false, hung, left a process behind or
ended in a traceback. Run from the project's folder, where the library is installed:

    python benchmarks/reliability.py kills --times 20
    python benchmarks/reliability.py loads
    python benchmarks/reliability.py mutants --count 500 --seed 0
    python benchmarks/reliability.py disk
    python benchmarks/reliability.py interrupt --times 10
"""

import argparse
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

from bloodcell_lib import dataset, files, protocols, records
from bloodcell_lib.command import tables
from bloodcell_lib.images import DatasetError

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT / "tests"))
MARK = "BLOODCELL_RELIABILITY"  # an environment variable that every process of a batch inherits
EPOCHS = 12
SMALL = [f"EPOCHS={EPOCHS}", "LIMIT=40", "IMAGE_SIZE=16x24"]
SIZE = (16, 24)
LIMIT = 30  # seconds after which reading a damaged file counts as hanging
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(PROJECT),
    "TF_DETERMINISTIC_OPS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    **dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"),
}


class Hang(BaseException):
    """Reading a damaged file took longer than the limit."""


# Batches as processes


def batch(out: Path, cache: Path, *arguments: str, limits: Callable[[], None] | None = None) -> subprocess.Popen:
    """Start `bloodcell run` with one output stream; its processes are known by the folder `out`."""
    command = [sys.executable, "-m", "bloodcell_lib", "run", "--data", "sample", "--out", str(out), *arguments]
    env = ENVIRONMENT | {MARK: str(out), "BLOODCELL_CACHE": str(cache)}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=env, cwd=PROJECT, start_new_session=True, preexec_fn=limits, **pipes)


def lesson(out: Path, cache: Path, limits: Callable[[], None] | None = None) -> subprocess.Popen:
    return batch(out, cache, "cnn", "--jobs", "1", *(f"--set={pair}" for pair in SMALL), limits=limits)


def marked(out: Path) -> list[psutil.Process]:
    """Return the living processes of a batch, also those whose parent is gone."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == str(out):
                found.append(process)
    return found


def left_after(out: Path, seconds: float) -> int:
    """Return how many processes of a batch are alive so many seconds later; they are killed."""
    end = time.monotonic() + seconds
    while (found := marked(out)) and time.monotonic() < end:
        time.sleep(0.1)
    for process in found:
        with suppress(psutil.Error):
            process.kill()
    return len(found)


def outcome(out: Path) -> tuple[records.Record, list[np.ndarray]]:
    """Return the record of a finished lesson, checked with its predictions, and the weights of its network."""
    from bloodcell_lib.backend import keras

    (path,) = out.glob("cnn-*.json")
    record = records.Record.read(path)
    assert record.answers
    return record, keras.saving.load_model(path.with_suffix(".keras"), compile=False).get_weights()


def differences(out: Path, wanted: Path) -> list[str]:
    """Name what a finished lesson has otherwise than an undisturbed one."""
    try:
        (one, weights), (other, others) = outcome(out), outcome(wanted)
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    same = {
        "history": one.history == other.history and one.best_epoch == other.best_epoch,
        "metrics": (one.validation, one.test) == (other.validation, other.test),
        "epochs": {len(values) for values in one.history.values()} == {EPOCHS},
        "weights": equal(dict(enumerate(weights)), dict(enumerate(others))),
        "predictions": equal(one.answers, other.answers),
        "no leftovers": not [*out.glob(".*.part*"), *out.glob("*.state.npz")],
    }
    return [name for name, holds in same.items() if not holds]


def unsound(out: Path) -> list[str]:
    """Name what lies in the folder of a batch that was stopped under a final name, and is not whole."""
    wrong = []
    for path in (*out.glob("*.json"), *out.glob("*.npz"), *out.glob("*.keras"), *out.glob("*.ipynb")):
        try:
            if path.suffix == ".json":
                assert records.Record.read(path).answers
            elif path.suffix == ".ipynb":
                assert path.read_text(encoding="utf-8").rstrip().endswith("}")
            else:
                with zipfile.ZipFile(path) as file:
                    assert file.testzip() is None
        except Exception as error:
            wrong.append(f"{path.name}: {error}")
    return wrong


def equal(one: dict[Any, np.ndarray], other: dict[Any, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        one[k].dtype == other[k].dtype and np.array_equal(one[k], other[k]) for k in one
    )


def undisturbed(work: Path) -> tuple[Path, Path, float]:
    """Run the lesson once, the sample drawn and decoded before; return its folder, its cache and its seconds."""
    out, cache = work / "undisturbed", work / "cache"
    os.environ["BLOODCELL_CACHE"] = str(cache)
    dataset.load("sample", SIZE)
    start = time.monotonic()
    process = lesson(out, cache)
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the undisturbed batch failed:\n{said}")
    return out, cache, time.monotonic() - start


# The parts


def kills(options: argparse.Namespace, work: Path) -> tuple[pd.DataFrame, list[str]]:
    """SIGKILL a batch, or a process below it, at random moments; start it again until it is done, and compare."""
    rng, wrong, counts = np.random.default_rng(options.seed), [], Counter[str]()
    wanted, cache, seconds = undisturbed(work)
    while counts["kills"] < options.times:
        out, counts["batches"] = work / f"batch{counts['batches']}", counts["batches"] + 1
        for decoded in cache.glob("*.npy"):  # so that decoding is killed too
            decoded.unlink()
        while True:
            process, moment = lesson(out, cache), rng.uniform(0, seconds)
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=moment if counts["kills"] < options.times else 20 * seconds + 60)
            if process.poll() is None:
                victim = rng.choice([process.pid, *(each.pid for each in marked(out))]) if rng.random() < 0.5 else 0
                with suppress(ProcessLookupError):
                    os.kill(int(victim) or process.pid, signal.SIGKILL)
                counts["kills"] += 1
                print(f"kill {counts['kills']} at {moment:.1f} of {seconds:.1f} s", file=sys.stderr, flush=True)
                counts["of them of the batch itself"] += int(victim) in (0, process.pid)
                with suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=5 * seconds + 60)
            if process.poll() is None:
                wrong.append(f"hung after a kill at {moment:.1f} s")
                process.kill()
            if left := left_after(out, 10):
                wrong.append(f"{left} processes left after a kill at {moment:.1f} s")
            wrong += unsound(out)
            counts["resumed after an epoch"] += bool(list(out.glob("*.state.npz")))
            if process.returncode == 0 and not unsound(out):
                break
        wrong += (off := differences(out, wanted))
        counts["batches equal to the undisturbed one"] += not off
    counts["seconds of the undisturbed batch"] = round(seconds)
    return pd.DataFrame(list(counts.items()), columns=["what", "count"]), wrong


def _load(data: str, cache: str, barrier: Any) -> tuple[int, int]:
    """Return a checksum of all pixels and how often this process decoded."""
    os.environ["BLOODCELL_CACHE"], decode, times = cache, dataset._decode_all, []
    dataset._decode_all = lambda *arguments: times.append(decode(*arguments))
    barrier.wait()
    part = dataset.load(data).train
    return zlib.crc32(np.ascontiguousarray(part.memory_map)), len(times)


def loads(options: argparse.Namespace, work: Path) -> tuple[pd.DataFrame, list[str]]:
    """Let eight processes load a set that nobody has decoded, at once."""
    from conftest import make_set

    data = options.data or str(make_set(work / "set", each=200))
    context, cache, start = multiprocessing.get_context("spawn"), work / "cache", time.monotonic()
    with context.Manager() as manager, context.Pool(8) as pool:
        found = pool.starmap(_load, [(data, str(cache), manager.Barrier(8))] * 8)
    sums, times = zip(*found, strict=True)
    names = sorted(path.name for path in cache.iterdir() if path.name != files.LOCKS)
    os.environ["BLOODCELL_CACHE"] = str(work / "alone")
    alone = zlib.crc32(np.ascontiguousarray(dataset.load(data).train.memory_map))
    faults = {"other pixels": set(sums) != {alone}, "decoded more than once": sum(times) != 1, "left": len(names) != 1}
    row = {"processes": 8, "images": len(dataset.describe(data).entries), "checksums": len(set(sums))}
    row |= {"times decoded": sum(times), "files": ", ".join(names), "seconds": f"{time.monotonic() - start:.1f}"}
    return pd.DataFrame([row]), [fault for fault, applies in faults.items() if applies]


@dataclass
class Target:
    """A file to damage, and what reads it: "right", "error", or what was believed though it is false."""

    path: Path
    read: Callable[[], str]

    def verdict(self, content: bytes) -> str:
        whole = self.path.read_bytes()
        self._write(content)
        signal.alarm(LIMIT)
        try:
            return self.read()
        except (DatasetError, records.RecordError) as error:
            return "error" if len(str(error).splitlines()) == 1 else f"an error of several lines: {error}"
        except Hang:
            return "hang"
        except Exception as error:
            return f"traceback: {type(error).__name__}: {error}"
        finally:
            signal.alarm(0)
            self._write(whole)

    def _write(self, content: bytes) -> None:
        self.path.unlink(missing_ok=True)  # whoever still maps the old one keeps it
        self.path.write_bytes(content)


def damaged(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Return a kind of damage, and the content with it: never the content itself."""
    kind, found = str(rng.choice(["flip", "header", "cut", "zeros", "swap"])), bytearray(content)
    headers = [mark.start() for mark in re.finditer(rb"PK[\1-\6]|\x93NUMPY", content)] or [0]
    while found == content:
        length = int(rng.integers(1, min(256, len(content) // 3)))
        first, second = sorted(int(place) for place in rng.integers(0, len(content) - length, 2))
        if kind == "header":  # a bit near one
            first = min(int(rng.choice(headers) + rng.integers(128)), len(content) - 1)
        if kind in ("flip", "header"):
            found[first] ^= 1 << int(rng.integers(8))
        elif kind == "cut":
            del found[first:]
        elif kind == "zeros":
            found[first : first + length] = bytes(length)
        elif first + length <= second:
            one, other = content[first : first + length], content[second : second + length]
            found[first : first + length], found[second : second + length] = other, one
    return kind, bytes(found)


def _sets(work: Path) -> Iterator[tuple[str, Target]]:
    from conftest import make_set, zipped

    def reader(data: Path, fresh: bool, excused: bool) -> Callable[[], str]:
        def found() -> tuple[str, list[np.ndarray]]:
            os.environ["BLOODCELL_CACHE"] = str(cache := work / f"cache-{fresh}")
            if fresh:
                shutil.rmtree(cache, ignore_errors=True)
            loaded = dataset.load(data, SIZE)
            parts = loaded.train, loaded.validation, loaded.test
            return loaded.fingerprint, [np.array(getattr(p, of)) for p in parts for of in ("images", "labels", "paths")]

        fingerprint, wanted = found()

        def read() -> str:
            mark, arrays = found()
            if excused and mark != fingerprint:
                return "right"
            same = all(map(np.array_equal, arrays, wanted)) and mark == fingerprint
            return (
                "right" if same else f"believed: other images, fingerprint {'new' if mark != fingerprint else 'same'}"
            )

        return read

    for suffix in ("jpg", "png", "tif", "bmp"):
        folder = make_set(work / suffix, each=4, suffix=suffix)
        yield (
            f"image file, {suffix}",
            Target(folder / "TRAIN/MONOCYTE" / f"cell 1.{suffix}", reader(folder, True, True)),
        )
    archive = zipped(work / "jpg", work / "set.zip")
    yield "zip", Target(archive, reader(archive, True, False))
    read = reader(work / "jpg", False, False)
    (decoded,) = (work / "cache-False").glob("*.npy")
    yield "decoded images", Target(decoded, read)


def _records(work: Path) -> Iterator[tuple[str, Target]]:
    import made

    record = made.record(work)
    wanted = records.Record.read(path := record.write())
    wanted.answers  # noqa: B018  read and kept

    def written() -> str:
        return "right" if records.Record.read(path) == wanted else "believed: another record"

    def predicted() -> str:
        same = equal(records.Record.read(path).answers, wanted.answers)
        return "right" if same else "believed: other predictions"

    yield "record", Target(path, written)
    yield "predictions", Target(work / record.predictions, predicted)


def _state(work: Path) -> Iterator[tuple[str, Target]]:
    from conftest import make_set

    from bloodcell_lib import training
    from bloodcell_lib.backend import keras

    data = dataset.load(make_set(work / "trained", each=6), SIZE)
    recipe = protocols.get("quick", image_size=SIZE, epochs=2)

    def fresh() -> tuple[training.State, keras.Model]:
        keras.utils.set_random_seed(0)
        inputs = keras.Input((*SIZE, 3))
        outputs = keras.layers.Dense(4, "softmax")(keras.layers.GlobalAveragePooling2D()(inputs))
        network = keras.Model(inputs, outputs, name="cnn")  # tiny: its name is that of a network whose code is known
        network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return training.State(network, data, recipe, 0, work), network

    def restored() -> tuple[str, tuple]:
        state, network = fresh()
        with redirect_stdout(StringIO()) as said:
            state.restore(network)
        values = [keras.ops.convert_to_numpy(variable) for variable in state.variables]
        return said.getvalue(), (state.epoch, state.history, *map(np.ndarray.tolist, [*values, *state.best]))

    _, anew = restored()
    state, network = fresh()
    state.restore(network)
    callbacks = [training.TestCurve(data.test), state]
    network.fit(training.Batches(data.train, 16, 0), validation_data=(data.validation.images, data.validation.labels),
                epochs=1, shuffle=False, verbose=0, callbacks=callbacks)  # fmt: skip
    said, resumed = restored()
    assert "resumed after epoch 1" in said

    def read() -> str:
        said, found = restored()
        if "cannot be resumed" in said:
            return "error" if found == anew else "believed: training does not start anew"
        return "right" if found == resumed else "believed: another state"

    yield "run state", Target(state.path, read)


def mutants(options: argparse.Namespace, work: Path) -> tuple[pd.DataFrame, list[str]]:
    """Damage files of every kind, and read them."""

    def hang(*_: Any) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, hang)
    os.environ["BLOODCELL_CACHE"] = str(work / "cache")
    rng, found = np.random.default_rng(options.seed), []
    with redirect_stderr(StringIO()):  # progress bars
        targets = [*_records(work), *_state(work), *_sets(work)]
        for place in range(options.count):
            name, target = targets[place % len(targets)]
            kind, content = damaged(target.path.read_bytes(), rng)
            found.append((name, kind, target.verdict(content)))
    table = pd.DataFrame(found, columns=["file", "damage", "verdict"])
    wrong = [f"{name}, {kind}: {verdict}" for name, kind, verdict in found if verdict not in ("right", "error")]
    table["verdict"] = table.verdict.str.partition(":")[0]
    return pd.crosstab(table.file, table.verdict, margins=True, margins_name="all").reset_index(), wrong


@contextmanager
def small_disk(place: Path, kib: int) -> Iterator[tuple[Callable[[], Any], Callable[[], None] | None]]:
    """Mount a tmpfs, or limit the size of files where that is not allowed; yield what makes room, and the limit."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(place)]
    if shutil.which("mount") and subprocess.run(mount, capture_output=True).returncode == 0:
        try:
            yield lambda: subprocess.run(["mount", "-o", "remount,size=1g", str(place)], check=True), None
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)
    else:
        yield lambda: None, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024,) * 2)


def disk(options: argparse.Namespace, work: Path) -> tuple[pd.DataFrame, list[str]]:
    """Let the disk of the cache or of the results be full; then make room, start again, and compare."""
    wanted, cache, _ = undisturbed(work)
    (drawn,) = cache.glob("sample-*")
    drawing = sum(-(-file.stat().st_size // 4096) * 4 for file in drawn.rglob("*") if file.is_file())  # KiB
    found, wrong = [], []
    for what, kib in (("cache", drawing + 400), *(("out", kib) for kib in (2000, 9000, 100)), ("cache", 400)):
        place, case = work / f"{what}{kib}", f"{what} of {kib:,} KiB"
        with small_disk(place, kib) as (make_room, limits):
            if what == "cache" and kib > drawing:
                shutil.copytree(drawn, place / drawn.name)
            out = place / "out" if what == "out" else work / f"beside{kib}"
            folders = out, place if what == "cache" else cache
            process = lesson(*folders, limits=limits)
            said, _ = process.communicate()
            lines = [line.strip() for line in said.splitlines() if str(place) in line and "see " not in line[:16]]
            faults = {
                "believed": process.returncode == 0,
                "traceback": "Traceback" in said,
                "the place is not named": not lines,
                "half written files": bool(unsound(out) or list(place.rglob(".*.part*"))),
                "processes left": bool(left_after(out, 10)),
            }
            make_room()
            again, _ = (second := lesson(*folders)).communicate()
            off = differences(out, wanted)
            wrong += [f"{case}: {fault}\n{said}" for fault, applies in faults.items() if applies]
            wrong += [f"{case}, with room: {what} differ\n{again}" for what in off]
            print(case, process.returncode, second.returncode, off, lines, file=sys.stderr, flush=True)
            found.append((case, process.returncode, "equal" if not off else "other", (lines or [said[-90:]])[0][-90:]))
    return pd.DataFrame(found, columns=["full disk", "status", "with room", "error"]), wrong


def interrupt(options: argparse.Namespace, work: Path) -> tuple[pd.DataFrame, list[str]]:
    """Interrupt a batch of two notebooks at random moments."""
    rng, found, wrong = np.random.default_rng(options.seed), [], []
    os.environ["BLOODCELL_CACHE"] = str(work / "cache")
    dataset.locate("sample")
    for place in range(options.times):
        out, how, moment = work / f"batch{place}", (signal.SIGINT, signal.SIGTERM)[place % 2], rng.uniform(1, 40)
        recipe = "--set=EPOCHS=100000", "--set=LIMIT=40", "--set=IMAGE_SIZE=32x32"
        process = batch(out, work / "cache", "cnn", "squeezenet", "--jobs", "2", *recipe)
        time.sleep(moment)
        start = time.monotonic()
        process.send_signal(how)
        try:
            said, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            said = "hung"
        seconds = time.monotonic() - start
        before, left = _files(out), left_after(out, 0)
        time.sleep(2)
        faults = {
            f"status {process.returncode}": process.returncode != 130,
            f"{seconds:.1f} s": seconds > 5,
            "traceback": "Traceback" in said,
            f"{left} processes left": left > 0,
            "something was begun after it": _files(out) != before or bool(marked(out)),
        }
        wrong += [f"{how.name} at {moment:.1f} s: {fault}\n{said}" for fault, applies in faults.items() if applies]
        print(how.name, f"at {moment:.1f} s:", process.returncode, f"{seconds:.2f} s", file=sys.stderr, flush=True)
        found.append((how.name, moment, seconds, process.returncode == 130, left))
    table = pd.DataFrame(found, columns=["signal", "moment", "seconds", "status 130", "left"]).groupby("signal")
    largest = {"times": ("left", "size"), "status 130": ("status 130", "sum"), "largest seconds": ("seconds", "max")}
    return table.agg(**largest, **{"processes left": ("left", "sum")}).round(2).reset_index(), wrong


def _files(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for part in (kills, loads, mutants, disk, interrupt):
        one = commands.add_parser(part.__name__, help=part.__doc__)
        one.set_defaults(part=part)
        one.add_argument("--seed", type=int, default=0, help="of moments and damages")
        if part in (kills, interrupt):
            one.add_argument("--times", type=int, default=20 if part is kills else 10)
    commands.choices["mutants"].add_argument("--count", type=int, default=500)
    commands.choices["loads"].add_argument("--data", help="a zip or folder (default: a drawn set)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        table, wrong = options.part(options, Path(work).resolve())
    print(tables.text(table))
    for fault in wrong:
        print(f"WRONG: {fault}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
