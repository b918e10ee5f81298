"""Training: its recipe, its best epoch, and a run that was interrupted."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from bloodcell_lib import backend, dataset, models, protocols, records, training

SIZE = (24, 32)


def part(seed: int, count: int = 48, shuffle_labels: bool = False) -> dataset.Part:
    """Images whose class is their brighter quadrant."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    images = rng.integers(0, 120, (count, *SIZE, 3), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[12 * (label // 2) : 12 * (label // 2) + 12, 16 * (label % 2) : 16 * (label % 2) + 16] += 100
    names = np.array([f"{seed}-{i}" for i in range(count)])
    labels = rng.permutation(labels) if shuffle_labels else labels
    return dataset.Part(images, np.arange(count), labels, names, names, names)


def data(shuffle_test: bool = False) -> dataset.Dataset:
    return dataset.Dataset(
        part(0, 96),
        part(1),
        part(2, shuffle_labels=shuffle_test),
        None,
        dataset.CLASSES,
        "quadrants",
        f"f{shuffle_test}",
        "paper",
        False,
    )


def recipe(**overrides) -> protocols.Protocol:
    return protocols.get("quick", **{"image_size": SIZE, "epochs": 3, "batch_size": 16} | overrides)


def train(out, protocol=None, set_=None, **options):
    keras.utils.set_random_seed(0)
    network = models.build("cnn", SIZE)
    set_ = set_ or data()
    return training.fit(network, set_, protocol or recipe(), out=out, **options), set_


class StopAfter(keras.callbacks.Callback):
    """An interruption in the middle of an epoch."""

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epochs:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    return *train(out, recipe(epochs=6)), out


def test_history_has_a_value_an_epoch(finished, capsys):
    run, *_ = finished
    assert set(run.history) == {f"{p}{w}" for p in ("", "val_", "test_") for w in ("loss", "accuracy")} | {"seconds"}
    assert {len(values) for values in run.history.values()} == {6}
    assert run.history["loss"][-1] < run.history["loss"][0]
    assert not run.resumed


def test_the_checkpoint_is_the_best_epoch_on_validation(finished):
    run, set_, _ = finished
    best = keras.saving.load_model(run.checkpoint)
    guess = best.predict(set_.validation.images, verbose=0).argmax(1)
    assert (guess == set_.validation.labels).mean() == pytest.approx(max(run.history["val_accuracy"]))
    best = max(run.history["val_accuracy"])
    equals = [loss for a, loss in zip(run.history["val_accuracy"], run.history["val_loss"], strict=True) if a == best]
    assert run.history["val_loss"][run.best_epoch - 1] == min(equals)


def test_a_protocol_sets_the_momentum_of_batch_normalisation(tmp_path):
    for wanted, expected in ((0.7, 0.7), (None, 0.9)):
        network = models.build("cnn", SIZE)
        training.fit(network, data(), replace(recipe(epochs=1), norm_momentum=wanted), out=tmp_path)
        assert {layer.momentum for layer in network.layers if hasattr(layer, "momentum")} == {expected}


def test_of_equal_accuracies_the_lower_loss_is_kept(tmp_path):
    network = models.build("cnn", SIZE)
    keep = training.KeepBest(network, tmp_path / "kept.keras", {})
    kept = []
    for accuracy, loss in ((0.5, 0.2), (0.9, 0.5), (0.9, 0.4), (0.9, 0.6), (0.8, 0.1)):
        keep.on_epoch_end(0, {"val_accuracy": accuracy, "val_loss": loss})
        kept.append((tmp_path / "kept.keras").exists())
        (tmp_path / "kept.keras").unlink(missing_ok=True)
    assert kept == [True, True, True, False, False]


def test_evaluate_makes_a_sound_record(finished):
    run, set_, out = finished
    best = keras.saving.load_model(run.checkpoint)
    record, predictions = training.evaluate(best, run, set_, recipe(epochs=6))
    assert records.read(records.write(record, predictions, out))["parameters"] == models.card("cnn").parameters
    assert record["test"]["accuracy"] == pytest.approx(run.history["test_accuracy"][run.best_epoch - 1])
    assert record["test"]["loss"] == pytest.approx(run.history["test_loss"][run.best_epoch - 1], rel=1e-4)
    assert record["test"]["interval95"]["unit"] == "image"


def test_test_is_also_measured_without_the_scenes_of_training(finished):
    run, set_, _ = finished
    assert "test_apart" not in training.evaluate(keras.saving.load_model(run.checkpoint), run, set_, recipe())[0]
    scenes = np.where(np.arange(48) < 12, set_.train.scenes[:48], set_.test.scenes)
    scenes[-1] = set_.validation.scenes[5]
    known = replace(set_, photos_known=True, test=replace(set_.test, scenes=scenes))
    record, predictions = training.evaluate(keras.saving.load_model(run.checkpoint), run, known, recipe())
    assert np.flatnonzero(predictions["apart"]).tolist() == list(range(12, 47))
    right = predictions["probabilities"].argmax(1) == set_.test.labels
    assert record["test_apart"]["accuracy"] == pytest.approx(right[12:47].mean())
    assert record["test_apart"]["interval95"]["units"] == 35 and record["test"]["interval95"]["units"] == 48


def test_a_run_leaves_only_its_checkpoint(tmp_path):
    train(tmp_path, recipe(epochs=1))
    assert [file.name for file in tmp_path.iterdir()] == ["cnn-quick-seed0.keras"]


