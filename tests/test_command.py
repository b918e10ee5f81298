"""The command line and batches of notebooks."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from bloodcell_lib import cli, suite

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
    monkeypatch.setattr(suite, "notebooks_dir", lambda: folder)
    return folder


def bloodcell(capsys, *arguments: str) -> tuple[int, str, str]:
    status = cli.main(list(arguments))
    return status, *capsys.readouterr()


def test_one_failure_does_not_stop_the_others(shelf, tmp_path, own_folder, capsys):
    status, said, _ = bloodcell(capsys, "run", "--data", str(own_folder), "--out", str(tmp_path / "out"), "--seed", "3")
    assert status == 1
    assert [line.split()[1:3] for line in said.splitlines() if line.startswith("[")] == [
        ["00_good", "done"],
        ["01_bad", "failed"],
        ["02_last", "done"],
    ]
    assert "RuntimeError: the culprit" in said and "2 of 3 notebooks" in said
    ran = nbformat.read(tmp_path / "out/00_good-quick-seed3.ipynb", as_version=4)
    assert ran.cells[-2].outputs[0].text.strip() == f"3 {tmp_path / 'out'}"
    assert "01_bad-quick-seed3.ipynb" in said and (tmp_path / "out/01_bad-quick-seed3.ipynb").exists()


def test_what_is_done_is_skipped_and_what_changed_is_not(shelf, tmp_path, own_folder, capsys):
    once = ("run", "good", "--data", str(own_folder), "--out", str(tmp_path / "out"))
    states = []
    for extra in ((), (), ("--epochs", "2"), ("--epochs", "2")):
        states.append(bloodcell(capsys, *once, *extra)[1].split()[2])
    notebook(shelf / "00_good.ipynb", "print('another text')")
    states.append(bloodcell(capsys, *once, "--epochs", "2")[1].split()[2])
    assert states == ["done", "skipped", "done", "skipped", "done"]
    assert (tmp_path / "ran").read_text() == "xx"


def test_the_reader_of_records_comes_last_and_is_never_skipped(shelf, tmp_path, own_folder, capsys):
    (shelf / "01_bad.ipynb").unlink()
    notebook(shelf / "01_comparison.ipynb", "print('read')")
    arguments = ("run", "--data", str(own_folder), "--out", str(tmp_path / "out"), "--jobs", "2")
    for states in (["done", "done", "done"], ["skipped", "skipped", "done"]):
        lines = [line.split() for line in bloodcell(capsys, *arguments)[1].splitlines() if line.startswith("[")]
        assert lines[-1][1] == "01_comparison" and [line[2] for line in lines] == states


def test_numbers_given_as_text_reach_the_notebook_as_numbers(shelf, tmp_path, own_folder):
    job, *_ = suite.plan(
        ["good"], data=str(own_folder), out=tmp_path / "out", epochs="2", image_size="75x100", learning_rate="1e-4"
    )
    assert [job.parameters[name] for name in ("EPOCHS", "IMAGE_SIZE", "LEARNING_RATE")] == [2, [75, 100], 1e-4]


def test_a_fold_has_files_of_its_own(shelf, tmp_path, own_folder):
    job, *_ = suite.plan(["good"], "fold:2/5", str(own_folder), out=tmp_path / "out")
    assert job.output.name == "00_good-fold2of5-seed0.ipynb" and job.parameters["PROTOCOL"] == "fold:2/5"


def test_a_failed_notebook_is_tried_again(shelf, tmp_path, own_folder, capsys):
    arguments = ("run", "01", "--data", str(own_folder), "--out", str(tmp_path / "out"))
    assert [bloodcell(capsys, *arguments)[1].split()[2] for _ in range(2)] == ["failed", "failed"]


def test_a_dead_kernel_is_one_failure(shelf, tmp_path, own_folder, capsys):
    notebook(shelf / "01_bad.ipynb", "import os; os.kill(os.getpid(), 9)")
    status, said, _ = bloodcell(
        capsys, "run", "01", "02", "--data", str(own_folder), "--out", str(tmp_path / "out"), "--jobs", "2"
    )
    assert status == 1 and "DeadKernelError" in said and "1 of 2 notebooks" in said


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["run", "lenet"], "'lenet'"),
        (["run", "--protocol", "papre"], "'papre'"),
        (["run", "--epochs", "0"], "epochs"),
        (["run", "--image-size", "60"], "image_size"),
        (["run", "--data", "/no/such/place"], "/no/such/place"),
        (["data", "--data", "/no/such/place"], "/no/such/place"),
        (["table", "{empty}"], "bloodcell run cnn"),
    ],
)
def test_what_cannot_start_says_why(shelf, tmp_path, own_folder, capsys, arguments, culprit):
    arguments = [a.format(empty=tmp_path) for a in arguments]
    if arguments[0] == "run":
        arguments += ["--out", str(tmp_path / "out")] + ([] if "--data" in arguments else ["--data", str(own_folder)])
    status, said, complaint = bloodcell(capsys, *arguments)
    assert status == 2 and culprit in complaint and complaint.count("\n") == 1 and not said
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("wrong", [["--seed", "-1"], ["--jobs", "0"], ["--no-such"], []])
def test_usage_errors_exit_2(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", *wrong] if wrong else [])
    assert stop.value.code == 2


def test_data_says_what_there_is(own_folder, capsys):
    status, said, _ = bloodcell(capsys, "data", "--data", str(own_folder))
    assert status == 0 and "photographs behind them: unknown" in said


def test_help_everywhere_and_as_a_module():
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    for command in ([], ["run"], ["data"], ["table"]):
        done = subprocess.run(
            [sys.executable, "-m", "bloodcell_lib", *command, "--help"],
            env=env,
            text=True,
            capture_output=True,
            check=True,
        )
        assert done.stdout.startswith("usage: bloodcell")
