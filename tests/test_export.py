"""Networks in other formats: the same probabilities, all files or none, and a card that says what was measured."""

import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from conftest import make_set
from made import PHOTOS, record

from bloodcell_lib import dataset, files, metrics, models, protocols, records, training
from bloodcell_lib.command import cli, export, modelcard

SIZE = (16, 20)
READS = Path(__file__).parents[1] / "results"
tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="networks are exported by TensorFlow")


def trained(folder: Path, **changed) -> records.Record:
    """A run of one epoch on a small set, which lies beside it."""
    if not (data := folder / "own").exists():
        make_set(data)
    protocol = protocols.get("quick", image_size=SIZE, epochs=1, batch_size=16, frame="slide", **changed)
    found = dataset.load(data, **protocol.data)
    keras.utils.set_random_seed(0)
    run = training.fit(models.build("cnn", SIZE), found, protocol, 0, folder / "runs", callbacks=[])
    made = training.evaluate(run, found)
    made.write()
    return made


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOODCELL_CACHE", str(tmp_path_factory.mktemp("decoded")))
        folder = tmp_path_factory.mktemp("trained")
        trained(folder)
        yield folder


@pytest.fixture
def folder(kept, tmp_path):
    """A copy of a finished run and of its set, to work on."""
    return shutil.copytree(kept, tmp_path / "copy")


@pytest.fixture
def path(folder):
    return next((folder / "runs").glob("*.json"))


def needs(name: str) -> None:
    for package in export.FORMATS[name].packages:
        pytest.importorskip(package.replace("-", "_"), reason=f"pip install {package}")


def listed(folder: Path) -> set[str]:
    return {item.name for item in folder.iterdir() if item.name != files.LOCKS}


@tensorflow
@pytest.mark.parametrize("pixels", ["float32", "uint8"])
@pytest.mark.parametrize("name", export.FORMATS)
def test_a_format_answers_as_keras_for_any_number_of_images(folder, path, name, pixels):
    needs(name)
    made = export.export(str(path), [name], str(folder / "own"), str(folder / "new"), pixels)
    (file, off), (about, none) = made.items()
    assert off <= export.LIMIT and none is None and listed(folder / "new") == {file.name, about.name}
    images = np.random.default_rng(0).integers(0, 256, (70, *SIZE, 3), np.uint8)
    expected = keras.saving.load_model(path.with_suffix(".keras")).predict(images, verbose=0)
    predict = export.FORMATS[name].load(str(file))
    for count in (1, 3, 70):
        assert np.abs(predict(images[:count].astype(pixels)) - expected[:count]).max() < 1e-5
    assert f"`pixels`, {pixels}," in about.read_text() and f"{off:.1e}" in about.read_text()


@tensorflow
@pytest.mark.parametrize("name", export.FORMATS)
def test_maps_are_resized_by_any_factor(tmp_path, name):
    needs(name)
    pixels = keras.Input((25, 25, 3), name="pixels")
    sides = {side: 2 * side - 1 for side in range(2, 14)}
    maps = [keras.ops.image.resize(pixels[:, :low, :low], (high, high)) for low, high in sides.items()]
    sums = [
        keras.layers.Add()([each, pixels[:, :high, :high]]) for each, high in zip(maps, sides.values(), strict=True)
    ]
    means = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling2D()(each) for each in sums])
    network = keras.Model(pixels, keras.layers.Softmax()(means / 99))
    images = np.random.default_rng(0).integers(0, 256, (5, 25, 25, 3)).astype("float32")
    path = tmp_path / f"it{export.FORMATS[name].suffix}"
    export._write(network, export.FORMATS[name], path, "float32")
    assert export._difference(network, export.FORMATS[name], path, images, network.predict(images)) < 1e-5


