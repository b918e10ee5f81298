"""A training shows itself while it runs: in lines, or in curves that are redrawn."""

import keras
import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from bloodcell_lib import plots, progress  # noqa: E402  after the choice of a backend without a screen

LOGS = {f"{part}{what}": 0.25 for part in ("", "val_", "test_") for what in ("loss", "accuracy")} | {"seconds": 1.5}


def trained(callback: keras.callbacks.Callback, epochs: int = 2, first: int = 0) -> None:
    """Send the logs of some epochs through a callback, as `fit` does."""
    callback.set_params({"epochs": epochs})
    callback.on_train_begin({})
    for epoch in range(first, epochs):
        callback.on_epoch_begin(epoch, {})
        callback.on_epoch_end(epoch, LOGS | {"accuracy": 0.5 + epoch / 4})
    callback.on_train_end({})


def test_a_line_per_epoch(capsys):
    trained(progress.EpochLine())
    first, second = capsys.readouterr().out.splitlines()
    assert "1/2" in first and "0.500" in first and "2/2" in second and "0.750" in second and "1.5 s" in second


@pytest.fixture
def figures(monkeypatch):
    """Each display of a figure: how it came, in which place, the figure, and its alternative text."""
    shown = []

    def show(figure, alt, display):
        figure.draw_without_rendering()
        plots.plt.close(figure)
        shown.append((display.__name__, display.__self__, figure, alt))

    monkeypatch.setattr(plots, "show", show)
    return shown


def accuracies(figure) -> list[float]:
    return next(line for line in figure.axes[1].lines if line.get_label() == "train").get_ydata(orig=False).tolist()


def test_live_curves_are_redrawn_in_one_place_and_stay(figures):
    trained(progress.LiveCurves(), epochs=3)
    how, places, drawn, told = zip(*figures, strict=True)
    assert how == ("display", "update", "update", "update") and len(set(places)) == 1
    assert list(map(accuracies, drawn)) == [[], [0.5], [0.5, 0.75], [0.5, 0.75, 1.0]]
    assert told[-1] == "Loss and accuracy after 3 of 3 epochs."


def test_live_curves_have_the_epochs_still_to_come_on_their_axis(figures):
    trained(progress.LiveCurves(), epochs=20)
    for _, _, figure, _ in figures:
        assert [axis.get_xlim() for axis in figure.axes] == 2 * [(0.5, 20.5)]


@pytest.mark.filterwarnings("error")
def test_live_curves_of_a_resumed_run_begin_where_it_was_resumed(figures):
    trained(progress.LiveCurves(), epochs=4, first=2)
    assert [len(accuracies(figure)) for _, _, figure, _ in figures] == [2, 3, 4]
    assert np.isfinite(accuracies(figures[-1][2])).tolist() == [False, False, True, True]


def test_nothing_is_drawn_where_nothing_is_left_to_train(figures):
    trained(progress.LiveCurves(), epochs=2, first=2)
    assert figures == []


@pytest.mark.parametrize("session, kind", [("/work/01_cnn.ipynb", "LiveCurves"), (None, "EpochLine")])
def test_curves_where_jupyter_shows_the_notebook(monkeypatch, session, kind):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    if session:
        monkeypatch.setenv("JPY_SESSION_NAME", session)
    assert [type(callback).__name__ for callback in progress.default()] == [kind]


def test_both_work_inside_keras(capsys):
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
    network.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = np.eye(2, dtype="float32"), np.arange(2)
    rest = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(LOGS))
    network.fit(x, y, epochs=2, verbose=0, callbacks=[rest, progress.EpochLine()])
    assert len(capsys.readouterr().out.splitlines()) == 2
