"""Watchers see a training, and change nothing about it; one that fails is said once."""

import json
from pathlib import Path

import keras
import made
import nbformat
import numpy as np
import pytest
from test_command import bloodcell, ends, notebook, shelf  # noqa: F401  a fixture
from test_training import alike, recipe, train

from bloodcell_lib import progress
from bloodcell_lib.command import runner, watch

HOOK = ("BLOODCELL_CALLBACKS", watch.WATCH)


def watched(folder: Path, *by: str, name: str = "cnn-quick-seed0") -> watch.Watched:
    return watch.Watched(by, str(folder), name, {"epochs": 3, "split": "image"})


@pytest.fixture
def under(monkeypatch):
    """Lets watchers see the trainings of this process, as those of a kernel."""
    monkeypatch.setattr(watch, "FITS", iter(range(1, 99)))

    def begin(told: watch.Watched) -> watch.Watched:
        for name, value in told.environment.items():
            monkeypatch.setenv(name, value)
        return told

    return begin


def shown(*watchers: keras.callbacks.Callback, epochs: range = range(3)) -> None:
    """Show watchers some epochs, as `fit` does."""
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    network.compile("adam", "mse")
    for each in watchers:
        each.set_params({"epochs": epochs.stop})
        each.set_model(network)
        each.on_train_begin()
        for epoch in epochs:
            each.on_epoch_begin(epoch, {})
            each.on_epoch_end(epoch, {"loss": 1 / (epoch + 1), "val_loss": 2 / (epoch + 1)})
        each.on_train_end()


