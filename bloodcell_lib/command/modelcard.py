"""The model card of a run: Markdown with the front matter that Hugging Face reads, made from the record alone."""

from typing import Any

import pandas as pd
import yaml

from bloodcell_lib import cards, metrics, models
from bloodcell_lib.command import tables
from bloodcell_lib.records import Record

PARTS = {
    "validation": "validation",
    "test": "test",
    "test_unseen": "test, without cells that training or validation shows too",
}
USES = {
    "onnx": 'session = onnxruntime.InferenceSession("{file}")\nsession.run(None, {{"pixels": pixels}})[0]',
    "litert": 'run = Interpreter("{file}").get_signature_runner()  # of ai_edge_litert.interpreter\n'
    'run(pixels=pixels)["output_0"]',
    "savedmodel": 'served = tf.saved_model.load("{file}")\nserved.serve(pixels)',
}
FRAMES = {
    "slide": "The whole image is scaled to this size.",
    "cell": "First the window around the white cell is cut out, then it is scaled to this size; "
    '`bloodcell_lib.images.read(data, name, size, frame="cell")` does both. The results do not hold for whole images.',
}
SPLITS = {
    "image": "at random, by image. Copies of one photograph may be in training and in validation, "
    "and then validation promises too much",
    "photo": "by photograph: validation shows none that training shows",
    "fold": "by photograph, {split} of all photographs",
    "train": "by photograph, {split} of the photographs of TRAIN",
}
UNITS = {
    "photo": "photographs (or, in other sets, groups such as patients), because several images may be copies of one",
    "image": "images, because the photographs behind them are not known: where they are copies, the intervals are too "
    "narrow",
}
TEXT = """
# {title} on {dataset}

{idea} This is the run `{name}` of *Blood cells: deep networks, honestly measured*. {about}

**Not for diagnosis.** The network was made to teach and to measure how deep networks classify one set of images.

## Input and output

| | |
|---|---|
| input | `pixels`, {pixels}, (images, {height}, {width}, 3): RGB from 0 to 255, as many images as you like |
| output | float32, (images, {count}): a probability per class |
| classes, in this order | {classes} |

{frame} Scale no pixel values: that is inside.

{files}

```python
{uses}
```

## Results

Accuracies are in percent, of the best epoch on validation. Brackets are 95 % intervals. They count {unit}.

{results}

By class, on test:

{by_class}

{undefined}

## Data and recipe

| | |
|---|---|
| images | {dataset}, {sizes}; fingerprint `{fingerprint}` |
| validation | {split} |
| recipe | {recipe} |
| seed | {seed} |
| best epoch | {best_epoch} of {epochs}; test was not used to choose it |
| size | {parameters:,} parameters, {multiply_adds:.0f} million multiply-adds per image |
| made with | {made_with} |

## Limits

{limits}

## Licence

Network and code: MIT. Images: {licence}
"""


def text(record: Record, made: dict[str, tuple[str, float]], pixels: str) -> str:
    """Return the card of a run.

    Args:
        record: of the run.
        made: the exported file and the largest difference of its probabilities from Keras', by the format's name.
        pixels: type of the exported files' input.
    """
    head = yaml.safe_dump(front_matter(record, tuple(made)), sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{head}---\n" + TEXT.format(
        **_network(record), **_files(record, made, pixels), **_results(record), **_run(record)
    )


def front_matter(record: Record, formats: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what Hugging Face reads of a card: https://huggingface.co/docs/hub/model-cards."""
    return {
        "license": "mit",
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "white-blood-cells", "microscopy", record.model, "keras", *formats],
        "model-index": [{"name": record.name, "results": [_result(record, part) for part in ("validation", "test")]}],
    }


def _result(record: Record, part: str) -> dict[str, Any]:
    found = getattr(record, part)
    ends = found["interval95"]
    values = {
        "accuracy": (found["accuracy"], ends["accuracy"]),
        "f1": (found["macro"]["f1"], ends["macro"]["f1"]),
    }
    return {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {
            "type": record.dataset["name"],
            "name": _title(record),
            "split": part,
            "args": {"fingerprint": record.dataset["fingerprint"]},
        },
        "metrics": [
            {
                "type": name,
                "value": value,
                "name": f"{name}{' (macro)' if name == 'f1' else ''}, {part}",
                "args": {"interval95": interval, "unit": ends["unit"], "units": ends["units"]},
            }
            for name, (value, interval) in values.items()
            if value is not None
        ],
    }


def _network(record: Record) -> dict[str, Any]:
    card = models.card(record.model) if record.model in models.names() else None
    return {
        "title": card.title if card else record.model,
        "idea": f"{card.idea} Source: {card.paper}." if card else "",
        "name": record.name,
        "parameters": record.parameters,
        "multiply_adds": record.multiply_adds / 1e6,
    }


