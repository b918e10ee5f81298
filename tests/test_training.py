"""Training: its recipe, its best epoch, and a run that was interrupted."""

import json
import zipfile
from dataclasses import replace

import keras
import numpy as np
import pytest

from bloodcell_lib import backend, codebase, dataset, files, models, protocols, records, training
from bloodcell_lib.command import runner

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
    parts = part(0, 96), part(1), part(2, shuffle_labels=shuffle_test)
    return dataset.Dataset(*parts, None, dataset.CLASSES, "quadrants", f"f{shuffle_test}", "image", False)


def recipe(**overrides) -> protocols.Protocol:
    small = {"image_size": SIZE, "epochs": 3, "batch_size": 16, "limit": 96, "learning_rate": 1e-3, "frame": "slide"}
    return protocols.get("quick", **small | overrides)


def train(out, protocol=None, set_=None, seed=0, **options):
    keras.utils.set_random_seed(seed)
    network, set_ = models.build("cnn", SIZE), set_ or data()
    return training.fit(network, set_, protocol or recipe(), seed, out, **options), set_


class Stop(keras.callbacks.Callback):
    """An interruption: before an epoch begins, or after it and before its state is written."""

    def __init__(self, epoch: int, written: bool = True):
        super().__init__()
        self.epoch, self.written = epoch, written

    def on_epoch_begin(self, epoch, logs=None):
        if self.written and epoch == self.epoch:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        if not self.written and epoch == self.epoch:
            raise KeyboardInterrupt


def interrupted(out, protocol=None, epoch=2, **options):
    with pytest.raises(KeyboardInterrupt):
        train(out, protocol, callbacks=[Stop(epoch, **options)])


def accuracy(network, part):
    return (network.predict(part.images, verbose=0).argmax(1) == part.labels).mean()


def alike(one: dict, two: dict) -> bool:
    """Whether two histories are the same, times left out."""
    return all(np.allclose(one[name], two[name], atol=1e-6) for name in one if name != "seconds")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    return *train(out, recipe(epochs=6), seed=1), out


def test_history_has_a_value_per_epoch(finished):
    run, *_ = finished
    assert set(run.history) == {f"{p}{w}" for p in ("", "val_", "test_") for w in ("loss", "accuracy")} | {"seconds"}
    assert {len(values) for values in run.history.values()} == {6}
    assert run.history["loss"][-1] < run.history["loss"][0]
    assert not run.resumed


def test_the_network_and_its_file_are_the_best_epoch_on_validation(finished):
    run, set_, _ = finished
    best = run.history["val_accuracy"][run.best_epoch - 1]
    assert best == max(run.history["val_accuracy"])
    for network in (run.network, keras.saving.load_model(run.checkpoint)):
        assert accuracy(network, set_.validation) == pytest.approx(best)
    with zipfile.ZipFile(run.checkpoint) as file:
        assert b"bloodcell" not in file.read("config.json")  # Keras alone reads it


def test_a_run_carries_its_seed_into_the_record_and_its_name(finished):
    run, set_, out = finished
    record = training.evaluate(run, set_)
    path = record.write()
    found = records.Record.read(path)
    assert path.name == f"{run.name}.json" and found.seed == 1 and run.name.endswith("-seed1")
    assert found.parameters == models.card("cnn").parameters
    assert found.test["accuracy"] == pytest.approx(run.history["test_accuracy"][run.best_epoch - 1])
    assert found.train["accuracy"] == pytest.approx(accuracy(run.network, set_.train))
    assert found.test["interval95"]["unit"] == "image" and found.test_unseen is None
    assert runner.is_trained(path, found.identity)
    assert [found.code, found.backend] == [codebase.digest("cnn"), keras.backend.backend()]
    left = sorted(file.name for file in out.iterdir() if file.name != files.LOCKS)
    assert left == [f"{run.name}.json", f"{run.name}.keras", f"{run.name}.predictions.npz"]


