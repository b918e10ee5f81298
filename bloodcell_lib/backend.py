"""What Keras computes on, and whether it computes rightly."""

import os
import platform
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

stderr = os.dup(2)  # where TensorFlow greets, and so into every notebook, before it reads its log level
with open(os.devnull, "w") as nothing:
    os.dup2(nothing.fileno(), 2)
try:
    import keras
finally:
    os.dup2(stderr, 2)
    os.close(stderr)


class WholeBatches(keras.distribution.DataParallel):
    """Data parallelism on JAX that hands every device the whole batch; `shard` divides what can be divided.

    Keras 3.15 lays out every batch of an epoch as the first one, and raises where the last cannot be divided so.
    """

    def get_data_layout(self, data_shape: tuple) -> keras.distribution.TensorLayout:
        return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)


def distribute() -> int:
    """Train on as many devices of this machine as the variable `BLOODCELL_DEVICES` says: a number, or "all".

    Every device keeps a copy of all variables, so this precedes them, and has a share of every batch. Losses, metrics,
    gradients and batch statistics are those of one device, whatever the batch's size. Not equal is what is random on
    TensorFlow: dropout and augmentation repeat the numbers of the first device's share for each other share.

    Returns:
        How many devices are used: one, where the variable is not set.

    Raises:
        ValueError: the variable says something else, or more than there are.
    """
    wanted = os.environ.get("BLOODCELL_DEVICES") or "1"
    if wanted == "1":
        return 1
    found, name = keras.distribution.list_devices(), keras.backend.backend()
    number = len(found) if wanted == "all" else int(wanted) if wanted.isdecimal() else 0
    if not 1 <= number <= len(found):
        seen = f"{name} sees {len(found)} here ({', '.join(found)})"
        raise ValueError(f"BLOODCELL_DEVICES is {wanted!r}, and {seen}: give a number from 1 to {len(found)}, or all.")
    if number > 1 and name == "jax":
        keras.distribution.set_distribution(WholeBatches(devices=found[:number]))
    elif number > 1:
        import tensorflow as tf

        tf.distribute.experimental_set_strategy(tf.distribute.MirroredStrategy(found[:number]))
    return number


devices = distribute()
mirrored = devices > 1 and keras.backend.backend() == "tensorflow"


def shard(images: Any) -> Any:
    """Return a batch divided among JAX's devices, or whole on each of them if it cannot be: the results are equal."""
    distribution = keras.distribution.distribution()
    if distribution is None or images.shape[0] is None or images.shape[0] % devices:
        return images
    layout = keras.distribution.DataParallel.get_data_layout(distribution, images.shape)
    return keras.distribution.distribute_tensor(images, layout)


def weigh(loss: Any, labels: Any) -> Any:
    """Return the mean loss of a replica's images as it is, with its gradient weighted by their share of the batch.

    TensorFlow's strategy takes the replicas' gradients alike, however few images of the last batch one of them has.
    """
    if not mirrored:
        return loss
    import tensorflow as tf

    replica, count = tf.distribute.get_replica_context(), tf.cast(tf.shape(labels)[0], loss.dtype)
    if replica is None:  # Keras builds, and computes nothing
        return loss
    share = devices * count / replica.all_reduce(tf.distribute.ReduceOp.SUM, count)
    return tf.stop_gradient(loss) + share * (loss - tf.stop_gradient(loss))


def synchronize(network: keras.Model, together: bool = True) -> None:
    """Let batch normalisation see the whole batch, where each of TensorFlow's replicas has a part of it.

    Undo it before the network is saved: JAX does it unasked, and refuses a network that asks.
    """
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = together and mirrored


def gpus() -> list[str]:
    """Return the accelerators that Keras' backend sees, by name."""
    if keras.backend.backend() == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_physical_devices("GPU")
        return [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in found]
    return []


def device() -> str:
    """Return what the numbers were computed on: the accelerators in use, or the processor and its cores."""
    if gpus():
        return ", ".join(gpus()[:devices])
    info = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    cores = f"{os.cpu_count()} cores" + f" as {devices} devices" * (devices > 1)
    return f"{name[1].strip() if name else platform.processor() or platform.machine()}, {cores}"


