"""Precision of arithmetic: what computes in it, what does not, and what is told of it."""

import json
from pathlib import Path

import keras
import made
import numpy as np
import pytest

from bloodcell_lib import backend, models, protocols, records, training
from bloodcell_lib.records import Record

RESULTS = Path(__file__).parents[1] / "results"


@pytest.mark.parametrize("name", models.lessons())
def test_every_network_takes_it_and_ends_in_float32(name):
    side = max(models.card(name).min_side, 32)
    network = models.build(name, (side, side))
    protocol = protocols.get("quick", image_size=(side, side), precision="mixed_bfloat16")
    model = training.for_training(network, protocol)
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3)).astype("uint8")
    inner = keras.Model(network.input, [network.get_layer("pool").input, network.output])
    features, probabilities = inner(images, training=True)
    assert keras.backend.standardize_dtype(features.dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(probabilities.dtype) == "float32"
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in network.weights} <= {"float32", "uint32"}
    assert len(model.trainable_variables) >= len(network.trainable_variables)


def test_it_is_near_float32_and_the_file_keeps_it(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 20, 24, 3)).astype("uint8")
    network = models.build("cnn", (20, 24))
    exact = network.predict(images, verbose=0)
    training.for_training(network, protocols.get("quick", image_size=(20, 24), precision="mixed_bfloat16"))
    network.make_predict_function(force=True)
    rounded = network.predict(images, verbose=0)
    assert 0 < np.abs(rounded - exact).max() < 0.02
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert np.allclose(loaded.predict(images, verbose=0), rounded, atol=1e-3)
    policies = {layer.name: layer.dtype_policy.name for layer in loaded.layers}
    assert (policies["block1_conv"], policies["probabilities"]) == ("mixed_bfloat16", "float32")


def test_auto_becomes_what_it_means_here(monkeypatch):
    for found in ("float32", "mixed_bfloat16"):
        monkeypatch.setattr(backend, "fast_precision", lambda found=found: found)
        protocol = protocols.get("quick", precision="auto")
        assert protocol.precision == records.settings(protocol)["precision"] == found
    assert protocol.label == "quick-precision=mixed_bfloat16"
    assert protocols.get("quick").label == "quick"
    with pytest.raises(ValueError, match="precision='half' cannot be used. Give float32, mixed_bfloat16"):
        protocols.get("quick", precision="half")


def test_auto_follows_the_processor(monkeypatch):
    monkeypatch.setattr(backend, "gpus", lambda: [])
    for flags, expected in (("avx512f amx_bf16 amx_tile", "mixed_bfloat16"), ("avx512f", "float32")):
        monkeypatch.setattr(Path, "read_text", lambda self, flags=flags: f"flags\t: {flags}\n")
        monkeypatch.setattr(Path, "exists", lambda self: True)
        assert backend.fast_precision() == expected


def test_a_record_from_before_the_knob_is_of_float32(tmp_path):
    path = made.record(tmp_path).write()
    content = json.loads(path.read_text())
    assert content["settings"].pop("precision") == "float32" and content.pop("checksum")
    path.write_text(json.dumps(content))
    assert Record.read(path).settings["precision"] == "float32"
    assert all(record.settings["precision"] == "float32" for record in records.read_all(RESULTS))
