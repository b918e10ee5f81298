"""A page on this computer: a trained network is asked about an image, and shows what its answer rests on."""

import html
import io
import os
import sys
import tempfile
from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from bloodcell_lib import cards, dataset, images, plots, sample
from bloodcell_lib.command import predict
from bloodcell_lib.dataset import Part
from bloodcell_lib.images import DatasetError
from bloodcell_lib.models import saved
from bloodcell_lib.models.saved import Saved

HOST, MAX_BYTES = "127.0.0.1", 10 * 2**20  # of an image
NEAREST = 6  # photographs shown
KEPT = 4  # networks in memory, each with the features of its training images
TITLE, WORTH = "Ask a trained network about a white blood cell", "What its answers are worth"
HINT, SIMILAR = "Give an image, or choose a drawn cell.", "The most similar training photographs"
READ = "One image per photograph, its class, and the cosine similarity of the deep features."
PENDING = '<div class="pending"></div>'  # room for the bar
ALT = "The image as the network sees it, and where it finds evidence against and for the predicted class."
CSS = """
.pictures { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(max(100px, 28%), 1fr)) }
.pictures figure { margin: 0 0 12px }
.pictures img { width: 100%; margin: 0; border-radius: 6px }
[role=alert] { border-left: 4px solid #d97706; padding-left: 12px }
.pending { height: 110px }
.drawn { gap: 8px }
.drawn button { flex-direction: column; padding: 6px 0 }
.drawn img { width: 64px; height: 48px; border-radius: 4px }
"""


@dataclass(frozen=True)
class Neighbours:
    """The training images of a network, and their deep features, float32 (N, d)."""

    part: Part
    classes: list[str]
    features: np.ndarray

    def nearest(self, features: np.ndarray) -> list[tuple[np.ndarray, str, float]]:
        """Return the most similar images, one per photograph: pixels, class and cosine similarity.

        Args:
            features: of one image, (1, d).
        """
        from sklearn.metrics.pairwise import cosine_similarity  # slow to import

        table = pd.DataFrame({"photo": self.part.photos, "cosine": cosine_similarity(features, self.features)[0]})
        table = table.sort_values("cosine", ascending=False, kind="stable").drop_duplicates("photo")[:NEAREST]
        return [
            (self.part.memory_map[self.part.rows[row]], self.classes[self.part.labels[row]], cosine)
            for row, cosine in table["cosine"].items()
        ]


def networks(folder: Path) -> tuple[dict[str, Path], str]:
    """Return the trained networks of a folder by the names of their runs, and a sentence on files that are left out.

    Raises:
        ValueError: there is none.
    """
    found, left_out = {}, []
    for path in saved.trained(folder):
        try:
            saved.about(path)
            found[path.stem] = path
        except ValueError:
            left_out.append(path.stem)
    why = "Left out, as damaged or written by an older version"
    said = f"{why}: {images.some(left_out)}. Run these models again." if left_out else ""
    if not found:
        raise ValueError(f"no trained network in {folder}. {said or 'Train one with: bloodcell run cnn'}")
    return found, said


@lru_cache(KEPT)
def network(path: Path) -> Saved:
    """Read a trained network, once.

    Raises:
        ValueError: see `saved.load`; the file is named without its folder.
    """
    try:
        return saved.load(path)
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), path.name)) from error


def ask(about: Saved, file: Path) -> predict.Answers:
    """Ask a network about one image.

    Raises:
        ValueError: it cannot be read.
    """
    answers = predict.ask_all(about, {file.name: file.read_bytes})
    if answers.refused:
        raise ValueError(answers.refused[0])
    return answers


def features(about: Saved, pixels: np.ndarray) -> np.ndarray:
    """Return the deep features, float32 (N, d), of images of a network's size and frame."""
    return np.asarray(about.embedding.predict_on_batch(pixels), np.float32)


