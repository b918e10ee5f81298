"""Figures show what they are given, and say it to who cannot see it."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from bloodcell_lib import plots  # noqa: E402  after the choice of a backend without a screen
from bloodcell_lib.dataset import CLASSES  # noqa: E402

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


def test_boxes_lie_where_they_are_given():
    figure = plots.boxes([("one", IMAGES[0], [("WBC", 1, 2, 4, 5), ("RBC", 0, 0, 2, 2)])], columns=1)
    first = figure.axes[0].patches[0]
    assert (first.get_x(), first.get_y(), first.get_width(), first.get_height()) == (1, 2, 3, 3)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["RBC", "WBC"]


def test_distributions_of_known_means(monkeypatch):
    drawn = []
    monkeypatch.setattr(plots.sns, "kdeplot", lambda values, **_: drawn.append(np.array(values)))
    plots.distributions(IMAGES, np.arange(12) % 4, CLASSES)
    scaled = (IMAGES - IMAGES.mean((1, 2, 3), keepdims=True)) / IMAGES.std((1, 2, 3), keepdims=True)
    assert len(drawn) == 2 * 3 * 4
    assert drawn[0] == pytest.approx(IMAGES[::4, ..., 0].mean((1, 2)))
    assert drawn[12] == pytest.approx(scaled[::4, ..., 0].mean((1, 2)))


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
