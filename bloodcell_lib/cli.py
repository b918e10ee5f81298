"""The command `bloodcell`: data, run, table."""

import argparse
import os
import sys
from collections import Counter

from bloodcell_lib import __version__

DATA_HELP = 'a zip, a folder, "kaggle" or "sample" (default: BLOODCELL_DATA, a downloaded archive, or the sample)'


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 where a notebook failed, 2 where it cannot start."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except ValueError as error:  # DatasetError, RecordError, SuiteError: each says what to do
        print(f"bloodcell: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bloodcell: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130


def data(options: argparse.Namespace) -> int:
    """Say what the data are; draw or download them if need be."""
    from bloodcell_lib import dataset

    catalogue = dataset.describe(options.data)
    counts = Counter((entry.split, entry.label) for entry in catalogue.entries)
    print(f"{catalogue.name}: {len(catalogue.entries):,} images in {catalogue.source.root}")
    width = max(map(len, catalogue.classes))
    print(f"{'':12} " + " ".join(f"{name:>{width}}" for name in catalogue.classes))
    for split in sorted({split for split, _ in counts}):
        print(f"{split or 'images':12} " + " ".join(f"{counts[split, name]:>{width},}" for name in catalogue.classes))
    photos = set(catalogue.photos.values())
    print(f"photographs behind them: {len(photos) or f'unknown: {catalogue.unknown}'}")
    if photos:
        print(f"different scenes: {len({catalogue.scenes.get(photo, photo) for photo in photos})}")
    print(f"fingerprint: {catalogue.fingerprint}")
    return 0


def run(options: argparse.Namespace) -> int:
    """Execute notebooks and end with the table."""
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    from bloodcell_lib import records, suite, tables

    jobs = suite.plan(
        options.notebook,
        options.protocol,
        options.data,
        options.seed,
        options.out,
        image_size=options.image_size,
        batch_size=options.batch_size,
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        limit=options.limit,
    )
    outcomes = suite.run(jobs, options.jobs)
    written = [job.record for job in jobs if job.record and job.record.exists()]
    if written:
        print(f"\n{tables.runs([records.read(path) for path in written])}")
    failed = sum(outcome.state == "failed" for outcome in outcomes)
    print(
        f"\n{len(outcomes) - failed} of {len(outcomes)} notebooks executed; their copies and records are in "
        f"{jobs[0].output.parent}"
    )
    return 1 if failed else 0


def table(options: argparse.Namespace) -> int:
    """Print the table of records."""
    from bloodcell_lib import records, tables

    found = records.read_all(options.folder)
    if not found:
        raise ValueError(f"no record in {options.folder or records.out_dir()}. Make one with: bloodcell run cnn")
    print(tables.runs(found))
    if seeds := tables.seeds(found):
        print(f"\nOver seeds, mean ± standard deviation:\n\n{seeds}")
    if folds := tables.folds(found, options.folder):
        print(f"\nAll folds together, each photograph tested once:\n\n{folds}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bloodcell", description="Learn, and honestly measure, how deep networks classify white blood cells."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("data", help="say what the data are; draw or download them if need be")
    one.add_argument("--data", help=DATA_HELP)
    one.set_defaults(command=data)

    one = commands.add_parser("run", help="execute notebooks headless, skipping what is done; end with the table")
    one.add_argument("notebook", nargs="*", help="model, number, name or path of a notebook; none means all")
    one.add_argument("--protocol", default="quick", help="quick, paper, grouped, or fold:K/N (default: %(default)s)")
    one.add_argument("--data", help=DATA_HELP)
    one.add_argument("--seed", type=_whole, default=0, help="default: %(default)s")
    one.add_argument("--out", help="folder of executed notebooks, records and checkpoints (default: runs/)")
    one.add_argument("--jobs", type=_positive, default=1, help="notebooks at a time (default: %(default)s)")
    one.add_argument("--image-size", metavar="HxW", help="height and width in pixels, such as 60x80")
    one.add_argument("--batch-size", metavar="N")
    one.add_argument("--epochs", metavar="N")
    one.add_argument("--learning-rate", metavar="RATE")
    one.add_argument("--limit", metavar="N", help="at most N images in each part")
    one.set_defaults(command=run)

    one = commands.add_parser("table", help="print the records of a folder as a table")
    one.add_argument("folder", nargs="?", help="default: runs/")
    one.set_defaults(command=table)
    return parser


def _whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, 0 or more")
    return int(text)


def _positive(text: str) -> int:
    if not _whole(text):
        raise argparse.ArgumentTypeError("1 at least")
    return int(text)