@lru_cache(KEPT)
def neighbours(path: Path, data: str | None) -> Neighbours:
    """Compute the deep features of all images that a network was trained on, once.

    Args:
        path: the network.
        data: the set that networks were trained on, as for `dataset.load`; for those trained on the sample, the sample.

    Raises:
        ValueError: it is not the set that the network was trained on, or the network does not say which that was.
    """
    about = network(path)
    if not (record := about.about.get("record")):
        raise ValueError("The run was not evaluated, so the images that it was trained on are not known.")
    name, settings = record["dataset"]["name"], about.about["settings"]
    data = name if name == cards.SAMPLE.name else data
    if dataset.describe(data).fingerprint != record["dataset"]["fingerprint"]:
        raise ValueError(f"The network was trained on {name}, which is not at hand. Name it with --data at the start.")
    size, frame = record["image_size"], settings.get("frame", "slide")
    part = dataset.load(data, tuple(size), settings["split"], record["seed"], settings["limit"], frame).train
    batches = np.split(part.rows, range(predict.BATCH, len(part), predict.BATCH))
    shown = tqdm(batches, "Looking for similar training photographs", mininterval=0.5, disable=None)
    found = [features(about, part.memory_map[rows]) for rows in shown]
    return Neighbours(part, about.classes, np.concatenate(found))


def examples(folder: Path) -> dict[str, Path]:
    """Draw a cell of each class as a copy of the sample is made, but not one of the sample's; return their files."""
    made = {}
    for place, label in enumerate(sample.CLASSES):
        rng = np.random.default_rng([2022, place])
        made[label] = folder / f"{label.lower()}.png"
        Image.fromarray(sample.augment(sample.draw(label, rng)[0], rng)[0]).save(made[label])
    return made


def said(text: str, role: str = "status") -> str:
    """Return sentences as HTML, a paragraph a line; a screen reader reads them when they change."""
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in text.splitlines())
    return f'<div role="{role}">{lines}</div>' if text else ""


def pictured(heading: str, pictures: list[tuple[bytes, str, str]]) -> str:
    """Return pictures below a heading, as HTML.

    Args:
        heading: a line.
        pictures: of each the PNG file, the alternative text and the caption.
    """
    figures = (
        f'<figure><img alt="{html.escape(alt)}" src="data:image/png;base64,{b64encode(png).decode()}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for png, alt, caption in pictures
    )
    return f'<h2>{html.escape(heading)}</h2><div class="pictures">{"".join(figures)}</div>'


def looked_at(about: Saved, answers: predict.Answers) -> str:
    """Return the class activation map of an answer as HTML."""
    figure, file = predict.figure(about, answers), io.BytesIO()
    figure.savefig(file, dpi=200)
    plots.plt.close(figure)
    return pictured("What the network looks at", [(file.getvalue(), ALT, "")])


def similar(known: Neighbours, query: np.ndarray) -> str:
    """Return the training photographs most similar to an image as HTML; see `Neighbours.nearest`."""
    pictures = []
    for pixels, label, cosine in known.nearest(query):
        Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
        caption = f"{label.lower()}, {cosine:.2f}"
        pictures.append((file.getvalue(), f"training image, {caption}", caption))
    return pictured(SIMILAR, pictures) + said(READ)