def test_a_run_is_not_evaluated_on_other_data(finished):
    run, *_ = finished
    with pytest.raises(ValueError, match="was trained on other data than quadrants"):
        training.evaluate(run, data(shuffle_test=True))


def test_test_is_also_measured_without_the_scenes_of_training(finished):
    run, set_, _ = finished
    scenes = np.where(np.arange(48) < 12, set_.train.scenes[:48], set_.test.scenes)
    scenes[-1] = set_.validation.scenes[5]
    record = training.evaluate(run, replace(set_, photos_known=True, test=replace(set_.test, scenes=scenes)))
    assert np.flatnonzero(record.answers["unseen"]).tolist() == list(range(12, 47))
    correct = record.answers["probabilities"].argmax(1) == set_.test.labels
    assert record.test_unseen["accuracy"] == pytest.approx(correct[12:47].mean())
    assert record.test_unseen["interval95"]["units"] == 35 and record.test["interval95"]["units"] == 48


def test_a_protocol_sets_the_momentum_of_batch_normalisation(tmp_path):
    for wanted, expected in ((0.7, 0.7), (None, 0.9)):
        network = models.build("cnn", SIZE)
        training.for_training(network, replace(recipe(), norm_momentum=wanted))
        assert {layer.momentum for layer in network.layers if hasattr(layer, "momentum")} == {expected}


def test_the_test_set_chooses_nothing(tmp_path):
    runs = [train(tmp_path / str(shuffle), set_=data(shuffle))[0] for shuffle in (False, True)]
    assert runs[0].history["test_loss"] != runs[1].history["test_loss"]
    weights = [run.network.get_weights() for run in runs]
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize(("name", "epochs"), [("cnn", 3), ("squeezenet", 6)])
def test_the_card_has_the_epochs_that_a_protocol_leaves_to_it(tmp_path, name, epochs):
    protocol = protocols.get("quick", image_size=SIZE, limit=16, batch_size=16, frame="slide")
    few = replace(data(), train=part(0, 16), validation=part(1, 16), test=part(2, 16))
    run = training.fit(models.build(name, SIZE), few, protocol, 0, tmp_path)
    assert protocol.epochs is None and {len(values) for values in run.history.values()} == {epochs}
    record = records.Record.read(training.evaluate(run, few).write())
    assert record.settings["epochs"] is None and models.card(name).passes(protocols.get("paper")) == 20


# The order of the images


class Seen(training.Batches):
    """Batches that note which images they give."""

    rows: list[list[int]] = []

    def on_epoch_begin(self):
        super().on_epoch_begin()
        self.given: list[int] = []
        if self.seed is not None:
            self.rows.append(self.given)

    def __getitem__(self, index):
        self.given += self.order[index * self.size : (index + 1) * self.size].tolist()
        return super().__getitem__(index)


def test_each_epoch_has_an_order_of_its_own_that_a_resumed_run_has_too(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Batches", Seen)
    monkeypatch.setattr(Seen, "rows", [])
    train(tmp_path / "whole")
    whole = [tuple(rows[-96:]) for rows in Seen.rows if len(rows) >= 96]
    assert len(set(whole)) == 3 and all(sorted(rows) == list(range(96)) for rows in whole)
    Seen.rows.clear()
    interrupted(tmp_path / "cut")
    train(tmp_path / "cut")
    assert [tuple(rows[-96:]) for rows in Seen.rows if len(rows) >= 96] == whole
    Seen.rows.clear()
    train(tmp_path / "other", seed=1)
    assert not set(whole) & {tuple(rows[-96:]) for rows in Seen.rows}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="traces are TensorFlow's")
def test_a_step_is_traced_once(tmp_path, monkeypatch):
    """Tracing is most of the first step: for NASNet 10 s at a time."""
    traced = []
    for name in "train_step", "test_step":
        step = getattr(training.Parallel, name)
        monkeypatch.setattr(training.Parallel, name, lambda *a, n=name, step=step: traced.append(n) or step(*a))
    train(tmp_path, recipe(batch_size=40))  # 40, 40 and 16 images
    assert sorted(traced) == ["test_step", "train_step"]


