"""The command line and batches of notebooks."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from bloodcell_lib import files, protocols
from bloodcell_lib.backend import keras
from bloodcell_lib.command import cli, runner

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}
PARAMETERS = "PROTOCOL, DATA, SEED, OUT = 'quick', None, 0, None"


def notebook(path: Path, *cells: str) -> None:
    first = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[first, *map(new_code_cell, cells)], metadata=KERNEL), path)


@pytest.fixture
def shelf(tmp_path, monkeypatch, own_folder):
    """Three small notebooks, the second of which fails."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    notebook(folder / "00_good.ipynb", "print(SEED, OUT)", f"open({str(tmp_path / 'ran')!r}, 'a').write('x')")
    notebook(folder / "01_bad.ipynb", "raise RuntimeError('the culprit')", "print('never')")
    notebook(folder / "02_last.ipynb", "print(DATA)")
    monkeypatch.setattr(files, "shipped", lambda what: folder)
    return folder


def bloodcell(capsys, *arguments: str) -> tuple[int, str, str]:
    status = cli.main(list(arguments))
    return status, *capsys.readouterr()


def ends(said: str) -> list[list[str]]:
    """The words of every line that tells how a notebook ended."""
    return [line.split() for line in said.splitlines() if line.startswith("[")]


def test_one_failure_does_not_stop_the_others(shelf, tmp_path, own_folder, capsys):
    status, said, _ = bloodcell(capsys, "run", "--data", str(own_folder), "--out", str(tmp_path / "out"), "--seed", "3")
    assert status == 1
    assert sorted(words[1:3] for words in ends(said)) == [
        ["00_good", "done"],
        ["01_bad", "failed"],
        ["02_last", "done"],
    ]
    place = said.splitlines().index(next(line for line in said.splitlines() if "01_bad           failed" in line))
    notes = [line.strip() for line in said.splitlines()[place + 1 : place + 4]]
    assert notes[0] == "cell 3: raise RuntimeError('the culprit')"  # papermill's own cell comes before it
    assert notes[1] == "RuntimeError: the culprit" and notes[2].startswith("see ") and "2 of 3 notebooks" in said
    assert "the culprit" in (tmp_path / "out/01_bad-quick-seed3.log").read_text()
    ran = nbformat.read(tmp_path / "out/00_good-quick-seed3.ipynb", as_version=4)
    assert ran.cells[-2].outputs[0].text.strip() == f"3 {tmp_path / 'out'}"
    assert "01_bad-quick-seed3.ipynb" in said and (tmp_path / "out/01_bad-quick-seed3.ipynb").exists()


def test_what_is_done_is_skipped_and_what_changed_is_not(shelf, tmp_path, own_folder, capsys):
    once = ("run", "good", "--data", str(own_folder), "--out", str(tmp_path / "out"))
    states = []
    for extra in ((), (), ("--epochs", "2"), ("--epochs", "2")):
        states.append(ends(bloodcell(capsys, *once, *extra)[1])[0][2])
    states.append(ends(bloodcell(capsys, *once, "--fresh")[1])[0][2])
    notebook(shelf / "00_good.ipynb", "print('another text')")
    states.append(ends(bloodcell(capsys, *once, "--set", "EPOCHS=2")[1])[0][2])
    assert states == ["done", "skipped", "done", "skipped", "done", "done"]
    assert (tmp_path / "ran").read_text() == "xxx"


def test_the_reader_of_records_comes_last_and_is_never_skipped(shelf, tmp_path, own_folder, capsys):
    (shelf / "01_bad.ipynb").unlink()
    notebook(shelf / "01_comparison.ipynb", "print('read')")
    arguments = ("run", "--data", str(own_folder), "--out", str(tmp_path / "out"), "--jobs", "2")
    for states in (["done", "done", "done"], ["skipped", "skipped", "done"]):
        lines = ends(bloodcell(capsys, *arguments)[1])
        assert lines[-1][1] == "01_comparison" and [line[2] for line in lines] == states


def planned(tmp_path, own_folder, protocol="quick", wanted=("good",), **overrides) -> runner.Job:
    recipe = protocols.get(protocol, **overrides)
    return runner.plan(list(wanted), recipe, str(own_folder), out=tmp_path / "out")[0]


