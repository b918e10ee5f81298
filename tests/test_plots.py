"""Figures show what they are given, and carry an alternative text."""

import ast
from itertools import combinations
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest
from matplotlib.colors import to_rgba

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
    assert "max-width: 100%; min-width: 640px" in shown[0]["text/html"]  # on a narrow screen it scrolls
    plots.show(plots.plt.figure(figsize=(2, 2)), "small")
    assert "min-width: 220px" in shown[1]["text/html"]  # never above its own size
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


def test_the_shapes_of_twenty_stages_do_not_touch():
    sides = [(120, 160, 3), (59, 79, 32), (30, 40, 44), (15, 20, 88), *4 * [(15, 20, 264)], (8, 10, 352)]
    shapes = [*sides, *4 * [(8, 10, 528)], (4, 5, 704), *4 * [(4, 5, 1056)], (1056,), (4,)]
    figure = plots.network([Stage(f"cell_{n}", shape, n, n) for n, shape in enumerate(shapes)])
    figure.draw_without_rendering()
    labels = [text for text in figure.axes[0].texts if text.get_text()]
    assert [text.get_text() for text in labels[4:7]] == ["15×20\n264", "8×10\n352", "8×10\n528"]
    boxes = [text.get_window_extent() for text in labels]
    assert not any(one.overlaps(other) for one, other in zip(boxes, boxes[1:], strict=False))


def linear(colour) -> np.ndarray:
    """Linear red, green and blue of a colour on a white page."""
    *channels, alpha = to_rgba(colour)
    seen = np.array(channels) * alpha + 1 - alpha
    return np.where(seen <= 0.04045, seen / 12.92, ((seen + 0.055) / 1.055) ** 2.4)


def contrast(one, other="white") -> float:
    """Source: WCAG 2.2, relative luminance."""
    low, high = sorted(linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


BLIND = {  # source: Machado et al. 2009, full severity
    "nothing": np.eye(3),
    "red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour, blind: str) -> np.ndarray:
    """Where a colour is in CIELAB, as a reader sees it who is blind for another."""
    part = XYZ @ (np.array(BLIND[blind]) @ linear(colour)).clip(0, 1) / XYZ.sum(1)
    x, y, z = np.where(part > 0.008856, np.cbrt(part), 7.787 * part + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("blind", BLIND)
def test_colour_blind_readers_tell_the_first_five_colours_apart(blind):
    apart = [np.linalg.norm(lab(a, blind) - lab(b, blind)) for a, b in combinations(plots.PALETTE[:5], 2)]
    assert min(apart) > (15 if blind == "blue" else 30)  # of seaborn's first five: 13


def test_contrast_is_that_of_wcag():
    assert contrast("black") == pytest.approx(21) and contrast("#767676") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("colour", [*plots.PALETTE, *plots.STEP_COLOURS.values(), "grey"])
def test_every_colour_of_lines_and_bars_can_be_seen_on_white(colour):
    assert contrast(colour) >= 3


def test_every_text_can_be_read_on_its_ground():
    kinds = list(plots.STEP_COLOURS)
    figure = plots.diagram(
        {kind: (n, 0, kind, kind) for n, kind in enumerate(kinds)}, [(*kinds[:2], "text on an arrow")]
    )
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    pairs = [(text.get_color(), text.get_bbox_patch().get_facecolor()) for text in texts]
    matrix = np.diag(np.arange(12))  # shares of 0/11 to 11/11
    matrix[:, 0] += 11 - np.arange(12)
    (axis,) = plots.confusions({"test": matrix}, MANY[:12]).axes
    cells = axis.collections[0].get_facecolors()
    pairs += [(text.get_color(), cell) for text, cell in zip(axis.texts, cells, strict=True)]
    assert len(pairs) == len(kinds) + 1 + 144 and min(contrast(*pair) for pair in pairs) >= 4.5


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
