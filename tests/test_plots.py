"""Figures show what they are given, and carry an alternative text."""

import ast
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest

matplotlib.use("Agg")

from bloodcell_lib import plots  # noqa: E402  after the choice of a backend without a screen
from bloodcell_lib.dataset import Part  # noqa: E402
from bloodcell_lib.models.cost import Stage  # noqa: E402

CLASSES = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")

DEFINITIONS = (ast.FunctionDef, ast.Import, ast.ImportFrom)
NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "00_dataset.ipynb"
IMAGES = np.random.default_rng(0).integers(0, 255, (12, 6, 8, 3), np.uint8)
HISTORY = {f"{p}{w}": [0.9, 0.5, 0.7] for p in ("", "val_", "test_") for w in ("loss", "accuracy")}


@pytest.fixture(autouse=True)
def closed():
    yield
    plots.plt.close("all")


def test_grid_shows_each_image_under_its_title():
    figure = plots.grid(IMAGES[:5], list("abcde"), columns=3)
    shown = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in shown] == list("abcde")
    assert all(np.array_equal(a.images[0].get_array(), i) for a, i in zip(shown, IMAGES, strict=False))
    with pytest.raises(ValueError, match="5 images and 2 titles"):
        plots.grid(IMAGES[:5], ["a", "b"])


def from_the_notebook(*names: str):
    """Run the imports of the notebook on the data, and cells as far as they define some functions; return the last."""
    wanted = ("from bloodcell_lib import dataset", *(f"def {name}(" for name in names))
    cells, namespace = nbformat.read(NOTEBOOK, as_version=4).cells, {}
    for cell in cells:
        if cell.cell_type == "code" and any(text in cell.source for text in wanted):
            body = ast.parse(cell.source).body
            last = max(n for n, node in enumerate(body) if isinstance(node, DEFINITIONS))
            exec(compile(ast.Module(body[: last + 1], []), cell.id, "exec"), namespace)
    return namespace[names[-1]]


def test_boxes_are_where_they_are_given():
    draw_boxes = from_the_notebook("draw_boxes")
    figure = draw_boxes([("one", IMAGES[0], [("WBC", 1, 2, 4, 5), ("RBC", 0, 0, 2, 2)])], columns=1)
    first = figure.axes[0].patches[0]
    assert (first.get_x(), first.get_y(), first.get_width(), first.get_height()) == (1, 2, 3, 3)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["RBC", "WBC"]


def test_distributions_peak_where_the_means_are():
    labels = np.arange(40) % 4
    noise = np.random.default_rng(0).integers(0, 20, (40, 6, 8, 3))
    images = (noise + 50 * labels[:, None, None, None]).astype("uint8")
    draw_distributions = from_the_notebook("colour_means", "draw_distributions")
    figure = draw_distributions(images, labels, CLASSES)
    assert [axis.get_title() for axis in figure.axes[:2]] == ["red, pixels 0 to 255", "green, pixels 0 to 255"]
    assert figure.axes[3].get_title() == "red, standardised"
    peaks = sorted(line.get_xdata()[line.get_ydata().argmax()] for line in figure.axes[0].lines)
    assert peaks == pytest.approx([9.5, 59.5, 109.5, 159.5], abs=3)
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {name.capitalize() for name in CLASSES}


MANY = tuple(f"class {n:02d}" for n in range(20))


def test_twenty_classes_have_colours_of_their_own():
    colours = np.array(plots.PALETTE)
    apart = abs(colours[:, None] - colours[None]).max(-1) + np.eye(len(colours))
    assert len(colours) == len(MANY) and apart.min() > 0.1
    labels = np.repeat(np.arange(20), 6)
    images = np.random.default_rng(0).integers(0, 255, (len(labels), 6, 8, 3), np.uint8)
    figure = from_the_notebook("colour_means", "draw_distributions")(images, labels, MANY)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [name.capitalize() for name in MANY]
    assert len({line.get_color() for line in figure.axes[0].lines}) == 20


def test_figures_of_twenty_classes_fit_on_a_page():
    part = Part(np.repeat(IMAGES[:4], 5, axis=0), np.arange(20), np.arange(20) % 19, *3 * [np.arange(20).astype(str)])
    figure = plots.examples(part, MANY)  # no image of the last class
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == 2 * [name.capitalize() for name in MANY[:19]]
    assert figure.get_size_inches()[0] <= plots.WIDE + 0.01
    few = plots.examples(Part(IMAGES, np.arange(12), np.arange(12) % 3, *3 * [np.arange(12).astype(str)]), MANY[:3])
    assert few.get_size_inches().tolist() == [2.6 * 3, 2.25 * 2]
    figure = plots.confusions({"test": np.diag(np.arange(20))}, MANY)
    figure.draw_without_rendering()
    widest = max(text.get_window_extent().width for text in figure.axes[0].texts)
    assert widest < figure.axes[0].get_window_extent().width / 20