def page(found: dict[str, Path], left_out: str, data: str | None, drawn: dict[str, Path]) -> Any:
    """Return the page, a `gradio.Blocks`.

    Args:
        found, left_out: from `networks`.
        data: as for `neighbours`.
        drawn: from `examples`.
    """
    import gradio as gr

    bar = gr.Progress(track_tqdm=True)

    def text(html: str) -> Any:
        return gr.update(value=html, visible=bool(html))

    def answered(name: str, file: str | None, last: dict) -> list:
        last["query"], answer, evidence, nearest = None, gr.update(visible=False), "", ""
        message, worth = said(HINT), ""
        try:
            about = network(found[name])
            worth = f"<h2>{WORTH}</h2>{said(predict.worth(about))}"
            if file:
                answers = ask(about, Path(file))
                row = answers.table.iloc[0]
                message = said(predict.unusual(about, answers.table), "alert")
                answer = gr.update(value={label: row[predict.column(label)] for label in about.classes}, visible=True)
                evidence, nearest = looked_at(about, answers), PENDING
                last["query"] = answers.pixels
        except ValueError as error:
            message = said(str(error), "alert")
        return [answer, *map(text, (message, worth, evidence, nearest))]

    def compared(name: str, last: dict, progress: gr.Progress = bar) -> Any:
        if (query := last["query"]) is None:
            return gr.skip()
        try:
            known = neighbours(found[name], data)
            shown = similar(known, features(network(found[name]), query))
        except DatasetError as error:
            print(error, file=sys.stderr)
            shown = f"<h2>{SIMILAR}</h2>{said('They cannot be read; the terminal says why.')}"
        except ValueError as error:
            shown = f"<h2>{SIMILAR}</h2>{said(str(error))}"
        return shown if last["query"] is query else gr.skip()  # meanwhile another question may have been answered

    with gr.Blocks(title=TITLE, analytics_enabled=False) as blocks:
        gr.HTML(f"<h1>{TITLE}</h1><p>The image stays on this computer.</p>")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                chosen = gr.Dropdown([*found], label="Network", filterable=False)
                file = gr.File(label=f"Image with one white cell, at most {MAX_BYTES // 2**20} MB", height=150)
                gr.HTML("<p>Or a drawn cell:</p>")
                with gr.Row(elem_classes="drawn"):
                    for label, path in drawn.items():
                        button = gr.Button(label.lower(), icon=path, size="sm", min_width=60)
                        button.click(partial(str, path), None, file, api_visibility="private")
                gr.HTML(said(left_out), visible=bool(left_out))
            with gr.Column(scale=3, min_width=300):
                message = gr.HTML()
                answer = gr.Label(label="Class and probabilities", visible=False)
                worth, evidence, nearest = (gr.HTML(visible=False) for _ in range(3))
        last, events = gr.State({"query": None}), [blocks.load, chosen.change, file.change]
        shown, how = [answer, message, worth, evidence, nearest], {"api_visibility": "private"}
        how_first = how | {"trigger_mode": "always_last", "show_progress_on": [message, answer]}
        first = gr.on(events, answered, [chosen, file, last], shown, **how_first)
        first.then(compared, [chosen, last], nearest, **how)
    return blocks


def serve(folder: Path, data: str | None = None, port: int | None = None) -> None:
    """Serve the page on this computer until it is interrupted; uploaded images are deleted then.

    Args:
        folder: of runs.
        data: as for `neighbours`.
        port: None is the first free one from 7860.

    Raises:
        ValueError: gradio is not installed, no network is in the folder, the data cannot be used, or the port is taken.
    """
    found, left_out = networks(folder)
    if data:
        dataset.describe(data)
    with tempfile.TemporaryDirectory(prefix="bloodcell-") as place:
        direct = ",".join(filter(None, (os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), HOST)))
        os.environ |= {"GRADIO_TEMP_DIR": place, "GRADIO_ANALYTICS_ENABLED": "False", "no_proxy": direct}
        try:
            import gradio as gr
        except ImportError:
            raise ValueError("the page needs gradio. Install it with: pip install 'gradio>=6'") from None
        plots.plt.switch_backend("agg")  # figures are drawn in threads, where windows may not be opened
        blocks = page(found, left_out, data, examples(Path(place)))
        theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
        local = {"server_name": HOST, "server_port": port, "share": False, "ssr_mode": False, "run_history": False}
        look = {"theme": theme, "css": CSS, "footer_links": [], "quiet": True}
        try:
            blocks.launch(**local, **look, max_file_size=MAX_BYTES, prevent_thread_lock=True)
        except OSError:
            raise ValueError(f"port {port or 'from 7860 on'} is taken. Choose another with --port.") from None
        print(f"{blocks.local_url} (Ctrl-C ends it). {left_out}", flush=True)
        blocks.block_thread()