class Meddler(keras.callbacks.Callback):
    """A watcher that would change the record, and breaks in the second epoch."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.model.name)
        logs |= {"loss": 99.0, "learning_rate": 1.0}
        if epoch == 1:
            raise OSError("the disk of the watcher is full")


def test_a_watcher_that_meddles_and_fails_changes_nothing_and_is_said_once(tmp_path, monkeypatch, under, capsys):
    alone, _ = train(tmp_path / "alone")
    seen = []
    monkeypatch.setattr(watch, "tensorboard", lambda told, epoch: Meddler(seen))
    under(watched(tmp_path, "tensorboard"))
    run, _ = train(tmp_path / "watched")
    said = capsys.readouterr().out
    assert seen == ["cnn", "cnn"], "it has seen two epochs, and not the one after its failure"
    assert said.count("stopped watching") == 1
    assert "tensorboard stopped watching (OSError: the disk of the watcher is full). The training goes on." in said
    assert {name for name in run.history} == {name for name in alone.history} and alike(run.history, alone.history)
    assert (run.name, run.best_epoch) == (alone.name, alone.best_epoch)
    for what in ("protocol", "fingerprint", "code"):
        assert getattr(run, what) == getattr(alone, what), what
    for one, two in zip(run.network.get_weights(), alone.network.get_weights(), strict=True):
        assert np.allclose(one, two, atol=1e-6)


def test_a_watcher_that_cannot_begin_is_said_once(tmp_path, monkeypatch, under, capsys):
    monkeypatch.setattr(watch, "Mlflow", lambda told, epoch: 1 / 0)
    under(watched(tmp_path, "mlflow"))
    shown(*watch.callbacks())
    assert capsys.readouterr().out.splitlines() == [
        "mlflow stopped watching (ZeroDivisionError: division by zero). The training goes on."
    ]


def test_any_function_may_be_named_that_returns_callbacks(monkeypatch):
    monkeypatch.delenv("BLOODCELL_CALLBACKS", raising=False)
    assert len(progress.default()) == 1
    monkeypatch.setenv("BLOODCELL_CALLBACKS", "test_watch:two")
    assert [type(each).__name__ for each in progress.default()][1:] == ["Callback", "Callback"]


def two() -> list[keras.callbacks.Callback]:
    return [keras.callbacks.Callback(), keras.callbacks.Callback()]


def test_the_trainings_of_a_notebook_have_names_of_their_own(tmp_path, monkeypatch, under):
    names = []
    monkeypatch.setattr(watch, "tensorboard", lambda told, epoch: names.append(told.name))
    under(watched(tmp_path, "tensorboard", name="11_leakage-quick-seed0"))
    for each in (*watch.callbacks(), *watch.callbacks()):
        each.begin(0)
    assert names == ["11_leakage-quick-seed0", "11_leakage-quick-seed0-2"]


def test_tensorboard_has_the_curves_of_the_run_and_none_of_the_run_before(tmp_path, under):
    pytest.importorskip("tensorboard", reason="pip install 'bloodcell[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    def scalars(part: str, tag: str) -> dict[int, float]:
        found = EventAccumulator(str(tmp_path / "tensorboard/cnn-quick-seed0" / part)).Reload()
        return {each.step: float(make_ndarray(each.tensor_proto)) for each in found.Tensors(tag)}

    under(watched(tmp_path, "tensorboard"))
    shown(*watch.callbacks(), epochs=range(5))
    watch.FITS = iter([1, 1])
    shown(*watch.callbacks(), epochs=range(2))
    assert scalars("train", "epoch_loss") == {0: 1.0, 1: 0.5}
    shown(*watch.callbacks(), epochs=range(2, 4))
    assert scalars("validation", "epoch_loss") == pytest.approx({0: 2.0, 1: 1.0, 2: 2 / 3, 3: 0.5}), "it was resumed"


def test_mlflow_has_recipe_epochs_and_intervals(tmp_path, monkeypatch, under, capsys):
    pytest.importorskip("mlflow", reason="pip install 'bloodcell[mlflow]'")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (line,) = watch.check(["mlflow"], tmp_path)
    assert line == f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db"
    told, record = under(watched(tmp_path, "mlflow")), made.record(tmp_path)
    shown(*watch.callbacks(), epochs=range(2))
    assert told.finish(record.write(), failed=False) == "" and capsys.readouterr().out == ""
    client = watch._client(tmp_path)
    (found,) = client.search_runs([watch._experiment(client, tmp_path)])
    assert (found.info.run_name, found.info.status) == ("cnn-quick-seed0", "FINISHED")
    assert found.data.params == {"epochs": "3", "split": "image"}
    losses = client.get_metric_history(found.info.run_id, "val_loss")
    assert {each.step: each.value for each in losses} == {1: 2.0, 2: 1.0}
    assert {name: found.data.metrics[name] for name in watch.final(record)} == watch.final(record)
    low, high = record.test["interval95"]["accuracy"]
    assert [found.data.metrics[f"test.accuracy.{end}95"] for end in ("low", "high")] == [low, high]
    told.finish(None, failed=True)
    assert client.get_run(found.info.run_id).info.status == "FAILED"
    resumed, anew = (watch.Mlflow(watched(tmp_path, "mlflow"), epoch) for epoch in (1, 0))
    assert resumed.run == found.info.run_id != anew.run, "a resumed run goes on, a fresh one is another"


def test_a_missing_package_is_said_before_anything_is_run(shelf, tmp_path, own_folder, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(watch, "find_spec", lambda name: None)
    out = tmp_path / "out"
    status, said, wrong = bloodcell(
        capsys, "run", "00", "--data", str(own_folder), "--out", str(out), "--watch", "mlflow"
    )
    assert status == 2 and wrong == "bloodcell: --watch mlflow needs what is not installed: pip install mlflow\n"
    assert not ends(said) and not (tmp_path / "ran").exists() and not list(out.glob("*.ipynb"))


def test_a_store_that_cannot_be_used_is_said_before_anything_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "find_spec", lambda name: True)
    monkeypatch.setattr(watch, "_client", lambda folder: 1 / 0)
    with pytest.raises(ValueError, match="^--watch mlflow: sqlite:///.* cannot be used .ZeroDivisionError"):
        watch.check(["mlflow"], tmp_path)


def test_only_a_kernel_that_is_watched_knows_of_it(shelf, tmp_path, own_folder, monkeypatch, capsys):  # noqa: F811
    for name in HOOK:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(watch, "find_spec", lambda name: True)
    notebook(shelf / "00_good.ipynb", f"import os; print([os.environ.get(name) for name in {HOOK}])")
    arguments = ("run", "00", "--data", str(own_folder), "--out", str(tmp_path / "out"), "--fresh")

    def printed() -> list[str | None]:
        copy = nbformat.read(tmp_path / "out/00_good-quick-seed0.ipynb", as_version=4)
        return eval(copy.cells[-1].outputs[0].text)

    status, said, _ = bloodcell(capsys, *arguments, "--watch", "tensorboard")
    assert status == 0 and f"To watch: tensorboard --logdir {tmp_path / 'out/tensorboard'}" in said
    hook, told = printed()
    assert hook == "bloodcell_lib.command.watch:callbacks"
    found = json.loads(told)
    assert (found["by"], found["folder"], found["name"]) == (
        ["tensorboard"],
        str(tmp_path / "out"),
        "00_good-quick-seed0",
    )
    assert bloodcell(capsys, *arguments)[0] == 0 and printed() == [None, None]
    status, said, _ = bloodcell(capsys, *arguments[:-1], "--watch", "tensorboard")
    assert status == 0 and "already done" in said and "To watch" not in said


def test_what_is_told_of_a_lesson_is_its_identity(tmp_path, own_folder):
    (job,) = runner.plan(["cnn"], recipe(learning_rate=1e-4), str(own_folder), [3], tmp_path)
    told = runner._watched(job, ["mlflow"])
    assert told.name == job.record.stem and told.folder == str(tmp_path)
    assert (
        told.params | {"learning_rate": 1e-4, "seed": 3, "protocol": "quick", "code": job.identity["code"]}
        == told.params
    )
    assert watch.Watched([], "", "", {}).environment == {}
