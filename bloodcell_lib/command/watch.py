"""Watchers of trainings: TensorBoard and MLflow, beside the record, which stays the truth and knows nothing of them.

A batch names them in the environment of its kernels, where `progress.default` calls `callbacks`.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from bloodcell_lib.backend import keras
from bloodcell_lib.records import Record

WATCH = "BLOODCELL_WATCH"  # JSON: a `Watched`
EXPERIMENT = "bloodcell"
FITS = count(1)  # trainings of this process: a notebook may have several


@dataclass(frozen=True)
class Watched:
    """The trainings of one notebook: who watches them, the folder of its files, their name, what is known of them.

    `mark` tells its runs in MLflow from earlier ones of the same name.
    """

    by: Sequence[str]
    folder: str
    name: str
    params: Mapping[str, Any]
    mark: str = field(default_factory=lambda: uuid4().hex)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a kernel has its trainings watched."""
        hook = {"BLOODCELL_CALLBACKS": f"{__name__}:callbacks", WATCH: json.dumps(vars(self))}
        return hook if self.by else {}

    def finish(self, record: Path | None, failed: bool) -> str:
        """Let MLflow have what is known when the notebook has ended: the final metrics, or that it failed.

        Returns:
            What went wrong in this, or "".
        """
        if "mlflow" not in self.by:
            return ""
        try:
            client = _client(self.folder)
            for run in client.search_runs([_experiment(client, self.folder)], f"tags.mark = '{self.mark}'"):
                if failed:
                    client.set_terminated(run.info.run_id, "FAILED")
                elif record and run.info.run_name == self.name:
                    for name, value in final(Record.read(record)).items():
                        client.log_metric(run.info.run_id, name, value)
        except Exception as error:  # of any kind
            return f"mlflow has no final metrics of {self.name} ({brief(error)}). Its record has them."
        return ""


def check(by: Sequence[str], folder: Path) -> list[str]:
    """Return the commands that show what the watchers will write, before any training starts.

    Raises:
        ValueError: a package is missing, or MLflow's store cannot be used.
    """
    if missing := [name for name in by if not find_spec(name)]:
        raise ValueError(f"--watch {missing[0]} needs what is not installed: pip install {' '.join(missing)}")
    if "mlflow" in by:
        try:
            _experiment(_client(folder), folder)
        except Exception as error:  # of any kind
            raise ValueError(f"--watch mlflow: {_store(folder)} cannot be used ({brief(error)}).") from error
    shown = {"tensorboard": f"tensorboard --logdir {folder / 'tensorboard'}"}
    shown["mlflow"] = f"mlflow ui --backend-store-uri {_store(folder)}"
    return [shown[name] for name in dict.fromkeys(by)]


def callbacks() -> list[keras.callbacks.Callback]:
    """Return the watchers of one training, by the variable that `Watched.environment` sets."""
    told, number = Watched(**json.loads(os.environ[WATCH])), next(FITS)
    told = replace(told, name=f"{told.name}-{number}" if number > 1 else told.name)
    begin = {"tensorboard": tensorboard, "mlflow": Mlflow}
    return [Watcher(name, partial(begin[name], told)) for name in dict.fromkeys(told.by)]


class Watcher(keras.callbacks.Callback):
    """Hands every epoch to a watcher, which begins with the first that is trained. Its failure is said, and ends it.

    Args:
        name: of the watcher.
        begin: `(epoch) -> Callback`; the epoch counts from 0 and is later where a run is resumed.
    """

    def __init__(self, name: str, begin: Callable[[int], keras.callbacks.Callback]):
        super().__init__()
        self.name, self.begin, self.failed = name, begin, False
        self.inner: keras.callbacks.Callback | None = None

    def on_epoch_begin(self, epoch, logs=None):
        if not self.inner:
            self._try(self._begin, epoch)
        self._tell("on_epoch_begin", epoch)

    def on_epoch_end(self, epoch, logs=None):
        self._tell("on_epoch_end", epoch, dict(logs))  # a copy: what a watcher adds must not reach the record

    def on_train_end(self, logs=None):
        self._tell("on_train_end")

    def _begin(self, epoch: int) -> None:
        inner = self.begin(epoch)
        inner.set_params(self.params)
        inner.set_model(self.model)
        inner.on_train_begin()
        self.inner = inner

    def _tell(self, event: str, *told: Any) -> None:
        if self.inner:
            self._try(getattr(self.inner, event), *told)

    def _try(self, do: Callable[..., None], *told: Any) -> None:
        try:
            if not self.failed:
                do(*told)
        except Exception as error:  # of any kind
            self.failed = True
            print(f"{self.name} stopped watching ({brief(error)}). The training goes on.", flush=True)


def tensorboard(told: Watched, epoch: int) -> keras.callbacks.TensorBoard:
    """Return Keras' TensorBoard, without the curves of a run that this one replaces."""
    folder = Path(told.folder) / "tensorboard" / told.name
    if not epoch:
        shutil.rmtree(folder, ignore_errors=True)
    return keras.callbacks.TensorBoard(folder, write_graph=False)


class Mlflow(keras.callbacks.Callback):
    """Writes a run's recipe and the metrics of each epoch into MLflow; a resumed run goes on where it was."""

    def __init__(self, told: Watched, epoch: int):
        super().__init__()
        self.client = _client(told.folder)
        experiment = _experiment(self.client, told.folder)
        same = f"tags.mlflow.runName = '{told.name}'"
        old = self.client.search_runs([experiment], same, order_by=["attributes.start_time DESC"]) if epoch else []
        run = old[0] if old else self.client.create_run(experiment, run_name=told.name)
        self.run = run.info.run_id
        self.client.set_tag(self.run, "mark", told.mark)
        self.client.update_run(self.run, status="RUNNING")
        for name, value in told.params.items():
            self.client.log_param(self.run, name, value)

    def on_epoch_end(self, epoch, logs=None):
        for name, value in logs.items():
            self.client.log_metric(self.run, name, float(value), step=epoch + 1)

    def on_train_end(self, logs=None):
        self.client.set_terminated(self.run)


def final(record: Record) -> dict[str, float]:
    """Return the metrics of a record's best epoch, with both ends of their 95 % intervals, by name."""
    found = {"best_epoch": float(record.best_epoch)}
    for part in ("validation", "test", "test_unseen"):
        if of := getattr(record, part):
            ends = of["interval95"]
            values = {"accuracy": (of["accuracy"], ends["accuracy"]), "f1": (of["macro"]["f1"], ends["macro"]["f1"])}
            for name, (value, (low, high)) in values.items():
                found |= {f"{part}.{name}": value, f"{part}.{name}.low95": low, f"{part}.{name}.high95": high}
            found[f"{part}.{ends['unit']}s"] = ends["units"]
    return found


def _store(folder: str | Path) -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(folder).as_posix()}/mlflow.db"


def _client(folder: str | Path) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient  # slow to import

    return MlflowClient(_store(folder))


def _experiment(client: Any, folder: str | Path) -> str:
    """Return the id of the experiment, which is made where it is missing."""
    found = client.get_experiment_by_name(EXPERIMENT)
    own = None if os.environ.get("MLFLOW_TRACKING_URI") else (Path(folder) / "mlflow").as_uri()
    return found.experiment_id if found else client.create_experiment(EXPERIMENT, artifact_location=own)


def brief(error: Exception) -> str:
    """Return the kind of an error, and the beginning of what it says, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
