"""A network that two devices train is the one that a single device trains."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from bloodcell_lib import backend

HERE = Path(__file__).parents[1]
TRAIN = """
import json, os, sys
count, out = int(sys.argv[1]), sys.argv[2]
if os.environ["KERAS_BACKEND"] == "tensorflow":
    import tensorflow as tf
    here = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(here, [tf.config.LogicalDeviceConfiguration()] * count)

import numpy as np
from bloodcell_lib import backend, dataset, models, protocols, training
from bloodcell_lib.backend import keras
from keras import layers

SIZE, JAX = (8, 8), keras.backend.backend() == "jax"


def part(count):  # 33 = 16 + 16 + 1, 35 = 32 + 3, 13: two devices divide none of the last batches
    rng = np.random.default_rng(count)
    names = np.array([f"{count}-{i}" for i in range(count)])
    labels, images = np.arange(count) % 4, rng.integers(0, 256, (count, *SIZE, 3), np.uint8)
    images[np.arange(count), 2 * labels] //= 2
    return dataset.Part(images, np.arange(count), labels, names, names, names)


def fit(name, norm, stop=None):
    random = norm and JAX  # on TensorFlow, two devices draw other numbers
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((*SIZE, 3))
    x = layers.Conv2D(6, 3, activation="relu", use_bias=False)(layers.Rescaling(1 / 255)(x))
    head = layers.Dense(4, activation="softmax")(layers.Flatten()(x))
    x = layers.Conv2D(6, 3, use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.5)(x) if norm else x
    x = layers.Dropout(0.3)(layers.Flatten()(x)) if random else layers.Flatten()(x)
    network = keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="cnn")
    models.auxiliary = lambda network: ([head], 0.3)
    changed = {"learning_rate": 0.01, "augmentation": ("flip",) if random else ()}
    protocol = protocols.get("quick", image_size=SIZE, epochs=2, batch_size=16, limit=35, **changed)
    stopping = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: 1 / (epoch != stop))
    run = training.fit(network, data, protocol, 0, f"{out}/{name}", callbacks=[stopping])
    assert not any(getattr(layer, "synchronized", False) for layer in network.layers)
    record = training.evaluate(run, data)
    found = {"device": record.device, "resumed": run.resumed, **record.history}
    return found | {name: values.tolist() for name, values in record.answers.items() if "probabilities" in name}


data = dataset.Dataset(part(33), part(35), part(13), None, dataset.CLASSES, "rows", "f", "image", False)
found = {"plain": fit("plain", norm=False)}
if count > 1:  # this run is interrupted as well
    try:
        fit("norm", norm=True, stop=1)
    except ZeroDivisionError:
        print("interrupted")
found["norm"] = fit("norm", norm=True)
if count > 1 and JAX:
    found["parts"] = [piece.data.shape[0] for piece in backend.shard(np.zeros((6, 2))).addressable_shards]
print(json.dumps(found))
"""


def trained(name: str, devices: int, out: Path) -> dict:
    """Train in a process of its own: a backend makes its devices once."""
    env = os.environ | {"KERAS_BACKEND": name, "BLOODCELL_DEVICES": str(devices), "PYTHONPATH": str(HERE)}
    env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    env["JAX_PLATFORMS"], env["CUDA_VISIBLE_DEVICES"] = "cpu", ""
    env["TF_ENABLE_ONEDNN_OPTS"] = "0"  # oneDNN, on processors alone, fails at a replica that has no image left
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(devices), str(out)], env=env, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=["tensorflow", "jax"])
def both(request, tmp_path_factory) -> tuple[dict, dict]:
    pytest.importorskip(request.param)
    out = tmp_path_factory.mktemp(request.param)
    return trained(request.param, 1, out / "one"), trained(request.param, 2, out / "two")


def off(one: dict, two: dict) -> dict[str, float]:
    """By how much two runs differ, in losses and accuracies per epoch and in the probabilities of every image."""
    names = [name for name in one if name not in ("device", "resumed")]
    return {name: float(np.abs(np.subtract(one[name], two[name])).max()) for name in names}


@pytest.mark.parametrize("network", ["plain", "norm"])
def test_two_devices_do_what_one_does_and_resume_it(both, network):
    one, two = (found[network] for found in both)
    assert len(one["probabilities"]) == 13 and len(one["validation_probabilities"]) == 35
    assert abs(one["loss"][0] - one["loss"][1]) > 0.01, "it did not learn, so a wrong gradient would not be seen"
    assert two["resumed"] == (network == "norm") and not one["resumed"]
    assert max(off(one, two).values()) < 2e-5, off(one, two)


def test_two_devices_have_a_share_each_and_the_record_says_so(both):
    one, two = both
    assert "devices" not in one["plain"]["device"] and two["plain"]["device"].endswith(" as 2 devices")
    assert two.get("parts", [3, 3]) == [3, 3]


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "3", "ALL"])
def test_a_number_of_devices_that_there_is_not_is_refused(monkeypatch, value):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0", "gpu:1"])
    monkeypatch.setenv("BLOODCELL_DEVICES", value)
    with pytest.raises(
        ValueError, match=rf"^BLOODCELL_DEVICES is '{value}', and .* 2 here \(gpu:0, gpu:1\): give .*all"
    ):
        backend.distribute()


@pytest.mark.parametrize("value", ["all", "1", "", None])
def test_one_device_is_as_if_nothing_were_said(monkeypatch, value):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0"])
    monkeypatch.delenv("BLOODCELL_DEVICES", raising=False)
    if value is not None:
        monkeypatch.setenv("BLOODCELL_DEVICES", value)
    assert backend.distribute() == 1 and keras.distribution.distribution() is None