@tensorflow
def test_a_folder_that_cannot_be_made_is_one_line(folder, path, capsys, monkeypatch):
    needs("onnx")
    (folder / "file").touch()
    given = ("--to", "onnx", "--data", str(folder / "own"), "--out", str(folder / "file/x"))
    assert cli.main(["export", str(path), *given]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith(f"bloodcell: {folder / 'file/x'}: Not a directory. Check")


@tensorflow
def test_several_formats_by_the_command(folder, path, capsys, monkeypatch):
    monkeypatch.setattr(files, "out_dir", lambda out=None: folder / "runs")
    for name in ("onnx", "litert"):
        needs(name)
    to = [word for name in export.FORMATS for word in ("--to", name)]
    assert cli.main(["export", path.stem, *to, "--data", str(folder / "own")]) == 0
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert [Path(line.split(": ")[0]).name for line in lines] == [
        f"{path.stem}{end}" for end in (".onnx", ".tflite", ".savedmodel", ".md")
    ]
    assert all((path.parent / Path(line.split(": ")[0]).name).exists() for line in lines)


@tensorflow
def test_what_differs_from_keras_is_an_error_and_leaves_no_file(folder, path, monkeypatch):
    before = listed(folder / "runs")
    good = export.FORMATS["savedmodel"]
    wrong = export.Format("Wrong", good.keras, ".wrong", (), lambda path: lambda x: good.load(path)(x) + 0.002)
    silent = export.Format("Silent", good.keras, ".silent", (), lambda path: lambda x: good.load(path)(x) * np.nan)
    for name, form in {"wrong": wrong, "silent": silent}.items():
        monkeypatch.setitem(export.FORMATS, name, form)
        with pytest.raises(ValueError, match=f"^cnn as {form.title}: a probability differs .* (0.002|nan), not 0.001"):
            export.export(str(path), ["savedmodel", name], str(folder / "own"))
        assert listed(folder / "runs") == before, "also what was sound is not left alone"


@tensorflow
@pytest.mark.parametrize(
    ("form", "error"),
    [
        (export.Format("None", "no_format", ".none", (), lambda path: None), "cannot be written as None .*no_format"),
        (export.Format("Deaf", "tf_saved_model", ".deaf", (), lambda path: 1 / 0), "Deaf does not run .*ZeroDivision"),
    ],
)
def test_a_format_that_fails_is_one_error_and_leaves_no_file(folder, path, monkeypatch, form, error):
    before = listed(folder / "runs")
    monkeypatch.setitem(export.FORMATS, "it", form)
    with pytest.raises(ValueError, match=f"^cnn .*{error}.* Nothing was written"):
        export.export(str(path), ["it"], str(folder / "own"))
    assert listed(folder / "runs") == before


@tensorflow
def test_an_export_replaces_an_earlier_one(folder, path):
    first = next(iter(export.export(str(path), ["savedmodel"], str(folder / "own"))))
    (first / "old").touch()
    assert next(iter(export.export(str(path.with_suffix(".keras")), ["savedmodel"], str(folder / "own")))) == first
    assert (first / "saved_model.pb").exists() and not (first / "old").exists()


@tensorflow
def test_a_run_in_half_precision_is_exported_in_full(tmp_path, cache):
    made = trained(tmp_path, precision="mixed_bfloat16")
    about = list(export.export(str(made.path), ["savedmodel"], str(tmp_path / "own")))[-1]
    assert "trained in mixed_bfloat16; these files compute in float32" in about.read_text()


@tensorflow
def test_network_and_data_must_be_those_of_the_record(folder, path):
    network = path.with_suffix(".keras")
    with pytest.raises(ValueError, match=r"was tested on own \(fingerprint .*\), and these data are other .*--data"):
        export.export(str(path), ["savedmodel"], str(make_set(folder / "other", each=11)))
    keras.utils.set_random_seed(7)
    other = models.build("cnn", SIZE)
    other.layers[-1].set_weights([10 * weight for weight in other.layers[-1].get_weights()])
    other.save(network)
    with pytest.raises(records.RecordError, match=rf"{re.escape(str(network))}: not the network of its record"):
        export.export(str(path), ["savedmodel"], str(folder / "own"))
    network.write_bytes(network.read_bytes()[:-500])
    with pytest.raises(records.RecordError, match="not a readable network"):
        export.export(str(path), ["savedmodel"], str(folder / "own"))
    assert not list(path.parent.glob("*.savedmodel"))


def test_what_cannot_work_is_said_before_anything_is_read(monkeypatch, capsys):
    monkeypatch.setattr(export.keras.backend, "backend", lambda: "jax")
    assert cli.main(["export", "nothing", "--to", "onnx"]) == 2
    assert "KERAS_BACKEND is jax. Repeat this with KERAS_BACKEND=tensorflow" in capsys.readouterr().err
    monkeypatch.setattr(export.keras.backend, "backend", lambda: "tensorflow")
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert cli.main(["export", "nothing", "--to", "onnx", "--to", "litert"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("needs what is not installed: pip install tf2onnx onnxruntime ai-edge-litert")
    with pytest.raises(ValueError, match="no format is named coreml. Choose from: onnx, litert, savedmodel"):
        export.export("nothing", ["coreml"])


def test_the_command_offers_every_format(capsys):
    with pytest.raises(SystemExit):
        cli.main(["export", "--help"])
    assert f"{{{','.join(export.FORMATS)}}}" in capsys.readouterr().out


def parsed(text: str) -> tuple[dict, str]:
    """Front matter and body, divided as Hugging Face does."""
    head, body = re.fullmatch(r"\s*---\n(.*?)\n---\n(.*)", text, re.DOTALL).groups()
    return yaml.safe_load(head), body


MADE = {"onnx": ("it.onnx", 2e-7)}


def test_the_front_matter_has_the_form_that_hugging_face_reads(tmp_path):
    run = record(tmp_path)
    head, _ = parsed(modelcard.text(run, MADE, "float32"))
    assert head["license"] == "mit" and head["library_name"] == "keras" and "onnx" in head["tags"]
    assert head["pipeline_tag"] == "image-classification"
    (index,) = head["model-index"]
    assert index["name"] == run.name and [each["dataset"]["split"] for each in index["results"]] == [
        "validation",
        "test",
    ]
    for each, part in zip(index["results"], (run.validation, run.test), strict=True):
        assert each["task"]["type"] == "image-classification" and each["dataset"].keys() >= {"type", "name"}
        found = {metric["type"]: metric for metric in each["metrics"]}
        assert found["accuracy"]["value"] == part["accuracy"] and found["f1"]["value"] == part["macro"]["f1"]
        assert found["accuracy"]["args"] == {
            "interval95": part["interval95"]["accuracy"],
            "unit": "photo",
            "units": part["interval95"]["units"],
        }


def test_the_card_says_what_was_measured_and_what_not(tmp_path):
    run = record(tmp_path, dataset=record(tmp_path).dataset | {"name": "mine"})
    _, body = parsed(modelcard.text(run, MADE, "uint8"))
    test = run.test
    assert "**Not for diagnosis.**" in body and "| `it.onnx` | 2.0e-07" in body
    assert "0 EOSINOPHIL, 1 LYMPHOCYTE, 2 MONOCYTE, 3 NEUTROPHIL" in body
    assert "`pixels`, uint8, (images, 75, 75, 3): RGB from 0 to 255" in body and "window around the white cell" in body
    assert metrics.format_interval(test["accuracy"], test["interval95"]["accuracy"]) in body
    recall = metrics.format_interval(test["per_class"]["recall"][0], test["interval95"]["per_class"]["recall"][0])
    assert re.search(rf"\| EOSINOPHIL +\|.*\| {re.escape(recall)} ", body)
    assert f"Behind the 40 test images are {len(set(PHOTOS))} photographs" in body and "They count photographs" in body
    assert "drawn by a program" not in body and "Images: not known" in body
    assert "learning_rate 0.001;" in body, "that of the network's card, where the protocol has none"


def test_the_card_of_a_run_on_the_sample_and_of_images_without_photographs(tmp_path):
    run = record(tmp_path, dataset=record(tmp_path).dataset | {"name": "sample"}, protocol=protocols.get("paper"))
    body = modelcard.text(run, MADE, "float32")
    assert "say nothing about blood" in body.split("## Limits")[1] and "The whole image is scaled" in body
    by_image = record(tmp_path)
    for part in (by_image.validation, by_image.test):
        part["interval95"]["unit"] = "image"
    body = modelcard.text(by_image, MADE, "float32")
    assert "They count images, because" in body and "Behind the" not in body and "| photographs" not in body


def test_every_measured_run_makes_a_card():
    for run in records.read_all(READS):
        head, body = parsed(modelcard.text(run, {}, "float32"))
        assert head["model-index"][0]["name"] == run.name and "no licence found" in body and "{" not in body