def test_curves_and_the_best_epoch():
    figure = plots.curves(HISTORY, best_epoch=2)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {"train", "validation", "test", "best on validation"}
    assert lines["test"].get_ydata().tolist() == [0.9, 0.5, 0.7]
    assert lines["best on validation"].get_xdata()[0] == 2


def test_confusions_print_counts():
    figure = plots.confusions({"validation": np.diag([3, 4, 5, 6]), "test": np.full((4, 4), 7)}, CLASSES)
    assert [axis.get_title() for axis in figure.axes] == ["validation", "test"]
    assert [t.get_text() for t in figure.axes[0].texts if t.get_text() != "0"] == ["3", "4", "5", "6"]


def test_show_carries_the_text(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda bundle, raw: shown.append(bundle))
    plots.show(plots.curves(HISTORY), 'loss & "accuracy"')
    assert 'alt="loss &amp; &quot;accuracy&quot;"' in shown[0]["text/html"]
    assert shown[0]["text/plain"] == 'loss & "accuracy"' and not plots.plt.get_fignums()


def test_a_diagram_joins_the_steps_it_is_given():
    figure = plots.diagram({"a": (0, 0, "in", "data"), "b": (2, 1, "3 × 3", "convolution")}, [("a", "b", "wide")])
    assert {"in", "3 × 3", "wide"} <= {text.get_text() for text in figure.axes[0].texts}
    arrows = [text for text in figure.axes[0].texts if getattr(text, "arrow_patch", None)]
    assert [(tuple(arrow.xyann), tuple(arrow.xy)) for arrow in arrows] == [((0, 0), (2, 1))]
    with pytest.raises(KeyError, match="c"):
        plots.diagram({"a": (0, 0, "in", "data")}, [("a", "c")])


def test_a_network_is_drawn_with_its_shares():
    stages = [Stage("input", (8, 8, 3), 0, 0), Stage("one", (4, 4, 8), 30, 75), Stage("two", (4,), 10, 25)]
    boxes, bars = plots.network(stages).axes
    assert [text.get_text() for text in boxes.texts] == ["8×8\n3", "4×4\n8", "\n4"]
    assert [bar.get_height() for bar in bars.patches] == [0, 75, 25, 0, 75, 25]
    assert [label.get_text() for label in bars.get_xticklabels()] == ["input", "one", "two"]
    assert boxes.patches[0].get_height() > boxes.patches[1].get_height() > boxes.patches[2].get_height()
    assert [box.get_x() + box.get_width() / 2 for box in boxes.patches] == pytest.approx([0, 1, 2])


def test_an_overlay_has_one_scale_and_boxes():
    maps = [np.array([[-1.0, 2.0]]), np.array([[0.5, 0.0]]), np.full((1, 2), np.nan)]
    boxes = [(1, 2, 4, 6), (0, 0, 8, 6)]
    figure = plots.overlay_heatmap(IMAGES[:3], maps, list("abc"), (-3, 3), "evidence", boxes=boxes, columns=3)
    *panels, scale = figure.axes
    for axis, image, heat in zip(panels, IMAGES, maps, strict=False):
        below, above = axis.images
        assert np.isnan(heat).all() == (below.get_array() == image).all()  # grey, but for a map of NaN
        assert above.get_clim() == (-3, 3) and above.get_extent() == below.get_extent()
    assert panels[0].images[1].get_array().tolist() == [[-1, 2]]
    box = panels[0].patches[0]
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (0.5, 1.5, 3, 4)
    assert [len(axis.patches) for axis in panels] == [1, 1, 0] and scale.get_ylabel() == "evidence"


def test_examples_show_each_class_twice():
    part = Part(IMAGES, np.arange(12), np.arange(12) % 4, *[np.arange(12)] * 3)
    figure = plots.examples(part, CLASSES)
    assert [axis.get_title() for axis in figure.axes] == 2 * [name.capitalize() for name in CLASSES]
    assert np.array_equal(figure.axes[4].images[0].get_array(), IMAGES[8])