def test_values_that_were_replaced_reach_the_notebook_and_no_others(shelf, tmp_path, own_folder):
    job = planned(tmp_path, own_folder, epochs="2", image_size="75x101", learning_rate="1e-4", augmentation="flip")
    knobs = {name: value for name, value in job.parameters.items() if name not in ("PROTOCOL", "DATA", "SEED", "OUT")}
    assert knobs == {"EPOCHS": 2, "IMAGE_SIZE": [75, 101], "LEARNING_RATE": 1e-4, "AUGMENTATION": ["flip"]}


def test_a_fold_has_files_of_its_own(shelf, tmp_path, own_folder):
    job = planned(tmp_path, own_folder, "fold:2/5")
    assert job.output.name == "00_good-fold2of5-seed0.ipynb"
    assert protocols.get(job.parameters["PROTOCOL"]).split == "fold:2/5"


LESSON = """
from bloodcell_lib import dataset, models, protocols, training
import keras
protocol = protocols.from_parameters(globals())
data = dataset.load(DATA, seed=SEED, **protocol.data)
keras.utils.set_random_seed(SEED)
network = models.build("cnn", protocol.image_size, len(data.classes), protocol.weights)
training.evaluate(training.fit(network, data, protocol, SEED, OUT), data).write()
"""


def test_a_lesson_is_done_as_its_record_says(shelf, tmp_path, own_folder, monkeypatch):
    """Not by its text; and neither after another recipe, backend or code, nor without its files."""
    notebook(shelf / "01_cnn.ipynb", LESSON)
    job = planned(tmp_path, own_folder, wanted=["cnn"], epochs=1, image_size="16x16")
    assert not runner.is_done(job) and runner.execute(job).error == ""
    assert job.record.name == "cnn-quick-image_size=16x16-epochs=1-seed0.json"

    def done(**overrides):
        return runner.is_done(planned(tmp_path, own_folder, wanted=["cnn"], image_size="16x16", epochs=1, **overrides))

    assert done()
    notebook(shelf / "01_cnn.ipynb", LESSON, "print('one more sentence')")
    assert done() and not done(batch_size=4)
    with monkeypatch.context() as patch:  # the protocol itself is changed
        patch.setitem(protocols.PROTOCOLS, "quick", protocols.get("quick", learning_rate=1.0))
        assert not done()
    with monkeypatch.context() as patch:
        patch.setattr(keras.backend, "backend", lambda: "other")
        assert not done()
    with monkeypatch.context() as patch:
        patch.setattr(runner.codebase, "digest", lambda name: "other")
        assert not done()
    assert done()
    job.record.with_suffix(".predictions.npz").unlink()
    assert not done()


@pytest.mark.parametrize(
    ("overrides", "culprit"),
    [({"image_size": "15x16"}, "cnn.*at least 16"), ({"weights": "imagenet"}, "cnn has no weights 'imagenet'")],
)
def test_what_a_network_cannot_take_is_refused_before_anything_starts(shelf, tmp_path, own_folder, overrides, culprit):
    notebook(shelf / "01_cnn.ipynb", LESSON)
    with pytest.raises(ValueError, match=culprit):
        planned(tmp_path, own_folder, wanted=["good", "cnn"], **overrides)
    assert not (tmp_path / "out").exists()


def test_a_failed_notebook_is_tried_again(shelf, tmp_path, own_folder, capsys):
    arguments = ("run", "01", "--data", str(own_folder), "--out", str(tmp_path / "out"))
    assert [ends(bloodcell(capsys, *arguments)[1])[0][2] for _ in range(2)] == ["failed", "failed"]