# Interrupted runs

AUGMENTED = {"augmentation": ("flip", "rotate"), "epochs": 4}


@pytest.mark.parametrize("written", [True, False], ids=["between epochs", "before the state is written"])
@pytest.mark.parametrize("overrides", [{"epochs": 4}, AUGMENTED], ids=["plain", "augmented"])
def test_a_resumed_run_is_the_undisturbed_one(tmp_path, overrides, written):
    whole, _ = train(tmp_path / "whole", recipe(**overrides))
    interrupted(tmp_path / "cut", recipe(**overrides), written=written)
    cut, set_ = train(tmp_path / "cut", recipe(**overrides))
    assert cut.resumed and not whole.resumed
    assert alike(cut.history, whole.history) and cut.best_epoch == whole.best_epoch
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(cut.network.weights, whole.network.weights, strict=True))
    assert accuracy(cut.network, set_.validation) == pytest.approx(max(cut.history["val_accuracy"]))


def test_what_is_trained_is_not_trained_again_before_its_record_is_written(tmp_path):
    first, set_ = train(tmp_path)
    again, _ = train(tmp_path)
    assert again.history == first.history and again.resumed
    training.evaluate(again, set_).write()
    assert not train(tmp_path)[0].resumed


def test_a_batch_that_was_killed_after_the_record_trains_nothing_again(tmp_path, monkeypatch):
    first, set_ = train(tmp_path)
    record = training.evaluate(first, set_).write()
    whole = record.read_text()
    monkeypatch.setenv("BLOODCELL_DONE", str(record))
    again, _ = train(tmp_path, callbacks=[Stop(0)])  # no epoch begins
    assert again.history == first.history and not again.resumed
    training.evaluate(again, set_).write()
    kept, now = (json.loads(text) for text in (whole, record.read_text()))
    assert all(kept[what] == now[what] for what in kept if what not in ("seconds", "checksum"))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, seed=1, callbacks=[Stop(0)])  # of another run it says nothing


def test_two_processes_do_not_train_the_same_run(tmp_path):
    def second(epoch, logs):
        with pytest.raises(files.BusyError, match="cnn-quick-.*another process"):
            train(tmp_path)

    run, _ = train(tmp_path, callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=second)])
    assert len(run.history["loss"]) == 3


def test_what_a_kill_left_half_written_is_removed(tmp_path):
    run, _ = train(tmp_path)
    left = [tmp_path / f".{run.name}.state.123.part.npz", tmp_path / f".{run.name}.123.part.keras"]
    for file in (*left, other := tmp_path / ".another.state.123.part.npz"):
        file.touch()
    train(tmp_path)
    assert not any(file.exists() for file in left) and other.exists()


def test_a_network_that_was_built_again_is_resumed_and_another_one_is_not(tmp_path):
    """Keras numbers the layers that have no name of their own, so a second one in a process has other names."""

    def built(width: int) -> keras.Model:
        inputs = keras.Input((*SIZE, 3))
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(width, 3)(inputs))
        return keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x), name="cnn")

    for width, resumed in ((8, True), (9, False)):
        with pytest.raises(KeyboardInterrupt):
            training.fit(built(8), data(), recipe(), out=tmp_path, callbacks=[Stop(2)])
        run = training.fit(built(width), data(), recipe(), out=tmp_path)
        assert run.resumed == resumed
        training.evaluate(run, data()).write()


