"""Which model should I choose? An answer computed from records, or a reason why they give none."""

from bloodcell_lib import cards, metrics, models
from bloodcell_lib.command.comparison import COSTS, accuracies, command, costs, overlapping
from bloodcell_lib.command.tables import with_interval
from bloodcell_lib.records import Record


def leaks(record: Record) -> bool:
    """Return whether photographs of the validation set were trained on: the split is by image, and they are known."""
    return record.settings["split"] == "image" and record.validation["interval95"]["unit"] == "photo"


def deciding(found: list[Record], every: list[Record]) -> list[Record]:
    """Return the records by whose validation a network may be chosen; none if there are not two.

    Those found, unless their validation leaks. Then the largest set of other networks of the folder that were trained
    with the same seed on the same data, by one recipe whose validation does not leak.

    Args:
        found: what is compared.
        every: the records of the folder.
    """
    if not leaks(found[0]):
        return found
    sets: dict[str, list[Record]] = {}
    for record in every:
        alike = [(r.seed, r.dataset["fingerprint"]) for r in (record, found[0])]
        if not leaks(record) and alike[0] == alike[1]:
            sets.setdefault(str(record.settings), []).append(record)
    largest = max(sets.values(), key=len, default=[])
    return largest if len(largest) > 1 else []


def choices(found: list[Record]) -> dict[str, tuple[Record, str]]:
    """Choose a network for four people, by validation.

    Candidates are the networks whose validation interval overlaps that of the best on validation. Networks that are
    guessing on test are left out; otherwise test has no say.

    Returns:
        Who it is for, to (the network's record, why); empty if all are guessing.
    """
    able = [record for record in found if not metrics.guessing(record.test)]
    if not able:
        return {}
    best, candidates = _highest(able), _candidates(able)
    safe = max(able, key=lambda record: _worst(record, "validation")[2])
    told = f"on validation, {_told_worst(safe, 'validation')}. No other network has a higher lower end"
    return {
        "A phone": _cheapest(candidates),
        "A laptop": (best, f"{_slowest(candidates)}. So accuracy on validation decides"),
        "Few images": _with_weights(candidates),
        "A laboratory that must not miss a class": (safe, told),
    }


def advice(found: list[Record], every: list[Record]) -> str:
    """Answer the question as Markdown, or say why there is no answer and what to run.

    Args:
        found, every: as for `deciding`.
    """
    by = deciding(found, every)
    if not by:
        return _refusal(found)
    rows = choices(by)
    if not rows:
        return f"**No network is recommended.** On test, none is told from guessing: {_named(by)}. Train them longer."
    lines = [
        f"- **{who}: {record.model}.** {why[0].upper()}{why[1:]}. Test accuracy: {with_interval(record.test)} %."
        for who, (record, why) in rows.items()
    ]
    safe, _ = list(rows.values())[-1]
    return "\n".join([_basis(by, by is found), "", *lines]) + f" There, {_told_worst(safe, 'test')}."


def _highest(found: list[Record]) -> Record:
    """Return the network with the highest validation accuracy. Ties are broken by the lower loss."""
    return max(found, key=lambda record: (record.validation["accuracy"], -record.validation["loss"]))


def _candidates(able: list[Record]) -> list[Record]:
    """Return the networks whose validation interval overlaps that of the highest, itself among them."""
    best = _highest(able).model
    close = [best, *overlapping(accuracies(able, "validation"), best)]
    return [record for record in able if record.model in close]


def _cheapest(candidates: list[Record]) -> tuple[Record, str]:
    record = min(candidates, key=lambda record: record.multiply_adds)
    work, size = record.multiply_adds / 1e6, 4 * record.parameters / 1e6
    return record, f"the fewest multiply-adds per image, {work:,.0f} million; {size:,.1f} MB of weights"


def _slowest(candidates: list[Record]) -> str:
    times = costs(candidates)[COSTS[3]]
    slow = next(record for record in candidates if record.model == times.idxmax())
    return f"it has room for any candidate: the slowest took {times.max():.1f} ms per image on {slow.device}"


def _with_weights(candidates: list[Record]) -> tuple[Record, str]:
    published = [r for r in candidates if r.model in models.names() and models.card(r.model).imagenet]
    if published:
        how = "the highest candidate with published weights. " + (
            "This run started from them"
            if published[0].settings["weights"]
            else "Start from them with `--weights imagenet`; this run started from random weights"
        )
        return _highest(published), how
    record = min(candidates, key=lambda record: record.parameters)
    return record, f"no candidate has published weights. This one has the fewest parameters, {record.parameters:,}"


def _worst(record: Record, part: str) -> tuple[str, float, float, float]:
    """Return the class whose recall has the lowest lower end: name, recall, low and high."""
    recall = getattr(record, part)["per_class"]["recall"]
    ends = getattr(record, part)["interval95"]["per_class"]["recall"]
    place = min((n for n, known in enumerate(ends) if known), key=lambda n: ends[n][0])
    return record.dataset["classes"][place].lower(), recall[place], *ends[place]


def _told_worst(record: Record, part: str) -> str:
    name, recall, *ends = _worst(record, part)
    return f"its worst class is {name}, with a recall of {metrics.format_interval(recall, ends)} %"


def _basis(by: list[Record], own: bool) -> str:
    """Say which validation chooses among which networks, and what it is worth."""
    able, first = [record for record in by if not metrics.guessing(record.test)], by[0]
    candidates, best, left_out = _candidates(able), _highest(able), [record for record in by if record not in able]
    drawn = first.dataset["name"] == cards.SAMPLE.name
    said = {
        "**The images are drawn: this shows how to choose, and recommends nothing.**": drawn,
        f"Validation chooses among {len(by)} networks, `{first.protocol}`, seed {first.seed}.": True,
        "The other records of this notebook have no say, because their validation images are copies of photographs "
        "that were trained on.": not own,
        "Which photograph is behind an image is not known here. If some are copies, validation promises too much.": (
            first.settings["split"] == "image"
        ),
        f"The highest on validation is {best.model}, {with_interval(best.validation)} %.": True,
        f"Candidates are the networks whose interval overlaps this one: {_named(candidates)}.": len(candidates) > 1,
        f"Left out, because they are not told from guessing on test: {_named(left_out)}.": bool(left_out),
    }
    return " ".join(sentence for sentence, holds in said.items() if holds)


def _refusal(found: list[Record]) -> str:
    """Say why the records cannot choose, and how to make some that can."""
    guesses = [record for record in found if metrics.guessing(record.test)]
    again = command(found[0], [*(record.model for record in found), "comparison"], split="photo")
    left_out = f" Not told from guessing on test, and out of any choice: {_named(guesses)}." if guesses else ""
    return f"""**No network is recommended, because validation cannot choose.** The split is by image. So the validation
set holds copies of photographs that were trained on, and it rewards a network for recognising them. Test must not
choose either: it would then promise too much. Train the same networks with a split by photograph, and read this
notebook for that split:

```
{again}
```

`--protocol grouped` in place of these values is our own recipe for such a split.{left_out}"""


def _named(found: list[Record]) -> str:
    return ", ".join(record.model for record in found)
