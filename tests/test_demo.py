"""The page on which networks are asked: what it shows, what it refuses; and itself, in a browser."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import make_set
from PIL import Image
from test_training import SIZE, part, recipe, train

from bloodcell_lib import dataset, training
from bloodcell_lib.command import cli, demo, predict
from bloodcell_lib.models import saved

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, session_cache):
    """A folder of runs with one network, and the set that it was trained on."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOODCELL_CACHE", str(session_cache))
        set_ = dataset.load(make_set(folder / "cells"), SIZE, limit=96)
        run, _ = train(folder / "runs", recipe(epochs=2), set_)
        training.evaluate(run, set_).write()
    return run.checkpoint, set_, str(folder / "cells")


@pytest.fixture
def about(trained):
    return saved.load(trained[0])


def older(trained, folder: Path) -> Path:
    """A network as it was written before files named their classes."""
    saved.load(trained[0]).network.save(folder / "cnn-older-seed0.keras")
    return folder


def test_networks_that_cannot_be_asked_are_named(trained, tmp_path):
    shutil.copy(trained[0], older(trained, tmp_path) / "cnn.keras")
    (tmp_path / ".cnn.1.part.keras").write_text("half written")
    found, left_out = demo.networks(tmp_path)
    assert found == {"cnn": tmp_path / "cnn.keras"}
    assert "cnn-older-seed0. Run these models again" in left_out


def test_what_cannot_be_served_is_one_sentence(trained, tmp_path, capsys):
    (empty := tmp_path / "empty").mkdir()
    for arguments, culprit in (
        (["--models", empty], f"no trained network in {empty}. Train one with: bloodcell run cnn"),
        (["--models", older(trained, tmp_path)], "cnn-older-seed0. Run these models again"),
        (["--models", trained[0].parent, "--data", tmp_path / "none"], "none"),
    ):
        assert cli.main(["demo", *map(str, arguments)]) == 2
        errors = capsys.readouterr().err
        assert culprit in errors and errors.count("\n") == 1


def test_without_gradio_the_page_says_how_to_install_it(trained, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli.main(["demo", "--models", str(trained[0].parent)]) == 2
    assert "pip install 'gradio>=6'" in capsys.readouterr().err


def test_a_bad_file_is_a_sentence_without_its_folder(about, tmp_path):
    (bad := tmp_path / "bad.png").write_text("no image")
    with pytest.raises(ValueError, match="^bad.png: not an image that can be read") as error:
        demo.ask(about, bad)
    assert str(tmp_path) not in str(error.value)
    with pytest.raises(ValueError, match="^cut.keras: not a trained network"):
        demo.network(shutil.copy(bad, tmp_path / "cut.keras"))


def test_the_nearest_are_training_images_one_per_photograph():
    shown = part(0, 12)
    photos = np.repeat(["a", "b", "c", "d"], 3)
    shown = dataset.Part(shown.images, shown.rows, shown.labels, photos, shown.paths, shown.scenes)
    angles = np.deg2rad(np.arange(12) * 7)
    known = demo.Neighbours(shown, ["w", "x", "y", "z"], np.stack([np.cos(angles), np.sin(angles)], 1))
    found = known.nearest(3 * known.features[4:5])
    assert [cosine for *_, cosine in found] == pytest.approx(np.cos(np.deg2rad([0, 14, 14, 35])))
    rows = [[np.array_equal(pixels, image) for image in shown.images].index(True) for pixels, *_ in found]
    assert rows[0] == 4 and {*rows[1:3]} == {2, 6} and rows[3] == 9
    assert [label for _, label, _ in found] == [known.classes[shown.labels[row]] for row in rows]


def test_the_features_are_of_the_runs_own_training_part_and_computed_once(trained, about, monkeypatch):
    path, set_, data = trained
    known = demo.neighbours(path, data)
    assert [*known.part.paths] == [*set_.train.paths]
    assert known.features == pytest.approx(about.embedding.predict(set_.train.images, verbose=0), abs=1e-5)
    (pixels, label, cosine), *_ = known.nearest(demo.features(about, set_.train.images[3:4]))
    assert np.array_equal(pixels, set_.train.images[3]) and cosine == pytest.approx(1)
    assert label == set_.classes[set_.train.labels[3]]
    monkeypatch.setattr(dataset, "load", None)
    assert demo.neighbours(path, data) is known


def test_other_data_and_unknown_data_are_refused(trained, tmp_path):
    other = make_set(tmp_path / "other", each=4)
    with pytest.raises(ValueError, match="was trained on cells, which is not at hand"):
        demo.neighbours(trained[0], str(other))
    run, _ = train(tmp_path, recipe(epochs=1))
    with pytest.raises(ValueError, match="not evaluated"):
        demo.neighbours(run.checkpoint, None)


def test_drawn_examples_are_one_of_each_class_and_none_of_the_sample(tmp_path):
    made = demo.examples(tmp_path)
    assert [*made] == list(dataset.CLASSES)
    assert all(np.asarray(Image.open(path)).shape == (240, 320, 3) for path in made.values())


def test_names_of_files_are_no_markup(about, tmp_path):
    assert "&lt;b&gt;" in demo.said("<b>", "alert") and "<b>" not in demo.pictured("<b>", [(b"", '"<b>', "<b>")])
    odd = tmp_path / "5$ or $\\frac$.png"  # not a formula
    Image.fromarray(part(0).images[0]).save(odd)
    assert '<img alt="' in demo.looked_at(about, demo.ask(about, odd))


def test_a_port_that_is_taken_is_said(trained, monkeypatch):
    pytest.importorskip("gradio", reason="gradio is missing: the extra `browser` has it")
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(demo, "examples", lambda folder: {})
    with socket.create_server((demo.HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} is taken"):
            demo.serve(trained[0].parent, trained[2], port)
    with pytest.raises(SystemExit):
        cli.main(["demo", "--port", "65536"])


@pytest.fixture
def served(trained, tmp_path, cache):
    """The address of the page, served as a user does it; at the end nothing of it is left."""
    pytest.importorskip("gradio", reason="gradio is missing: the extra `browser` has it")
    (temporary := tmp_path / "temporary").mkdir()
    env = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), "HTTP_PROXY": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "bloodcell_lib", "demo", "--models", trained[0].parent, "--data", trained[2]]
    log, pipe = tmp_path / "log", subprocess.PIPE
    with open(log, "w") as errors, subprocess.Popen(command, env=env, stdout=pipe, stderr=errors, text=True) as page:
        try:
            line = page.stdout.readline()
            assert "http" in line, log.read_text()
            yield re.search(r"http://127\.0\.0\.1:\d+/", line)[0]
        finally:
            page.send_signal(signal.SIGTERM)
        assert page.wait(60) == 0 and not any(temporary.glob("bloodcell-*"))
        assert "Traceback" not in log.read_text()