@pytest.mark.parametrize("between", [{"learning_rate": 1e-6}, {"epochs": 1}, {"batch_size": 8}])
def test_another_run_in_the_folder_does_not_touch_this_one(tmp_path, between):
    interrupted(tmp_path)
    other, set_ = train(tmp_path, recipe(**between))
    training.evaluate(other, set_).write()
    mine, _ = train(tmp_path)
    assert mine.resumed and not other.resumed and mine.name != other.name
    record = training.evaluate(mine, set_)
    assert record.validation["accuracy"] == pytest.approx(max(mine.history["val_accuracy"]))
    assert record.write() != training.evaluate(other, set_).write()


@pytest.mark.parametrize("change", ["data", "code"])
def test_the_state_of_a_run_on_other_data_or_code_is_not_resumed(tmp_path, change, monkeypatch, capsys):
    interrupted(tmp_path)
    if change == "code":
        monkeypatch.setattr(codebase, "digest", lambda name: "other")
    run, _ = train(tmp_path, set_=data(change == "data"))
    assert not run.resumed and len(run.history["loss"]) == 3
    assert "cannot be resumed" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"PK cut off", 5000, 0.5, 0.999])
def test_a_damaged_state_is_said_and_training_starts_anew(tmp_path, content, capsys):
    interrupted(tmp_path)
    state = next(tmp_path.glob("*.state.npz"))
    whole = state.read_bytes()
    if isinstance(content, int):
        content = whole[:content]
    elif isinstance(content, float):  # one byte
        place = int(content * len(whole))
        content = whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :]
    state.write_bytes(content)
    run, _ = train(tmp_path)
    assert not run.resumed and len(run.history["loss"]) == 3
    assert f"{state.name}: cannot be resumed" in capsys.readouterr().out


def test_a_shape_that_was_flipped_in_a_large_array_is_noticed(tmp_path, capsys):
    """NumPy stops reading before the checksum of such an array."""
    interrupted(tmp_path)
    state = next(tmp_path.glob("*.state.npz"))
    whole = state.read_bytes()
    state.write_bytes(whole.replace(b"(3, 3, 128, 256)", b"(2, 3, 128, 256)", 1))
    assert state.read_bytes() != whole
    run, _ = train(tmp_path)
    assert not run.resumed and f"{state.name}: cannot be resumed" in capsys.readouterr().out


def test_a_loss_that_becomes_nan_is_an_error_that_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="LEARNING_RATE, which is 1e\\+30"):
        train(tmp_path, recipe(learning_rate=1e30, epochs=5))
    assert [file.name for file in tmp_path.iterdir()] == [files.LOCKS]


# Recipes


def test_random_layers_are_no_part_of_what_is_kept(tmp_path):
    run, _ = train(tmp_path, recipe(epochs=2, augmentation=("flip", "rotate")))
    best = keras.saving.load_model(run.checkpoint)
    assert best.count_params() == models.card("cnn").parameters
    assert not [layer for layer in best.layers if layer.name.startswith("random")]


def test_auxiliary_heads_add_to_the_training_loss_alone(tmp_path):
    keras.utils.set_random_seed(0)
    network = models.build("googlenet", (32, 32))
    parts = [
        dataset.Part(np.resize(p.images, (len(p), 32, 32, 3)), p.rows, p.labels, p.photos, p.paths, p.scenes)
        for p in (part(0), part(1), part(2))
    ]
    set_ = dataset.Dataset(*parts, None, dataset.CLASSES, "noise", "f", "image", False)
    protocol = recipe(image_size=(32, 32), epochs=1, learning_rate=1e-6)  # steps so small that losses compare
    run = training.fit(network, set_, protocol, out=tmp_path)
    assert run.history["loss"][0] > 1.3 * run.history["val_loss"][0]  # 1 + 0.3 + 0.3 times log 4, about
    assert run.network.count_params() == models.card("googlenet").parameters and len(run.network.outputs) == 1
    assert training.evaluate(run, set_).validation["loss"] == pytest.approx(run.history["val_loss"][0], rel=1e-3)


