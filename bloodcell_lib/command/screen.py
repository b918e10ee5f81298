"""What a batch shows while it runs: bars on a terminal, and lines anywhere else."""

import threading
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

QUIET = 10.0  # seconds between two lines on one notebook


@dataclass
class Course:
    """How far a notebook is. `task` is its bar; `epochs` are the times at which its epochs ended."""

    name: str
    cells: int
    task: Any = None
    start: float = field(default_factory=perf_counter)
    said: float = 0.0
    cell: int = 0
    epoch: int = 0
    epochs: int = 0
    last: float = 0.0  # when the last epoch ended
    pace: float = 0.0  # seconds an epoch takes

    def follow(self, event: dict[str, Any]) -> None:
        """Take in what the worker said: {"cell": k}, or {"epoch": k, "epochs": n}."""
        now, epoch = perf_counter(), event.get("epoch", 0)
        if epoch:
            if epoch == self.epoch + 1 and self.epochs == event["epochs"]:
                self.pace = now - self.last
            self.epoch, self.epochs, self.last = epoch, event["epochs"], now
        elif "cell" in event:
            self.cell = event["cell"]

    def __str__(self) -> str:
        told = [f"cell {self.cell} of {self.cells}"]
        if self.epochs:
            told.append(f"epoch {self.epoch} of {self.epochs}")
        told.append(f"{_clock(perf_counter() - self.start)} elapsed")
        if self.pace and self.epoch < self.epochs:
            passed = perf_counter() - self.last
            told.append(f"about {_clock(max(0, self.pace * (self.epochs - self.epoch) - passed))} left to train")
        return ", ".join(told)


class Screen:
    """The notebooks that run, one line each, and how many of all have ended. Its methods may be called by threads."""

    def __init__(self, total: int):
        self.lock, self.total, self.ended = threading.Lock(), total, 0
        console = Console()
        columns = TextColumn("{task.description:<16}"), BarColumn(20), TextColumn("{task.fields[told]}", markup=False)
        self.bars = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self.all = self.bars.add_task("all", total=total, told=f"0 of {total}") if self.bars else None

    def __enter__(self) -> "Screen":
        if self.bars:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars:
            self.bars.stop()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self.bars:
            self.bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, flush=True)

    def begin(self, name: str, cells: int) -> Course:
        """Show a notebook that starts."""
        with self.lock:
            course = Course(name, cells)
            if self.bars:
                course.task = self.bars.add_task(name, total=cells, told="starts")
            else:
                self.say(f"      {name:<16} starts")
            return course

    def update(self, course: Course, event: dict[str, Any]) -> None:
        """Show what a notebook's worker said."""
        with self.lock:
            course.follow(event)
            if self.bars:
                self.bars.update(course.task, completed=course.cell, told=course)  # written anew at every refresh
            elif "epoch" in event and (perf_counter() - course.said > QUIET or course.epoch == course.epochs):
                course.said = perf_counter()
                self.say(f"      {course.name:<16} {course}")

    def end(self, name: str, state: str, detail: str, notes: list[str], course: Course | None = None) -> None:
        """Print how a notebook ended."""
        with self.lock:
            self.ended += 1
            if self.bars:
                if course:
                    self.bars.remove_task(course.task)
                assert self.all is not None
                self.bars.update(self.all, completed=self.ended, told=f"{self.ended} of {self.total}")
            self.say(f"[{self.ended}/{self.total}] {name:<16} {state:<8} {detail}")
            for note in notes:
                self.say(f"      {note}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
