"""What shows a training while it runs: a line per epoch, or curves that are redrawn."""

import os
import pkgutil

from IPython.display import DisplayHandle

from bloodcell_lib import plots
from bloodcell_lib.backend import keras


class EpochLine(keras.callbacks.Callback):
    """Prints one line per epoch."""

    def on_epoch_end(self, epoch, logs=None):
        told = (f"{part} {logs[f'{k}accuracy']:.3f} (loss {logs[f'{k}loss']:.3f})" for part, k in plots.PARTS.items())
        print(f"epoch {epoch + 1:3d}/{self.params['epochs']}", *told, f"{logs['seconds']:.1f} s", sep="   ", flush=True)


class LiveCurves(keras.callbacks.Callback):
    """Redraws the curves in one place after each epoch, on an axis of all epochs. The last picture stays.

    In a run that was resumed, the epochs before are left blank.
    """

    def on_train_begin(self, logs=None):
        self.history, self.place = {}, DisplayHandle()

    def on_epoch_begin(self, epoch, logs=None):
        if not self.history:
            self.history = {k + what: [None] * epoch for k in plots.PARTS.values() for what in ("loss", "accuracy")}
            self._draw(self.place.display)

    def on_epoch_end(self, epoch, logs=None):
        for name, values in self.history.items():
            values.append(logs[name])
        self._draw(self.place.update)

    def _draw(self, display):
        alt = f"Loss and accuracy after {len(self.history['loss'])} of {self.params['epochs']} epochs."
        plots.show(plots.curves(self.history, epochs=self.params["epochs"]), alt, display)


def default() -> list[keras.callbacks.Callback]:
    """Return live curves where a Jupyter server shows the notebook, else one line per epoch, and any others asked for.

    `BLOODCELL_CALLBACKS` names a function without arguments, module:function, that returns those for one training.
    """
    more = pkgutil.resolve_name(os.environ.get("BLOODCELL_CALLBACKS", "builtins:list"))
    return [LiveCurves() if "JPY_SESSION_NAME" in os.environ else EpochLine(), *more()]
