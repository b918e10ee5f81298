"""A training shows itself while it runs: in lines, or in curves that are redrawn."""

import keras
import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from bloodcell_lib import plots, progress  # noqa: E402  after the choice of a backend without a screen

LOGS = {f"{part}{what}": 0.25 for part in ("", "val_", "test_") for what in ("loss", "accuracy")} | {"seconds": 1.5}


def trained(callback: keras.callbacks.Callback, epochs: int = 2) -> None:
    """Send the logs of some epochs through a callback, as `fit` does."""
    callback.set_params({"epochs": epochs})
    callback.on_train_begin({})
    for epoch in range(epochs):
        callback.on_epoch_end(epoch, LOGS | {"accuracy": 0.5 + epoch / 4})
    callback.on_train_end({})


def test_a_line_per_epoch(capsys):
    trained(progress.EpochLine())
    first, second = capsys.readouterr().out.splitlines()
    assert "1/2" in first and "0.500" in first and "2/2" in second and "0.750" in second and "1.5 s" in second


def test_live_curves_are_redrawn_in_one_place(monkeypatch):
    drawn, places = [], []

    monkeypatch.setattr(progress.DisplayHandle, "display", lambda place, shown: places.append(shown))
    monkeypatch.setattr(progress.DisplayHandle, "update", lambda place, shown: places.append(shown))
    monkeypatch.setattr(plots, "curves", lambda history: drawn.append({k: list(v) for k, v in history.items()}))
    trained(progress.LiveCurves(), epochs=3)
    assert [history["accuracy"] for history in drawn] == [[0.5], [0.5, 0.75], [0.5, 0.75, 1.0]]
    assert len(places) == 5 and "first" in places[0].data and "curves" in places[-1].data


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