def test_a_dead_kernel_is_one_failure(shelf, tmp_path, own_folder, capsys):
    notebook(shelf / "01_bad.ipynb", "import os; os.kill(os.getpid(), 9)")
    status, said, _ = bloodcell(
        capsys, "run", "01", "02", "--data", str(own_folder), "--out", str(tmp_path / "out"), "--jobs", "2"
    )
    assert status == 1 and "DeadKernelError" in said and "1 of 2 notebooks" in said
    assert "lack of memory. Try --batch-size 4, or fewer --jobs." in said


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["run", "lenet"], "'lenet'"),
        (["run", "--protocol", "papre"], "'papre'"),
        (["run", "--epochs", "0"], "epochs"),
        (["run", "--set", "EPOCHS=0"], "epochs"),
        (["run", "--set", "EPOCHS=3", "--epochs", "3"], "epochs is given 2 times"),
        (["run", "--set", "EPOCS=3"], "no epocs"),
        (["run", "--data", ""], "names nothing"),
        (["run", "--image-size", "60"], "image_size"),
        (["run", "--data", "/no/such/place"], "/no/such/place"),
        (["data", "--data", "/no/such/place"], "/no/such/place"),
        (["table", "{empty}"], "bloodcell run cnn"),
        (["table", "{empty}/typo"], "typo: no such folder"),
        (["run", "--out", "{empty}/file"], "file: cannot be written"),
        (["run", "--out", "{empty}/file/below"], "below: cannot be written"),
    ],
)
def test_what_cannot_start_says_why(shelf, tmp_path, own_folder, capsys, arguments, culprit):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/file").touch()
    arguments = [a.format(empty=tmp_path / "empty") for a in arguments]
    if arguments[0] == "run":
        arguments += [] if "--out" in arguments else ["--out", str(tmp_path / "out")]
        arguments += [] if "--data" in arguments else ["--data", str(own_folder)]
    status, said, complaint = bloodcell(capsys, *arguments)
    assert status == 2 and culprit in complaint and complaint.count("\n") == 1 and not said
    assert not (tmp_path / "out").exists() and [file.name for file in (tmp_path / "empty").iterdir()] == ["file"]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--seed", "-1"],
        ["--seed", "4-0"],
        ["--seed", "0-9999999"],
        ["--jobs", "0"],
        ["--devices", "some"],
        ["--no-such"],
        [],
    ],
)
def test_usage_errors_exit_2(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", *wrong] if wrong else [])
    assert stop.value.code == 2


def test_every_knob_of_a_protocol_is_an_option(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    said = capsys.readouterr().out
    assert all(f"--{knob.name.replace('_', '-')} " in said for knob in protocols.KNOBS)


def test_data_says_what_there_is(own_folder, capsys):
    status, said, _ = bloodcell(capsys, "data", "--data", str(own_folder))
    assert status == 0 and "photographs behind them: unknown" in said


def test_data_checks_every_image_and_names_all_that_are_damaged(own_folder, capsys):
    assert bloodcell(capsys, "data", "--check", "--data", str(own_folder))[0] == 0
    for n in range(12):
        (own_folder / f"TRAIN/{'MONOCYTE' if n < 6 else 'NEUTROPHIL'}/cell {n % 6}.jpg").write_bytes(b"x")
    status, said, _ = bloodcell(capsys, "data", "--check", "--data", str(own_folder))
    assert status == 1 and said.splitlines()[-1] == "12 of 80 images cannot be used."
    assert sum(": not an image that can be read" in line for line in said.splitlines()) == 12


def test_data_names_what_is_not_used(own_folder, capsys):
    (own_folder / "TRAIN/MONOCYTE/a.heic").touch()
    said = bloodcell(capsys, "data", "--data", str(own_folder))[1]
    assert "80 images" in said and "Not used: .heic files (1), such as TRAIN/MONOCYTE/a.heic." in said


def test_a_lesson_that_does_not_apply_is_skipped_and_says_why(shelf, tmp_path, own_folder, capsys):
    notebook(shelf / "11_leakage.ipynb", "raise RuntimeError('not for this set')")
    arguments = ("run", "good", "leakage", "--data", str(own_folder), "--out", str(tmp_path / "out"))
    status, said, _ = bloodcell(capsys, *arguments)
    assert status == 0 and "1 of 1 notebooks executed" in said
    assert [words[1:3] for words in ends(said)] == [["11_leakage", "skipped"], ["00_good", "done"]]
    assert "does not apply to this set\n" in said and "has no provenance.csv" in said


def test_help_everywhere_and_as_a_module():
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    for command in ([], ["run"], ["data"], ["table"], ["notebooks"]):
        done = subprocess.run(
            [sys.executable, "-m", "bloodcell_lib", *command, "--help"],
            env=env,
            text=True,
            capture_output=True,
            check=True,
        )
        assert done.stdout.startswith("usage: bloodcell")
