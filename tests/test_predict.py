"""Images of one's own, shown to a trained network; and what its file says of itself."""

import shutil
import zipfile

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import make_set, picture, zipped
from PIL import Image
from test_training import SIZE, recipe, train

from bloodcell_lib import files, images, training
from bloodcell_lib.command import cli, predict
from bloodcell_lib.models import ood, saved


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network that was trained and evaluated, and the set."""
    run, set_ = train(tmp_path_factory.mktemp("run"), recipe(epochs=6))
    training.evaluate(run, set_).write()
    return run, set_


@pytest.fixture
def cells(trained, tmp_path):
    """Test images of the set as files."""
    folder = tmp_path / "cells"
    folder.mkdir()
    for row, pixels in enumerate(trained[1].test.images[:8]):
        Image.fromarray(pixels).save(folder / f"{row}.png")
    return folder


def asked(capsys, *arguments) -> tuple[int, str, str]:
    return cli.main(["predict", *map(str, arguments)]), *capsys.readouterr()


def test_the_file_is_enough_by_itself(trained, cells, tmp_path, capsys):
    run, set_ = trained
    alone = shutil.copy(run.checkpoint, tmp_path / "alone.keras")
    status, said, _ = asked(capsys, cells, "--model", alone, "--out", tmp_path / "answers.csv")
    table = pd.read_csv(tmp_path / "answers.csv")
    assert status == 0 and [*table.image] == [str(cells / f"{row}.png") for row in range(8)]
    expected = keras.saving.load_model(run.checkpoint).predict(set_.test.images[:8], verbose=0)
    assert table[list(set_.classes)].to_numpy() == pytest.approx(expected, abs=1e-5)
    assert [*table["class"]] == [set_.classes[n] for n in expected.argmax(1)]
    assert table.probability.to_numpy() == pytest.approx(expected.max(1), abs=1e-5)
    accuracy = 100 * training.evaluate(run, set_).test["accuracy"]
    assert f"right for {accuracy:.1f} [" in said and said.count("Not for diagnosis") == 1


def test_the_file_names_its_run_also_before_it_is_evaluated(tmp_path):
    run, set_ = train(tmp_path, recipe(epochs=1))
    found = saved.load(run.checkpoint)
    assert (found.about["name"], found.classes, found.typical) == (run.name, list(set_.classes), None)
    assert "not evaluated" in predict.worth(found)
    table = predict.ask(found, set_.test.images[:2], ["a", "b"])
    assert table.distance.isna().all() and "not known" in predict.unusual(found, table)


def test_files_folder_pattern_and_zip_agree(trained, cells, tmp_path, capsys):
    ways = [cells.glob("*.png"), [cells], [cells / "*.png"], [zipped(cells, tmp_path / "cells.zip")]]
    tables = []
    for place, way in enumerate(ways):
        out = tmp_path / f"{place}.csv"
        assert asked(capsys, *sorted(way), "--model", trained[0].checkpoint, "--out", out)[0] == 0
        tables.append(pd.read_csv(out).drop(columns="image"))
    assert all(table.equals(tables[0]) for table in tables)


def test_a_file_that_is_meant_twice_is_asked_once(cells, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(cells)
    found, _ = predict.find(["cells/3.png", str(cells), "link/*.png", "cells"])
    others = (row for row in range(8) if row != 3)
    assert [*found] == ["cells/3.png", *(str(cells / f"{row}.png") for row in others)]
    assert all(read() == (tmp_path / place).read_bytes() for place, read in found.items())


def test_the_home_folder_is_expanded_in_patterns_too(cells, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    every = [str(cells / f"{row}.png") for row in range(8)]
    assert [*predict.find(["~/cells/*.png"])[0]] == [*predict.find(["~/cells"])[0]] == every
    assert [*predict.find(["~/cells/1.png"])[0]] == every[1:2]


def test_a_class_may_be_called_as_a_column(trained):
    found = saved.load(trained[0].checkpoint)
    pixels, classes = trained[1].test.images[:2], found.classes
    expected = predict.ask(found, pixels, ["a", "b"])
    found.about["classes"] = [*predict.OWN[:2], *classes[2:]]
    table = predict.ask(found, pixels, ["a", "b"])
    renamed = dict(zip(classes, found.classes, strict=True))
    assert [*table.image] == ["a", "b"] and [*table["class"]] == [*expected["class"].map(renamed)]
    assert [*map(predict.column, found.classes)] == ["probability of image", "probability of class", *classes[2:]]
    assert np.array_equal(table[[*map(predict.column, found.classes)]], expected[classes])


def test_every_file_is_answered_or_named(trained, cells, tmp_path, capsys):
    (cells / "broken.png").write_bytes((cells / "0.png").read_bytes()[:60])
    (cells / "notes.txt").write_text("no image")
    out = tmp_path / "answers.csv"
    status, _, errors = asked(capsys, cells, "--model", trained[0].checkpoint, "--out", out)
    assert status == 1 and len(pd.read_csv(out)) == 8
    assert "broken.png: not an image that can be read" in errors and "notes.txt" in errors


def test_a_run_is_found_by_network_record_or_name(trained, tmp_path, monkeypatch):
    path = trained[0].checkpoint
    monkeypatch.setattr(files, "out_dir", lambda out=None: path.parent)
    for run in (path, path.with_suffix(".json"), path.stem, f"{path.stem}.keras"):
        assert saved.find(str(run)) == path
    with pytest.raises(ValueError, match=f"^lenet: no trained network is there, nor in .*Choose one of: {path.stem}"):
        saved.find("lenet")
    for run, named in ((".", r"\."), ("", "''"), ("/", "/")):
        with pytest.raises(ValueError, match=f"^{named}: no trained network is there.*Choose one of: {path.stem}"):
            saved.find(run)


def test_what_cannot_be_asked_is_one_sentence(trained, cells, tmp_path, capsys, monkeypatch):
    model, folder = trained[0].checkpoint, tmp_path / "x.csv"
    folder.mkdir()
    monkeypatch.setattr(predict, "ask_all", lambda *_: pytest.fail("it was asked"))
    for arguments, culprit in (
        ((cells / "no.png", "--model", model), "no.png: no such file"),
        ((cells, "--model", tmp_path / "none"), "none: no trained network is there"),
        ((cells, "--model", cells / "0.png"), "0.png: no trained network is there"),
        ((cells, "--model", model, "--out", "cells.txt"), "--out cells.txt is no name of a .csv file"),
        ((cells, "--model", model, "--cam", "cam.jpg"), "--cam cam.jpg is no name of a .png file"),
        ((cells, "--model", model, "--out", tmp_path / "no/x.csv"), "no is no folder that can be written"),
        ((cells, "--model", model, "--cam", tmp_path / "no/x.png"), "no is no folder that can be written"),
        ((cells, "--model", model, "--out", folder), "x.csv is a folder"),
    ):
        status, said, errors = asked(capsys, *arguments)
        assert (status, said) == (2, "") and culprit in errors and errors.count("\n") == 1


def test_a_file_that_names_no_classes_is_refused(trained, tmp_path):
    other = tmp_path / "other.keras"
    trained[0].network.save(other)
    with pytest.raises(ValueError, match="does not name its classes"):
        saved.load(other)
    other.write_bytes(trained[0].checkpoint.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a trained network"):
        saved.load(other)


def test_completing_a_file_keeps_the_network(trained, tmp_path, monkeypatch):
    run, set_ = trained
    before = zipfile.ZipFile(run.checkpoint).read("model.weights.h5")
    training.evaluate(run, set_)
    with zipfile.ZipFile(run.checkpoint) as file:
        assert file.read("model.weights.h5") == before
        assert sorted(file.namelist()) == sorted(set(file.namelist())) and saved.TYPICAL in file.namelist()
    whole = run.checkpoint.read_bytes()
    monkeypatch.setattr(np, "savez", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        training.evaluate(run, set_)
    assert run.checkpoint.read_bytes() == whole


def test_unlike_images_are_told(trained):
    run, set_ = trained
    found = saved.load(run.checkpoint)

    def distance(pixels):
        return found.typical.distance(found.with_features.predict(pixels, verbose=0)[1])

    usual = distance(set_.test.images)
    assert np.mean(usual > 1) == pytest.approx(float(found.typical.false_alarms)) and np.mean(usual > 1) < 0.2
    assert np.mean(distance(set_.validation.images) > 1) == pytest.approx(1 - ood.QUANTILE, abs=0.03)
    for strange in (255 - set_.test.images, np.zeros((2, *SIZE, 3), np.uint8), np.full((2, *SIZE, 3), 255, np.uint8)):
        assert (distance(strange) > 1).all()
    table = predict.ask(found, np.array([set_.test.images[usual.argmin()], 255 - set_.test.images[0]]), ["a", "b"])
    assert [*table[predict.UNUSUAL]] == [False, True]
    assert predict.unusual(found, table).startswith("1 of 2 are unlike the training images")


def test_the_window_is_cut_as_in_training(trained, tmp_path):
    found, place = saved.load(trained[0].checkpoint), tmp_path / "cell.png"
    picture(3, (64, 48)).save(place)
    for frame in ("slide", "cell"):
        found.about["settings"]["frame"] = frame
        answers = predict.ask_all(found, predict.find([str(place)])[0])
        assert np.array_equal(answers.pixels[0], images.read(place.read_bytes(), "", SIZE, frame=frame))


def test_the_figure_shows_what_was_looked_at(trained, cells, tmp_path, capsys):
    cam = tmp_path / "cam.png"
    status, said, _ = asked(capsys, cells, "--model", trained[0].checkpoint, "--cam", cam)
    assert status == 0 and f"written: {cam}, the first 8 of 8 images" in said
    assert np.asarray(Image.open(cam).convert("RGB")).std() > 10


def test_batches_and_long_lists(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(predict, "BATCH", 3)
    monkeypatch.setattr(predict, "LISTED", 5)
    monkeypatch.setattr(predict, "SHOWN", 4)
    folder = make_set(tmp_path / "many", each=1)
    out, cam = tmp_path / "a.csv", tmp_path / "cam.png"
    status, said, _ = asked(capsys, folder, "--model", trained[0].checkpoint, "--out", out, "--cam", cam)
    assert status == 0 and len(pd.read_csv(out)) == 8 and "and 3 more" in said and "the first 4 of 8" in said
