"""Contenders measured in turns, A B A B ..., each in processes of its own.

What else the machine does then meets all alike: seconds are of that hour, ratios of neighbouring turns are of the
contenders. Standard library alone, so that a contender may live in another environment.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

ROOT = Path(__file__).parents[1]
Turns = dict[str, list[dict[str, float]]]


class Contender:
    """Processes of one command that compute at the same time, and only when they have the baton."""

    def __init__(self, name: str, command: list[str], processes: int = 1, environment: dict[str, str] | None = None):
        self.name = name
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        variables = os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {})
        self.processes = [subprocess.Popen(command, env=variables, **pipes) for _ in range(processes)]

    def turn(self) -> dict[str, float]:
        """Give the baton to all processes; return their sums, but the wall seconds and the peak of the slowest."""
        for process in self.processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        return self.receive()

    def receive(self) -> dict[str, float]:
        """Wait until all processes have handed over."""
        lines = [process.stdout.readline() for process in self.processes]
        if not all(lines):
            raise SystemExit(f"{self.name}: a process ended before its turn did; its last words are above.")
        found = list(map(json.loads, lines))
        return {key: (max if key in ("wall", "peak") else sum)(each[key] for each in found) for key in found[0]}

    def close(self) -> None:
        """Let the processes end."""
        for process in self.processes:
            process.stdin.close()
            process.wait()


class Baton:
    """The contender's end: `wait`, compute, `hand_over`. What the contender prints goes to stderr."""

    def __init__(self) -> None:
        self.channel = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def wait(self) -> None:
        """Wait for the turn; end the process if no more come."""
        if not sys.stdin.readline():
            os._exit(0)
        self.start = clocks()

    def hand_over(self, **values: float) -> None:
        """End the turn: its `clocks`, the process's peak of memory in MiB, and what else was measured."""
        now = clocks()
        then = getattr(self, "start", now)
        print(json.dumps({key: now[key] - then[key] for key in now} | {"peak": peak()} | values), file=self.channel)
        self.channel.flush()


def peak() -> float:
    """Return this process's peak of memory in MiB. On Linux `ru_maxrss` would count the process that started it too."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmHWM"))) / 2**10


def clocks() -> dict[str, float]:
    """Return seconds: of the wall, and of this process on all cores."""
    return {"wall": perf_counter(), "cpu": process_time()}


def in_turns(contenders: list[Contender], rounds: int) -> Turns:
    """Wait until all are ready, which each says by a first `hand_over`, then give so many turns to each."""
    for contender in contenders:
        contender.receive()
    turns: Turns = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            turns[contender.name].append(contender.turn())
    for contender in contenders:
        contender.close()
    return turns


def ratios(first: list[float], second: list[float]) -> tuple[float, float, float]:
    """Return median, lowest and highest ratio of neighbouring turns."""
    each = [a / b for a, b in zip(first, second, strict=True)]
    return median(each), min(each), max(each)


def spread(first: list[float], second: list[float]) -> str:
    """Write `ratios` for a table."""
    return "{:.2f} [{:.2f}, {:.2f}]".format(*ratios(first, second))


def table(rows: list[dict[str, Any]]) -> str:
    """Write rows of one set of keys as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def parser(text: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of all benchmarks."""
    options = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=6, help="turns of each contender (default: %(default)s)")
    options.add_argument("--out", type=Path, help="a JSON file for all that was measured")
    options.add_argument("--worker", help=argparse.SUPPRESS)
    return options


def worker(script: str, python: str | None = None, **values: Any) -> list[str]:
    """Return the command that makes a script a contender: its own options, `worker` among them."""
    given = [part for name, value in values.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return [python or sys.executable, script, *given]


def finish(options: argparse.Namespace, rows: list[dict[str, Any]], measured: Any) -> None:
    """Print the table, and write what was measured if there is a place."""
    print(table(rows))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        given = {name: value for name, value in vars(options).items() if isinstance(value, (int, float, str, list))}
        options.out.write_text(json.dumps({"options": given, "measured": measured}, indent=1) + "\n")


def chosen(workers: dict[str, Callable[..., None]], options: argparse.Namespace) -> bool:
    """Compute as a contender if this process is one, and return whether it was."""
    if options.worker:
        workers[options.worker](options, Baton())
    return bool(options.worker)
