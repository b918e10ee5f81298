"""Seconds from building a network to the end of its first training step, in turns with something else.

    python benchmarks/tracing.py --against ../other-checkout --out runs/tracing.json

--against a folder takes another checkout of this library; --against optimiser this one with TensorFlow's graph
optimiser left on. The seconds of `bloodcell --help`, and of Python alone, come with it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from statistics import median
from time import perf_counter

from alternating import ROOT, Baton, Contender, Turns, chosen, clocks, finish, parser, spread, worker


def first_step(options: argparse.Namespace, baton: Baton) -> None:
    """Build, train one step, hand over."""
    import suite

    from bloodcell_lib import backend, models, protocols, training
    from bloodcell_lib.backend import keras

    if options.against == "optimiser":
        backend.start_fast = lambda: None
    data = suite.noise((8, 8, 8), (75, 100))
    backend.check_arithmetic()  # once a process; here, so that it is no part of the first step
    baton.start = clocks()
    network = models.build(options.networks[0], (75, 100), len(data.classes))
    built = clocks()["cpu"] - baton.start["cpu"]
    protocol = protocols.get("paper", image_size=(75, 100), batch_size=8, epochs=1)

    class First(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            baton.hand_over(build=built)
            os._exit(0)

    training.fit(network, data, protocol, callbacks=[First()], out=os.path.join(options.folder, str(os.getpid())))


def compare(name: str, options: argparse.Namespace, folder: str) -> tuple[dict, Turns]:
    """Measure one network in processes that live for one turn; return its row of the table, and all turns."""
    is_folder = options.against != "optimiser"
    place = os.path.abspath(options.against) if is_folder else str(ROOT)
    sides = {"this": (str(ROOT), "nothing"), options.against: (place, "nothing" if is_folder else "optimiser")}
    turns: Turns = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side, (path, against) in sides.items():
            command = worker(__file__, worker="first", networks=name, against=against, folder=folder)
            contender = Contender(side, command, environment={"PYTHONPATH": path})
            turns[side].append(contender.receive())
            contender.close()
    row = {"network": name}
    for clock, unit in (("cpu", "CPU s"), ("wall", "wall s")):
        values = {side: [turn[clock] for turn in found] for side, found in turns.items()}
        row |= {f"{side}, {unit}": f"{median(each):.1f}" for side, each in values.items()}
        row |= {f"ratio, {unit}": spread(*reversed(values.values()))}
    return row, turns


def seconds(command: list[str], rounds: int) -> float:
    """Return the median wall seconds of a command."""
    found = []
    for _ in range(rounds):
        start = perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})
        found.append(perf_counter() - start)
    return median(found)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--networks", nargs="+", default=["nasnet", "attention56"])
    options.add_argument("--against", default="optimiser", help="a folder, or optimiser (default: %(default)s)")
    options.add_argument("--folder", help=argparse.SUPPRESS)
    given = options.parse_args()
    if chosen({"first": first_step}, given):
        return
    with tempfile.TemporaryDirectory() as folder:
        rows, turns = zip(*(compare(name, given, folder) for name in given.networks), strict=True)
    commands = {"bloodcell --help": ["-m", "bloodcell_lib", "--help"], "python alone": ["-c", "pass"]}
    starts = {name: seconds([sys.executable, *command], 5) for name, command in commands.items()}
    finish(given, list(rows), {"first step": dict(zip(given.networks, turns, strict=True)), "start": starts})
    print("; ".join(f"{name} {value:.2f} s" for name, value in starts.items()))


if __name__ == "__main__":
    main()
