"""What shows a training while it runs: a line per epoch, or curves that are redrawn."""

import os
import pkgutil

from IPython.display import DisplayHandle, Markdown

from bloodcell_lib import plots
from bloodcell_lib.backend import keras


class EpochLine(keras.callbacks.Callback):
    """Prints one line per epoch."""

    def on_epoch_end(self, epoch, logs=None):
        told = [
            f"{part} {logs[f'{key}accuracy']:.3f} (loss {logs[f'{key}loss']:.3f})" for part, key in plots.PARTS.items()
        ]
        print(f"epoch {epoch + 1:3d}/{self.params['epochs']}", *told, f"{logs['seconds']:.1f} s", sep="   ", flush=True)


class LiveCurves(keras.callbacks.Callback):
    """Redraws the curves after each epoch, in a notebook that somebody looks at."""

    def on_train_begin(self, logs=None):
        self.history, self.place = {}, DisplayHandle()
        self.place.display(Markdown("The first epoch is running."))

    def on_epoch_end(self, epoch, logs=None):
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)
        figure = plots.curves(self.history)
        self.place.update(figure)
        plots.plt.close(figure)

    def on_train_end(self, logs=None):
        self.place.update(Markdown("The curves of all epochs follow."))


def default() -> list[keras.callbacks.Callback]:
    """Return live curves where a Jupyter server shows the notebook, else one line per epoch, and any others asked for.

    `BLOODCELL_CALLBACKS` names a function without arguments, module:function, that returns those for one training.
    """
    more = pkgutil.resolve_name(os.environ.get("BLOODCELL_CALLBACKS", "builtins:list"))
    return [LiveCurves() if "JPY_SESSION_NAME" in os.environ else EpochLine(), *more()]