def fast_precision() -> str:
    """Return "mixed_bfloat16" on a processor that has matrix units for it (Intel's AMX), else "float32".

    A processor without any support is slower with it; with instructions but no matrix units some networks gain and
    others lose. On a GPU it was not measured.
    """
    info = Path("/proc/cpuinfo")
    units = not gpus() and info.exists() and re.search(r"\bamx_bf16\b", info.read_text())
    return "mixed_bfloat16" if units else "float32"


def jit() -> bool | str:
    """Return Keras' `jit_compile`: automatic, but off on TensorFlow without a GPU, where XLA halves the speed.

    It is off on several, too: XLA does not compile what goes between them.
    """
    return False if keras.backend.backend() == "tensorflow" and (devices > 1 or not gpus()) else "auto"


def start_fast() -> None:
    """Skip TensorFlow's graph optimiser where there is no GPU, for the whole process.

    On two cores it takes 18 of the 42 seconds before NASNet's first step, and makes later steps no faster.
    """
    if keras.backend.backend() == "tensorflow" and not gpus():
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


class Adam(keras.optimizers.Adam):
    """Keras' Adam; on TensorFlow without a GPU it moves a variable by one operation instead of twenty."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if jit() or self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        values = learning_rate, self.iterations + 1, gradient  # of one type: TensorFlow does not check it
        rate, steps, gradient = (tf.cast(value, variable.dtype) for value in values)
        betas = {"beta1": self.beta_1, "beta2": self.beta_2}
        betas |= {f"{name}_power": beta**steps for name, beta in betas.items()}
        m, v = (every[self._get_variable_index(variable)].value.handle for every in (self._momentums, self._velocities))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle, m=m, v=v, lr=rate, epsilon=self.epsilon, grad=gradient, **betas
        )


def fuse(network: keras.Model) -> None:
    """Let batch normalisation train by one operation where TensorFlow has no GPU; Keras passes ten times over x."""
    for layer in () if jit() else network.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and layer.axis in (-1, 3):
            layer.call = partial(_normalise, layer)  # of this object: the file of the network does not know


def _normalise(layer: Any, x: Any, training: bool | None = None, mask: Any = None) -> Any:
    if not (training and layer.trainable and len(x.shape) == 4) or layer.synchronized or mask is not None:
        return type(layer).call(layer, x, training=training, mask=mask)
    import tensorflow as tf

    channels = x.shape[-1]
    scale = tf.cast(layer.gamma, "float32") if layer.scale else tf.ones(channels)
    shift = tf.cast(layer.beta, "float32") if layer.center else tf.zeros(channels)
    y, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, scale, shift, epsilon=layer.epsilon, is_training=True)
    count = tf.cast(tf.size(x) // channels, variance.dtype)
    variance *= (count - 1) / count  # Keras averages the variance of the batch, TensorFlow the estimate from it
    for kept, new in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        kept.assign(kept * layer.momentum + new * (1 - layer.momentum))
    return y


def check_arithmetic() -> None:
    """Hold the backend's convolution against NumPy: some releases of JAX compile it wrongly.

    Raises:
        RuntimeError: the two disagree.
    """
    rng = np.random.default_rng(0)
    image, kernel = rng.normal(size=(1, 9, 9, 8)), rng.normal(size=(3, 3, 8, 8))
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(1, 2))
    expected = np.einsum("nhwcij,ijco->nhwo", windows, kernel)
    got = keras.ops.convert_to_numpy(keras.ops.conv(image.astype("float32"), kernel.astype("float32")))
    if not np.allclose(got, expected, rtol=0.02, atol=0.2):  # loose enough for a GPU's TF32
        raise RuntimeError(
            f"{keras.backend.backend()} computes a small convolution wrongly here (off by "
            f"{np.abs(got - expected).max():.2g}). Install another release of it."
        )