@pytest.mark.browser
def test_the_page_answers_and_refuses_and_asks_nobody_else(served, browser, trained, about, tmp_path):
    requests, faults = [], []
    browser.on("request", lambda request: requests.append(request.url))
    browser.on("pageerror", lambda error: faults.append(str(error)))
    browser.goto(served)
    browser.get_by_text("Not for diagnosis").wait_for()
    assert browser.get_by_text("Not for diagnosis").count() == 1
    assert predict.worth(about).splitlines()[0] in browser.locator("body").inner_text()
    upload = browser.locator("input[type=file]")

    Image.fromarray(trained[1].test.images[0]).save(cell := tmp_path / "cell.png")
    upload.set_input_files(cell)
    browser.get_by_text(demo.READ).wait_for()
    row = demo.ask(about, cell).table.iloc[0]
    shown = browser.locator("body").inner_text()
    assert re.search(rf"{row['class']}\s+{100 * row.probability:.0f}%", shown)
    images = browser.get_by_role("img", name="training image")
    assert images.count() == demo.NEAREST and all(images.nth(n).evaluate("i => i.naturalWidth > 0") for n in range(6))

    (bad := tmp_path / "bad.png").write_text("no image")
    browser.get_by_label("Clear").click()
    upload.set_input_files(bad)
    browser.get_by_role("alert").filter(has_text="bad.png: not an image that can be read").wait_for()
    assert not browser.get_by_text(demo.READ).is_visible()
    assert str(tmp_path) not in browser.locator("body").inner_text()

    (large := tmp_path / "large.png").write_bytes(cell.read_bytes() + bytes(demo.MAX_BYTES))
    browser.get_by_label("Clear").click()
    upload.set_input_files(large)
    browser.get_by_text("exceed the maximum allowed size").wait_for()

    browser.get_by_role("button", name="monocyte").first.focus()
    browser.keyboard.press("Enter")
    browser.get_by_text(demo.READ).wait_for()
    assert not faults and requests
    assert [url for url in requests if not url.startswith((served, "data:", "blob:"))] == []