def test_augmentation_changes_the_images():
    keras.utils.set_random_seed(0)
    assert set(training.AUGMENTATION) == set(protocols.AUGMENTATIONS)
    for make in training.AUGMENTATION.values():
        images = part(0).images.astype("float32")
        changed = keras.ops.convert_to_numpy(make()(images, training=True))
        assert np.abs(changed - images).max() > 30 and changed.min() >= 0 and changed.max() <= 255
        assert np.array_equal(keras.ops.convert_to_numpy(make()(images, training=False)), images)


def test_stain_varies_around_what_it_is():
    """Keras' saturation takes 0.5 for unchanged, and a single number for a range from gray."""
    keras.utils.set_random_seed(0)
    images = np.full((400, 2, 2, 3), (150, 90, 170), "float32")
    changed = keras.ops.convert_to_numpy(training.AUGMENTATION["stain"]()(images, training=True))[:, 0, 0]
    assert changed.mean(0) == pytest.approx([150, 90, 170], rel=0.05)
    assert np.ptp(changed, axis=1).mean() == pytest.approx(80, rel=0.1) and np.ptp(changed, axis=1).std() > 5


def test_labels_are_smoothed_in_training_alone():
    network = models.build("cnn", SIZE)
    model = training.for_training(network, recipe(label_smoothing=0.1))
    model.compile(loss="sparse_categorical_crossentropy")
    labels, answers = np.array([0, 3]), np.array([[0.7, 0.1, 0.1, 0.1], [0.4, 0.3, 0.3, 0.0]], "float32")
    keras_own = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    wanted = keras_own(np.eye(4, dtype="float32")[labels], answers)
    assert float(model.compute_loss(None, labels, answers, training=True)) == pytest.approx(float(wanted), rel=1e-5)
    plain = keras.losses.SparseCategoricalCrossentropy()(labels, answers)
    assert float(model.compute_loss(None, labels, answers, training=False)) == pytest.approx(float(plain), rel=1e-5)


def test_only_kernels_decay():
    network = models.build("cnn", SIZE)
    protocol = recipe(weight_decay=0.5, learning_rate=0.1, schedule="constant")
    optimizer = training.optimizer(network, protocol, 96)
    optimizer.build(network.trainable_variables)
    before = [keras.ops.convert_to_numpy(variable) for variable in network.trainable_variables]
    optimizer.apply([keras.ops.zeros_like(variable) for variable in network.trainable_variables])
    for old, variable in zip(before, network.trainable_variables, strict=True):
        share = 0.95 if variable.name == "kernel" else 1.0  # 1 - 0.1 * 0.5
        assert np.allclose(share * old, keras.ops.convert_to_numpy(variable), atol=1e-7), variable.path


def test_a_warm_up_rises_in_the_first_epoch():
    protocol = recipe(schedule="warmup", epochs=7)
    rate = training.optimizer(models.build("cnn", SIZE), protocol, 96)._learning_rate
    shares = [float(rate(step)) / protocol.learning_rate for step in (0, 3, 6, 24, 42)]
    assert shares == pytest.approx([0, 0.5, 1, 0.5, 0], abs=1e-6)


@pytest.mark.parametrize(("images", "steps", "top"), [(96, 6, 1), (192, 12, 2), (16, 1, 0)])
def test_a_warm_up_is_a_sixth_of_few_steps(images, steps, top):
    protocol = recipe(schedule="warmup", epochs=1)
    rate = training.optimizer(models.build("cnn", SIZE), protocol, images)._learning_rate
    assert float(rate(top)) == pytest.approx(protocol.learning_rate) and float(rate(steps)) == pytest.approx(
        0, abs=1e-9
    )


