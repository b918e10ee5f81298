"""The command `bloodcell`: data, run, table, predict, demo, export, pages, notebooks."""

import argparse
import os
import re
import signal
import sys
from collections import Counter
from pathlib import Path

from bloodcell_lib import __version__

DATA_HELP = (
    "a zip, a folder, a table, an .npz, or the name of a known set "
    "(default: BLOODCELL_DATA, a downloaded archive, the sample)"
)
MOST_SEEDS = 1000
INTERRUPTED = 130  # as shells have it: 128, and the number of SIGINT


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status: 0; 1, a notebook failed; 2, it cannot be done; 130, interrupted."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it as Ctrl-C does
    try:
        return options.command(options)
    except ValueError as error:  # DatasetError, RecordError, BusyError: each says what to do
        print(f"bloodcell: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        resumes = "; the same command resumes here" * (options.command is run)
        print(f"bloodcell: interrupted{resumes}.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place, advice = error.filename2 or error.filename, "Check the path, the permission and the free space"
        told = f"{place}: {error.strerror}. {advice}" if place else " ".join(str(error).split())
        print(f"bloodcell: {told}.", file=sys.stderr)
        return 2


def script() -> None:
    """Run a command as a process. One that was interrupted ends without taking TensorFlow down, which lasts seconds."""
    if (status := main()) == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def data(options: argparse.Namespace) -> int:
    """Say what the data are; draw or download them if need be."""
    from bloodcell_lib import dataset

    index = dataset.describe(options.data)
    counts = Counter((entry.split, entry.label) for entry in index.entries)
    print(f"{index.name}: {len(index.entries):,} images in {index.source.root}")
    width = max(map(len, index.classes))
    print(f"{'':12} " + " ".join(f"{name:>{width}}" for name in index.classes))
    for split in sorted({split for split, _ in counts}):
        print(f"{split or 'images':12} " + " ".join(f"{counts[split, name]:>{width},}" for name in index.classes))
    photos = set(index.photos.values())
    print(f"photographs behind them: {len(photos) or f'unknown: {index.why_no_photos}'}")
    if photos:
        print(f"different scenes: {len({index.scenes.get(photo, photo) for photo in photos})}")
    print("\n".join([*index.notes, f"fingerprint: {index.fingerprint}"]))
    if not options.check:
        return 0
    wrong = dataset.check(index)
    print("\n".join([*wrong, f"{len(wrong):,} of {len(index.entries):,} images cannot be used."]))
    return 1 if wrong else 0


def run(options: argparse.Namespace) -> int:
    """Execute notebooks and end with the table of what this batch made."""
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    from bloodcell_lib import protocols, records
    from bloodcell_lib.command import runner, tables

    protocol = protocols.get(options.protocol, **_knobs(options))
    jobs = runner.plan(options.notebook, protocol, options.data, options.seed, options.out)
    how = {name: getattr(options, name) for name in ("fresh", "html", "timeout", "devices")}
    outcomes = runner.run(jobs, options.jobs, **how, watchers=options.watch)
    failed = [outcome.job for outcome in outcomes if outcome.state == "failed"]
    made = [records.Record.read(job.record) for job in jobs if job.record and job.is_trained and job not in failed]
    if made:
        print(f"\n{tables.text(tables.runs(made))}")
    apt = [job for job in jobs if not job.unfit]
    ran = sum(outcome.state == "done" for outcome in outcomes)
    before = f", {kept} done before" if (kept := len(apt) - ran - len(failed)) else ""
    folder = jobs[0].output.parent
    print(f"\n{ran} of {len(apt)} notebooks executed{before}; their copies and records are in {folder}")
    if options.pages:
        from bloodcell_lib.command import pages  # slow to import

        copies = [(job.notebook.name, job.output) for job in sorted(apt, key=failed.__contains__)]  # whole ones first
        print(f"Their pages begin at {pages.write_all(copies, folder / 'pages')}")
    return 1 if failed else 0


def _knobs(options: argparse.Namespace) -> dict[str, str]:
    """Return the values that replace a protocol's, from --epochs 5 and --set EPOCHS=5 alike."""
    from bloodcell_lib.protocols import KNOBS

    given = [(knob.name, value) for knob in KNOBS if (value := getattr(options, knob.name)) is not None]
    given += map(_pair, options.set)
    for name, times in Counter(name for name, _ in given).items():
        if times > 1:
            raise ValueError(f"{name} is given {times} times. Give it once.")
    return dict(given)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not name or not equals:
        raise ValueError(f"--set {text!r} is not NAME=VALUE. Give the name of a protocol's value, such as epochs=5.")
    return name.lower(), value


def table(options: argparse.Namespace) -> int:
    """Print the table of records."""
    from bloodcell_lib import files, records
    from bloodcell_lib.command import report, tables

    found = records.read_all(options.folder)
    if not found:
        raise ValueError(f"no record in {files.out_dir(options.folder)}. Make one with: bloodcell run cnn")
    print(tables.everything(found))
    for state in sorted(files.out_dir(options.folder).glob("*.state.npz")):
        print(f"unfinished: {state.name}, {state.stat().st_size / 2**20:,.0f} MiB. Resume it, or delete the file.")
    for path in report.write(files.out_dir(options.folder)) if options.write else ():
        print(f"\nwritten: {path}")
    return 0


def predict(options: argparse.Namespace) -> int:
    """Say what a trained network takes images for, and what that is worth."""
    from bloodcell_lib import files
    from bloodcell_lib.command import predict, tables
    from bloodcell_lib.models import saved

    for option, ending in (("out", ".csv"), ("cam", ".png")):
        if path := getattr(options, option):
            _check_target(f"--{option} {path}", path, ending)
    found, unused = predict.find(options.images)
    about = saved.load(saved.find(options.model))
    answers = predict.ask_all(about, found)
    if len(answers.table):
        print(tables.text(predict.short(answers.table[: predict.LISTED])))
        print(f"and {len(answers.table) - predict.LISTED:,} more\n" if len(answers.table) > predict.LISTED else "")
        print(f"{about.path.stem}: {predict.worth(about)}\n{predict.unusual(about, answers.table)}".rstrip())
        if options.out:
            with files.replacing(options.out) as part:
                answers.table.to_csv(part, index=False, float_format="%.6f")
            print(f"written: {options.out}")
        if options.cam:
            with files.replacing(options.cam) as part:
                predict.figure(about, answers).savefig(part, dpi=110)
            print(f"written: {options.cam}, the first {len(answers.pixels)} of {len(answers.table):,} images")
    notes = [f"Not used: {predict.layouts.told(unused)}."] * bool(unused)
    print("\n".join([*answers.refused, *notes]), file=sys.stderr, end="\n" * bool(answers.refused or unused))
    return 1 if answers.refused else 0


def _check_target(given: str, path: Path, ending: str) -> None:
    """Refuse a file that could not be written, before anything is asked."""
    if path.suffix.lower() != ending:
        raise ValueError(f"{given} is no name of a {ending} file. Give one that ends with {ending}.")
    if path.is_dir():
        raise ValueError(f"{given} is a folder. Give the name of a file.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"{given}: {path.parent} is no folder that can be written. Make it, or name another.")


def pages(options: argparse.Namespace) -> int:
    """Write the site of a folder of runs, and slides if asked for. Nothing is executed."""
    from bloodcell_lib import files
    from bloodcell_lib.command import pages, slides
    from bloodcell_lib.command.notebooks import stamp

    folder = files.out_dir(options.folder)
    copies = pages.executed(folder)
    without = [name for name, copy in copies if copy.parent != folder]
    if without:
        print(f"without outputs, since {folder} has no executed copy: {', '.join(without)}")
    partial = [copy.name for _, copy in copies if copy.parent == folder and stamp(copy) is None]
    if partial:
        print(f"not executed to the end, and there is no other copy: {', '.join(partial)}")
    if options.slides:
        print(f"The slides are in {slides.write_all(copies, folder / 'pages' / pages.SLIDES)}")
    print(f"The pages begin at {pages.write_all(copies, folder / 'pages')}")
    return 0


def export(options: argparse.Namespace) -> int:
    """Write the network of a run in other formats, and its card."""
    from bloodcell_lib.command.export import export

    for path, off in export(options.run, options.to, options.data, options.out, options.pixels).items():
        print(path if off is None else f"{path}: a probability differs from Keras' by {off:.1e} at most")
    return 0


def demo(options: argparse.Namespace) -> int:
    """Serve the page on which trained networks are asked, until it is interrupted."""
    from bloodcell_lib import files
    from bloodcell_lib.command import demo

    demo.serve(files.out_dir(options.models), options.data, options.port)
    return 0


def notebooks(options: argparse.Namespace) -> int:
    """Copy the notebooks into a folder."""
    from bloodcell_lib.command.notebooks import copy_notebooks

    for path in copy_notebooks(options.folder, options.repository):
        print(path)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bloodcell",
        description="Learn, and honestly measure, how deep networks classify white blood cells.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("data", help="say what the data are; draw or download them if need be")
    one.add_argument("--data", help=DATA_HELP)
    one.add_argument("--check", action="store_true", help="also decode every image, and name those that cannot be used")
    one.set_defaults(command=data)

    one = commands.add_parser("run", help="execute notebooks headless, skipping what is done; end with the table")
    _run_options(one)
    one.set_defaults(command=run)

    one = commands.add_parser("table", help="print the records of a folder as a table")
    one.add_argument("folder", nargs="?", help="default: runs/")
    one.add_argument("--write", action="store_true", help="also make README.md and its figure in that folder")
    one.set_defaults(command=table)

    one = commands.add_parser("predict", help="ask a trained network about images of your own")
    one.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, folders, zips, or patterns such as 'cells/*.png'"
    )
    one.add_argument("--model", required=True, metavar="RUN", help="a run's name, its .keras or its .json")
    one.add_argument("--out", type=Path, metavar="CSV", help="write all probabilities into this table")
    one.add_argument("--cam", type=Path, metavar="PNG", help="draw what the network looked at, for the first images")
    one.set_defaults(command=predict)

    one = commands.add_parser("pages", help="write the site of a folder of runs, without executing anything")
    one.add_argument("folder", nargs="?", help="default: runs/")
    one.add_argument("--slides", action="store_true", help="also slides; npm, if it is there, fetches reveal.js once")
    one.set_defaults(command=pages)

    one = commands.add_parser("export", help="write the network of a run as ONNX, LiteRT or SavedModel, with its card")
    one.add_argument("run", help="a record (.json), a network (.keras), or the name of a run in runs/")
    one.add_argument(
        "--to", action="append", required=True, choices=("onnx", "litert", "savedmodel"), help="repeatable"
    )
    one.add_argument("--data", help=f"what it was tested on: {DATA_HELP}")
    one.add_argument("--out", help="folder of the files (default: that of the run)")
    one.add_argument("--pixels", choices=("float32", "uint8"), default="float32", help="type of the input")
    one.set_defaults(command=export)

    one = commands.add_parser("demo", help="open a page on this computer that asks trained networks about an image")
    one.add_argument("--models", metavar="DIR", help="folder of runs, whose networks can be chosen (default: runs/)")
    one.add_argument("--data", help="what they were trained on, to show similar photographs (default: as for run)")
    one.add_argument("--port", type=_port, help="default: the first free one from 7860")
    one.set_defaults(command=demo)

    one = commands.add_parser("notebooks", help="copy the notebooks into a folder of your own")
    one.add_argument("folder")
    one.add_argument(
        "--repository",
        metavar="URL",
        help="https://github.com/OWNER/NAME: install from there, and link to Colab and Binder",
    )
    one.set_defaults(command=notebooks)
    return parser


def _run_options(parser: argparse.ArgumentParser) -> None:
    from bloodcell_lib.protocols import KNOBS, PROTOCOLS

    parser.add_argument("notebook", nargs="*", help="model, number, name or path of a notebook; none means all")
    names = f"{', '.join(PROTOCOLS)}, or fold:K/N"
    parser.add_argument("--protocol", default="quick", help=f"{names} (default: %(default)s)")
    parser.add_argument("--data", help=DATA_HELP)
    parser.add_argument("--seed", type=seeds_of, default=(0,), help="one, or several: 0-4 or 0,3 (default: 0)")
    parser.add_argument("--out", help="folder of executed notebooks, records and networks (default: runs/)")
    parser.add_argument("--jobs", type=_positive, help="notebooks at a time (default: by cores, memory and GPUs)")
    parser.add_argument("--fresh", action="store_true", help="execute again what is done, from the first epoch")
    parser.add_argument("--html", action="store_true", help="also write each executed notebook as a page")
    parser.add_argument(
        "--pages", action="store_true", help="make OUT/pages, which opens without a server at index.html"
    )
    parser.add_argument("--timeout", type=_positive, metavar="SECONDS", help="that a cell may take (default: no limit)")
    parser.add_argument(
        "--devices", type=_devices, help="that train one network together: a number, or all (default: 1)"
    )
    watchers = ("tensorboard", "mlflow")
    parser.add_argument("--watch", action="append", default=[], choices=watchers, help="show trainings there, too")
    group = parser.add_argument_group("values of the protocol to replace")
    group.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any of these, by its name")
    for knob in KNOBS:
        what = f"{knob.metadata['help']}: {knob.metadata['give']}"
        group.add_argument(f"--{knob.name.replace('_', '-')}", metavar="VALUE", help=what)


def whole(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def seeds_of(text: str) -> tuple[int, ...]:
    """Read seeds: one, or several as 0-4 or 0,3."""
    wrong = argparse.ArgumentTypeError(f"{text!r} is not 1 to {MOST_SEEDS} seeds, such as 3 or 0-4 or 0,3")
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        raise wrong
    found: list[int] = []
    for span in text.split(","):
        first, _, last = span.partition("-")
        found += range(whole(first), min(whole(last or first), whole(first) + MOST_SEEDS) + 1)
    if not 0 < len(found) <= MOST_SEEDS:
        raise wrong
    return tuple(dict.fromkeys(found))


def _devices(text: str) -> str:
    return text if text == "all" else str(_positive(text))


def _port(text: str) -> int:
    if not 0 < (port := whole(text)) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to {2**16 - 1}")
    return port


def _positive(text: str) -> int:
    if not whole(text):
        raise argparse.ArgumentTypeError("1 at least")
    return int(text)
