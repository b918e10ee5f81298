"""The command line and batches of notebooks."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from bloodcell_lib import files, protocols
from bloodcell_lib.backend import keras
from bloodcell_lib.command import cli, notebooks, runner

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
    counts = "3 of 3 notebooks executed;", "1 of 3 notebooks executed, 2 done before;"
    for states, count in zip((["done", "done", "done"], ["skipped", "skipped", "done"]), counts, strict=True):
        said = bloodcell(capsys, *arguments)[1]
        assert ends(said)[-1][1] == "01_comparison" and [line[2] for line in ends(said)] == states and count in said


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


def test_a_path_means_that_very_file(shelf, tmp_path, own_folder, capsys, monkeypatch):
    own = tmp_path / "mine/00_good.ipynb"
    own.parent.mkdir()
    notebook(own, "print('mine')")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    assert bloodcell(capsys, "run", "mine/00_good.ipynb", "--data", str(own_folder), "--out", str(out))[0] == 0
    ran = nbformat.read(out / "00_good-quick-seed0.ipynb", as_version=4)
    assert ran.cells[-1].outputs[0].text == "mine\n" and not (tmp_path / "ran").exists()
    monkeypatch.chdir(own.parent)
    found = [notebooks.find([want])[0] for want in ("00_good.ipynb", "./00_good.ipynb", "00_good", "good", "00")]
    assert found == [own, own, *[shelf / "00_good.ipynb"] * 3]
    monkeypatch.chdir(shelf)
    assert notebooks.find(["./00_good.ipynb", "00_good.ipynb", "good"]) == [shelf / "00_good.ipynb"]


def test_a_path_that_is_no_notebook_is_refused_by_name(shelf, tmp_path, own_folder):
    own = tmp_path / "mine"
    own.mkdir()
    for wanted, culprit in (
        ([f"{own}/00_good.ipynb"], "mine/00_good.ipynb: no such notebook"),
        (["good.ipynb"], "^good.ipynb: no such notebook"),
        ([str(own)], "mine: no such notebook"),
        ([str(own_folder / "TEST/MONOCYTE/cell 0.jpg")], "cell 0.jpg' is not the name of a notebook"),
    ):
        with pytest.raises(ValueError, match=culprit):
            planned(tmp_path, own_folder, wanted=wanted)
    (own / "00_good.ipynb").write_text("no notebook")
    with pytest.raises(ValueError, match="mine/00_good.ipynb: not a notebook .NotJSON"):
        planned(tmp_path, own_folder, wanted=[f"{own}/00_good.ipynb"])
    with pytest.raises(ValueError, match="00_good is given twice, as .*notebooks/.* and as .*mine/"):
        notebooks.find(["00", f"{own}/00_good.ipynb"])
    assert not (tmp_path / "out").exists()


def test_an_own_copy_of_a_lesson_is_executed_after_each_change_and_trains_nothing_again(shelf, tmp_path, own_folder):
    (tmp_path / "mine").mkdir()
    shipped, own = shelf / "01_cnn.ipynb", tmp_path / "mine/01_cnn.ipynb"
    notebook(shipped, LESSON)
    notebook(own, LESSON, "print('mine')")

    def job(path: Path) -> runner.Job:
        return planned(tmp_path, own_folder, wanted=[str(path)], epochs=1, image_size="16x16")

    assert runner.run([job(shipped)])[0].state == "done" and runner.is_done(job(shipped))
    kept = json.loads(job(own).record.read_text())["seconds"]["epochs"]
    assert job(own).is_trained and not runner.is_done(job(own))
    assert runner.run([job(own)])[0].state == "done" and runner.is_done(job(own))
    assert json.loads(job(own).record.read_text())["seconds"]["epochs"] == kept
    notebook(own, LESSON, "print('mine, changed')")
    assert not runner.is_done(job(own)) and runner.is_done(job(shipped))


def test_a_split_that_the_set_does_not_allow_is_refused_before_anything_starts(
    shelf, tmp_path, own_folder, monkeypatch
):
    notebook(shelf / "01_cnn.ipynb", LESSON)
    for name in ("10_comparison", "11_leakage", "12_cell"):
        notebook(shelf / f"{name}.ipynb", "print(SEED)")
    asked = []
    why_not = runner.dataset.why_not
    monkeypatch.setattr(runner.dataset, "why_not", lambda *of: asked.append(of[1:]) or why_not(*of))
    for wanted in (["cnn", "leakage"], ["cell"], []):
        with pytest.raises(ValueError, match="own: split='photo' needs the photograph"):
            planned(tmp_path, own_folder, "grouped", wanted)
    assert asked == [("photo", 0)] * 3 and not (tmp_path / "out").exists()
    assert planned(tmp_path, own_folder, "grouped", ["leakage"]).unfit
    assert not any(planned(tmp_path, own_folder, "grouped", [name]).unfit for name in ("good", "comparison"))
    asked.clear()
    runner.plan(["cnn", "02_last"], protocols.get("quick"), str(own_folder), (0, 3), tmp_path / "out")
    assert asked == [("image", 0), ("image", 3)]
    assert not planned(tmp_path, own_folder, "quick", ["cell"]).unfit


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
        (["run", "--set", "=5"], "--set '=5' is not NAME=VALUE"),
        (["run", "--set", "epochs"], "--set 'epochs' is not NAME=VALUE"),
        (["run", "mine/01_cnn.ipynb"], "mine/01_cnn.ipynb: no such notebook"),
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


def test_notebooks_cannot_be_copied_below_a_file(tmp_path, capsys):
    (tmp_path / "file").touch()
    status, said, complaint = bloodcell(capsys, "notebooks", str(tmp_path / "file/below"))
    assert (status, said) == (2, "") and complaint.count("\n") == 1
    assert complaint.startswith(f"bloodcell: {tmp_path}/file/below: Not a directory. Check the path")


def test_blanks_around_a_value_do_not_count():
    options = cli._parser().parse_args(["run", "--set", " Epochs = 5 ", "--set", "limit=9"])
    assert cli._knobs(options) == {"epochs": "5", "limit": "9"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device", "a/x.csv"), "a/x.csv: No space left on device. Check"),
        (IsADirectoryError(21, "Is a directory", "a/.x.part", None, "a/x"), "a/x: Is a directory. Check"),
        (OSError("the network\nis down"), "the network is down."),
    ],
)
def test_what_the_system_refuses_is_one_line(error, told, monkeypatch, capsys):
    def fail(options):
        raise error

    monkeypatch.setattr(cli, "data", fail)
    status, said, complaint = bloodcell(capsys, "data")
    assert (status, said) == (2, "") and complaint.startswith(f"bloodcell: {told}") and complaint.count("\n") == 1


@pytest.mark.parametrize("text", ["3-", "-3", "0-4,", "", "0-1-2", "a"])
def test_what_is_no_list_of_seeds_is_named(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"^'{text}' is not 1 to 1000 seeds, such as 3 or 0-4 or 0,3"):
        cli.seeds_of(text)


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