def _files(record: Record, made: dict[str, tuple[str, float]], pixels: str) -> dict[str, Any]:
    height, width = record.image_size
    images = record.dataset["sizes"]["test"]
    rows = [{"file": f"`{file}`", "largest difference": f"{off:.1e}"} for file, off in made.values()]
    told = (
        f"Written from the Keras network and held against it on the {images:,} test images; a probability differs by:"
    )
    mixed = record.settings["precision"]
    exact = f" It was trained in {mixed}; these files compute in float32." if mixed != "float32" else ""
    return {
        "pixels": pixels,
        "height": height,
        "width": width,
        "frame": FRAMES[record.settings["frame"]] + exact,
        "files": f"{told}\n\n{tables.text(pd.DataFrame(rows))}",
        "uses": "\n".join(USES[name].format(file=file) for name, (file, _) in made.items()),
    }


def _results(record: Record) -> dict[str, Any]:
    parts = {what: part for name, what in PARTS.items() if (part := getattr(record, name))}
    test, ends = record.test, record.test["interval95"]
    classes = [
        {"class": name, "images": sum(test["confusion"][label])}
        | {
            what: metrics.format_interval(values[label], ends["per_class"][what][label])
            for what, values in test["per_class"].items()
            if what != "accuracy"
        }
        for label, name in enumerate(record.dataset["classes"])
    ]
    return {
        "unit": UNITS[ends["unit"]],
        "results": tables.text(pd.DataFrame([{"part": what} | _measured(part) for what, part in parts.items()])),
        "by_class": tables.text(pd.DataFrame(classes)),
        "undefined": metrics.undefined(test, record.dataset["classes"]),
    }


def _measured(part: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a part of the set, by photograph too where the photographs are known."""
    ends = part["interval95"]
    photo = {"accuracy by photograph": metrics.format_interval(part["per_photo"]["accuracy"], ends["per_photo"])}
    return {
        "images": sum(map(sum, part["confusion"])),
        "accuracy": tables.with_interval(part),
        "mean F1": metrics.format_interval(part["macro"]["f1"], ends["macro"]["f1"]),
        **(photo | {"photographs": ends["units"]} if ends["unit"] == "photo" else {}),
    }


def _run(record: Record) -> dict[str, Any]:
    split, epochs = record.settings["split"], len(record.history["loss"])
    card = cards.get(record.dataset["name"]) if record.dataset["name"] in cards.names() else None
    return {
        "dataset": _title(record),
        "about": card.about if card else "",
        "classes": ", ".join(f"{label} {name}" for label, name in enumerate(record.dataset["classes"])),
        "count": len(record.dataset["classes"]),
        "sizes": ", ".join(f"{count:,} {part}" for part, count in record.dataset["sizes"].items()),
        "fingerprint": record.dataset["fingerprint"],
        "split": SPLITS[split.partition(":")[0]].format(split=split),
        "recipe": _recipe(record),
        "seed": record.seed,
        "best_epoch": record.best_epoch,
        "epochs": epochs,
        "made_with": f"{record.backend} {record.versions[record.backend]}, on {record.device}",
        "limits": "\n".join(f"- {limit}" for limit in _limits(record)),
        "licence": card.licence if card else "not known to this card; ask whoever made them.",
    }


def _recipe(record: Record) -> str:
    """Return the settings that say how it was trained, in one line."""
    own: dict[str, Any] = {"epochs": len(record.history["loss"])}
    if record.model in models.names():
        own["learning_rate"] = models.card(record.model).learning_rate
    given = {name: value for name, value in record.settings.items() if value not in (None, [])}
    shown = own | given | {"image_size": tables.size(record)}
    lists = {name: "+".join(value) for name, value in shown.items() if isinstance(value, list)}
    return "; ".join(f"{name} {value}" for name, value in (shown | lists).items() if name not in ("name", "split"))


def _limits(record: Record) -> list[str]:
    """Return what readers must not take from the results."""
    ends, drawn = record.test["interval95"], record.dataset["name"] == cards.SAMPLE.name
    photos = f"Behind the {record.dataset['sizes']['test']:,} test images are {ends['units']:,} photographs or groups."
    said = {
        "It is no medical device, and not for diagnosis. Other patients, stains, microscopes were not measured.": True,
        "The images are drawn by a program. Results on them say nothing about blood.": drawn,
        f"{photos} The intervals count those: images of one do not vary freely.": ends["unit"] == "photo",
        "Each image shows one cell, of one of these classes. The network gives any other image one of them, too.": True,
        "This is one training with one seed. Another seed moves the accuracy; the intervals leave that out.": True,
    }
    return [limit for limit, holds in said.items() if holds]


def _title(record: Record) -> str:
    name = record.dataset["name"]
    return cards.get(name).title if name in cards.names() else name