def test_published_weights_move_at_a_tenth_of_the_rate_of_the_new_head():
    network = models.build("cnn", SIZE)  # any network will do
    protocol = recipe(weights="imagenet", learning_rate=1e-3, schedule="constant")
    network.compile(training.optimizer(network, protocol, 96), "sparse_categorical_crossentropy")
    before = {v.path: keras.ops.convert_to_numpy(v) for v in network.trainable_variables}
    network.fit(part(0).images, part(0).labels, batch_size=48, verbose=0)  # Adam's first step is the rate itself
    moved = {v.path: np.abs(keras.ops.convert_to_numpy(v) - before[v.path]).max() for v in network.trainable_variables}
    head = {v.path for v in models.head(network)}
    assert len(head) == 2 and all(moved[path] == pytest.approx(1e-3, rel=0.05) for path in head)
    assert all(moved[path] == pytest.approx(1e-4, rel=0.05) for path in moved.keys() - head)


def test_classes_must_match(tmp_path):
    with pytest.raises(ValueError, match="num_classes=4"):
        training.fit(models.build("cnn", SIZE, num_classes=3), data(), recipe(), out=tmp_path)


@pytest.mark.parametrize(
    ("overrides", "seed", "culprit"),
    [
        ({"split": "photo"}, 0, "split='image', not 'photo'"),  # leaked validation would be called grouped
        ({"image_size": (24, 33)}, 0, r"image_size=\(24, 32\), not \(24, 33\)"),
        ({"limit": 48}, 0, "96 images in a part, not limit=48"),
        ({}, 1, "seed=0, not 1"),
    ],
)
def test_data_that_the_protocol_does_not_describe_are_refused(tmp_path, overrides, seed, culprit):
    with pytest.raises(ValueError, match=f"quadrants was loaded with {culprit}.*protocol.data"):
        train(tmp_path, recipe(**overrides), replace(data(), seed=0, frame="slide"), seed=seed)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("loaded", "wanted"), [(96, 320), (8, 96)])
def test_a_part_of_the_data_is_not_recorded_as_the_whole(tmp_path, loaded, wanted):
    with pytest.raises(ValueError, match=f"quadrants was loaded with limit={loaded}, not {wanted}"):
        train(tmp_path, recipe(limit=wanted), replace(data(), seed=0, limit=loaded))


@pytest.mark.parametrize(("changed", "culprit"), [({"seed": 0}, "seed=0, not 1"), ({"frame": "cell"}, "other data")])
def test_a_run_is_not_evaluated_on_other_parts_of_its_data(finished, changed, culprit):
    run, set_, _ = finished
    with pytest.raises(ValueError, match=culprit):
        training.evaluate(run, replace(set_, **changed))


def test_a_run_is_named_after_the_frame_of_its_data_and_says_so(tmp_path, capsys):
    run, _ = train(tmp_path, recipe(frame="cell", epochs=1), replace(data(), frame="slide"))
    assert run.protocol.frame == "slide" and "-frame=slide-" in run.name
    assert "was loaded with frame='slide': the run is named after it" in capsys.readouterr().out


def test_wrong_arithmetic_is_noticed(monkeypatch):
    backend.check_arithmetic()
    monkeypatch.setattr(keras.ops, "conv", lambda image, kernel: np.zeros((1, 7, 7, 8)))
    with pytest.raises(RuntimeError, match="wrongly"):
        backend.check_arithmetic()


# The code that training depends on


CODE = '''"""A module."""

@register(Card(name="a", notes="A text."))
def build(x):
    """Build."""
    if x < 0:
        raise ValueError("a text")
    return conv(x, 64, how='constant')  # a comment
'''


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("A module.", "Another sentence.", False),
        ("A text.", "Another text.", False),
        ("'constant'", "'warmup'", True),
        ('"a text"', '"another text"', False),
        ("# a comment", "# another", False),
        ("64", "65", True),
        ("x < 0", "x < 1", True),
    ],
)
def test_texts_do_not_count_as_code(old, new, counts):
    assert old in CODE
    assert (codebase.digest_of(CODE) != codebase.digest_of(CODE.replace(old, new))) == counts


def test_each_network_has_a_digest_of_its_own():
    assert len({codebase.digest(name) for name in models.names()}) == len(models.names())
    assert json.dumps(codebase.revision())
