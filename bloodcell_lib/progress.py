"""Stand-in until the lessons' room lands."""

from bloodcell_lib.backend import keras


class EpochLine(keras.callbacks.Callback):
    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        print(
            f"epoch {epoch + 1:3d}/{self.epochs}   train {logs['accuracy']:.3f} (loss {logs['loss']:.3f})   validation {logs['val_accuracy']:.3f} (loss {logs['val_loss']:.3f})   {logs['seconds']:.1f} s",
            flush=True,
        )


def default(epochs):
    return [EpochLine(epochs)]