def test_the_test_set_chooses_nothing(tmp_path):
    runs = [train(tmp_path / str(shuffle), set_=data(shuffle))[0] for shuffle in (False, True)]
    weights = [keras.saving.load_model(run.checkpoint).get_weights() for run in runs]
    assert runs[0].history["test_loss"] != runs[1].history["test_loss"]
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def test_an_interrupted_run_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, recipe(epochs=4), watchers=[StopAfter(2)])
    before = next(tmp_path.glob(".*.csv")).read_text().splitlines()
    run, _ = train(tmp_path, recipe(epochs=4))
    assert run.resumed and len(run.history["loss"]) == 4
    first = dict(zip(before[0].split(","), before[1].split(","), strict=True))
    assert run.history["loss"][0] == float(first["loss"])
    assert [file.name for file in tmp_path.iterdir()] == ["cnn-quick-seed0.keras"]
    again, _ = train(tmp_path, recipe(epochs=4))
    assert not again.resumed


def test_a_resumed_run_remembers_its_best(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, watchers=[StopAfter(2)])
    log = next(tmp_path.glob(".*.csv"))
    head, one, two = log.read_text().splitlines()
    cells = dict(zip(head.split(","), one.split(","), strict=True)) | {"val_accuracy": "1.0", "val_loss": "0.0"}
    perfect = ",".join(cells.values())
    log.write_text("\n".join([head, perfect, two]) + "\n")
    kept = (tmp_path / "cnn-quick-seed0.keras").read_bytes()
    run, _ = train(tmp_path)
    assert run.best_epoch == 1 and run.checkpoint.read_bytes() == kept


def test_another_recipe_does_not_go_on_with_this_run(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, watchers=[StopAfter(1)])
    run, _ = train(tmp_path, recipe(learning_rate=1e-4))
    assert not run.resumed and len(run.history["loss"]) == 3


def test_random_layers_are_no_part_of_what_is_kept(tmp_path):
    protocol = recipe(epochs=2, schedule="cosine", augmentation=("flip", "rotate"))
    run, set_ = train(tmp_path, protocol)
    best = keras.saving.load_model(run.checkpoint)
    assert best.count_params() == models.card("cnn").parameters
    assert not [layer for layer in best.layers if layer.name.startswith("random")]
    guess = best.predict(set_.validation.images, verbose=0).argmax(1)
    assert (guess == set_.validation.labels).mean() == pytest.approx(max(run.history["val_accuracy"]))


def test_auxiliary_heads_add_to_the_training_loss_alone(tmp_path):
    keras.utils.set_random_seed(0)
    network = models.build("googlenet", (32, 32))
    parts = [
        dataset.Part(np.resize(p.images, (len(p), 32, 32, 3)), p.rows, p.labels, p.photos, p.paths, p.scenes)
        for p in (part(0), part(1), part(2))
    ]
    set_ = dataset.Dataset(*parts, None, dataset.CLASSES, "noise", "f", "paper", False)
    protocol = recipe(image_size=(32, 32), epochs=1, learning_rate=1e-6)  # steps so small that losses compare
    run = training.fit(network, set_, protocol, out=tmp_path)
    assert run.history["loss"][0] > 1.3 * run.history["val_loss"][0]  # 1 + 0.3 + 0.3 times log 4, about
    best = keras.saving.load_model(run.checkpoint)
    assert best.count_params() == models.card("googlenet").parameters and len(best.outputs) == 1
    record, _ = training.evaluate(best, run, set_, protocol)
    assert record["validation"]["loss"] == pytest.approx(run.history["val_loss"][0], rel=1e-3)


def test_augmentation_changes_the_images():
    keras.utils.set_random_seed(0)
    for make in training.AUGMENTATION.values():
        images = part(0).images.astype("float32")
        assert np.abs(keras.ops.convert_to_numpy(make()(images, training=True)) - images).max() > 50
        assert np.array_equal(keras.ops.convert_to_numpy(make()(images, training=False)), images)


def test_the_cosine_ends_at_zero():
    protocol = recipe(schedule="cosine", epochs=5)
    rate = training.optimizer(protocol, 96)._learning_rate
    assert [float(rate(step)) for step in (0, 30)] == pytest.approx([protocol.learning_rate, 0.0], abs=1e-9)


def test_a_loss_that_is_no_number_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="LEARNING_RATE, which is 1e\\+30"):
        train(tmp_path, recipe(learning_rate=1e30, epochs=5))


def test_classes_must_match(tmp_path):
    with pytest.raises(ValueError, match="num_classes=4"):
        training.fit(models.build("cnn", SIZE, num_classes=3), data(), recipe(), out=tmp_path)


def test_wrong_arithmetic_is_noticed(monkeypatch):
    backend.check_arithmetic()
    monkeypatch.setattr(keras.ops, "conv", lambda image, kernel: np.zeros((1, 7, 7, 8)))
    with pytest.raises(RuntimeError, match="wrongly"):
        backend.check_arithmetic()


def test_lines_or_curves(monkeypatch, capsys):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    (line,) = training.progress(20)
    line.on_epoch_end(2, {k: 0.5 for k in ("loss", "accuracy", "val_loss", "val_accuracy", "seconds")})
    assert capsys.readouterr().out.count("\n") == 1
    monkeypatch.setenv("JPY_SESSION_NAME", "a notebook")
    assert isinstance(training.progress(20)[0], training.LiveCurves)
