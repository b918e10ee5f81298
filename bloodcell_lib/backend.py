"""What Keras computes on, and whether it computes rightly."""

import os
import platform
import re
from pathlib import Path

import numpy as np

stderr = os.dup(2)  # where TensorFlow greets, and so into every notebook, before it reads its log level
with open(os.devnull, "w") as nothing:
    os.dup2(nothing.fileno(), 2)
try:
    import keras
finally:
    os.dup2(stderr, 2)
    os.close(stderr)


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
    """Return what the numbers were computed on: the accelerators, or the processor and its cores."""
    if gpus():
        return ", ".join(gpus())
    info = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    return f"{name[1].strip() if name else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def jit() -> bool | str:
    """Return Keras' `jit_compile`: automatic, but off on TensorFlow without a GPU, where XLA halves the speed."""
    return False if keras.backend.backend() == "tensorflow" and not gpus() else "auto"


def start_fast() -> None:
    """Skip TensorFlow's graph optimiser where there is no GPU, for the whole process.

    On two cores it takes 18 of the 42 seconds before NASNet's first step, and makes later steps no faster.
    """
    if keras.backend.backend() == "tensorflow" and not gpus():
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


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
