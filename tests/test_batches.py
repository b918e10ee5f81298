"""Batches as processes: interrupted, killed, at once, on kernels and paths of every kind."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest
from test_command import LESSON, ends, notebook, planned, shelf  # noqa: F401  a fixture

from bloodcell_lib import files
from bloodcell_lib.command import cli, notebooks, runner, screen

BATCH = """
import sys
from pathlib import Path
from bloodcell_lib import files
from bloodcell_lib.command import cli
folder = Path(sys.argv[1])
files.shipped = lambda what: folder
del sys.argv[1]
cli.script()
"""
SLEEP = "import os, time; open(os.path.join(OUT, f'began-{SEED}'), 'w').write(str(os.getpid())); time.sleep(600)"


@pytest.fixture
def batch(shelf, tmp_path, own_folder):  # noqa: F811
    """Starts `bloodcell run` on the notebooks of the shelf, in a process of its own."""
    started = []

    def start(*arguments: str, **env: str) -> subprocess.Popen:
        env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])} | env
        command = [
            sys.executable,
            "-c",
            BATCH,
            str(shelf),
            "run",
            "--data",
            str(own_folder),
            "--out",
            str(tmp_path / "out"),
        ]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([*command, *arguments], env=env, start_new_session=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def awaited(found, seconds: float = 120):
    """Return what `found` returns as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def lives(process: psutil.Process) -> bool:
    """Return whether a process still runs; one that ended and waits for its parent to ask does not."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def kernel(out: Path, seed: int = 0) -> psutil.Process:
    """The kernel of a notebook that has begun to sleep."""
    return psutil.Process(int(awaited(lambda: (began := out / f"began-{seed}").exists() and began.read_text())))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_all_within_five_seconds(shelf, tmp_path, batch, how):  # noqa: F811
    notebook(shelf / "00_good.ipynb", SLEEP)
    process = batch("00", "02", "--seed", "0-1", "--jobs", "2")
    kernels = [kernel(tmp_path / "out", seed) for seed in (0, 1)]
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) >= 4, "a worker and a kernel for each"
    start = time.monotonic()
    process.send_signal(how)
    _, complaint = process.communicate(timeout=20)
    assert time.monotonic() - start < 5
    assert process.returncode == 130 and "resumes here" in complaint and "Traceback" not in complaint
    assert not any(map(lives, (*kernels, *below)))
    assert not list((tmp_path / "out").glob("02_last*-seed1*")), "nothing was begun after it"
    assert nbformat.read(tmp_path / "out/00_good-quick-seed0.ipynb", as_version=4).cells, "what ran is kept, whole"


def test_an_interrupted_command_does_not_wait_for_what_is_taken_down_at_exit():
    code = """
import atexit, time
from bloodcell_lib.command import cli
atexit.register(time.sleep, 100)
cli.data = lambda options: (_ for _ in ()).throw(KeyboardInterrupt)
cli.script()"""
    done = subprocess.run([sys.executable, "-c", code, "data"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130 and done.stderr == "bloodcell: interrupted.\n", "only a batch resumes"


def test_a_kernel_that_does_not_listen_is_killed(shelf, tmp_path, batch):  # noqa: F811
    notebook(shelf / "00_good.ipynb", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)", SLEEP)
    process = batch("00")
    deaf = kernel(tmp_path / "out")
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert time.monotonic() - start < 5 and not lives(deaf)


def test_a_batch_that_is_killed_leaves_no_process(shelf, tmp_path, batch):  # noqa: F811
    notebook(shelf / "00_good.ipynb", SLEEP)
    process = batch("00")
    left = kernel(tmp_path / "out")
    process.kill()
    awaited(lambda: not lives(left), 20)


def test_two_batches_do_not_want_the_same(shelf, tmp_path, batch):  # noqa: F811
    notebook(shelf / "00_good.ipynb", SLEEP)
    batch("00", "02", "--jobs", "1")
    kernel(tmp_path / "out")
    second = batch("02")
    said, complaint = second.communicate(timeout=120)
    assert second.returncode == 2 and "02_last-quick-seed0.ipynb: another process" in complaint and not said
    other = batch("02", "--seed", "1")
    assert "1 of 1 notebooks" in other.communicate(timeout=120)[0]


def test_the_kernel_is_this_interpreter(shelf, tmp_path, batch):  # noqa: F811
    foreign = tmp_path / "jupyter/kernels/python3"
    foreign.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "of the hub", "language": "python"}
    (foreign / "kernel.json").write_text(json.dumps(spec))
    notebook(shelf / "00_good.ipynb", "import sys; print(sys.executable)")
    process = batch("00", JUPYTER_PATH=str(tmp_path / "jupyter"))
    said, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, said + complaint
    ran = nbformat.read(tmp_path / "out/00_good-quick-seed0.ipynb", as_version=4)
    assert ran.cells[-1].outputs[0].text.strip() == sys.executable


def run(*arguments) -> int:
    return cli.main(["run", *map(str, arguments)])


def test_any_path_will_do(shelf, tmp_path, own_folder, capsys):  # noqa: F811
    out = tmp_path / "Zählung {SEED} 'a b'"
    assert run("00", "--data", own_folder.rename(tmp_path / "ü {data}"), "--out", out, "--html") == 0
    names = [file.name for file in out.iterdir() if file.name != files.LOCKS]
    assert sorted(names) == [f"00_good-quick-seed0.{suffix}" for suffix in ("html", "ipynb", "log")]
    assert "Zählung {SEED}" in (out / "00_good-quick-seed0.html").read_text(encoding="utf-8")


def test_a_page_folds_what_only_draws(shelf, tmp_path, own_folder, capsys):  # noqa: F811
    notebook(shelf / "00_good.ipynb", "print('shown')", "print('folded')")
    content = nbformat.read(shelf / "00_good.ipynb", as_version=4)
    content.cells[-1].metadata["tags"] = ["hide-input"]
    nbformat.write(content, shelf / "00_good.ipynb")
    assert run("00", "--data", own_folder, "--out", tmp_path / "out", "--html") == 0
    page = (tmp_path / "out/00_good-quick-seed0.html").read_text(encoding="utf-8")
    before, inside = page.rsplit("<details>", 1)
    inside, after = inside.split("</details>")
    assert "shown" in before and "folded" in inside and "folded" in after, "code inside, output after"


def test_pages_show_a_copy_that_ran_also_in_an_earlier_batch(shelf, tmp_path, own_folder, capsys):  # noqa: F811
    notebook(shelf / "00_good.ipynb", "print('ran with seed', SEED)", "assert SEED == 1")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Map")]), shelf / "index.ipynb")
    for name in notebooks.TEXTS:
        (shelf / name).write_text(f"# {name}")
    assert run("00", "--seed", "0,1", "--data", own_folder, "--out", tmp_path / "out") == 1
    assert not (tmp_path / "out/pages").exists()
    assert run("00", "--seed", "0,1", "--data", own_folder, "--out", tmp_path / "out", "--pages") == 1
    said = capsys.readouterr().out
    assert "already done" in said and str(tmp_path / "out/pages/index.html") in said
    page = (tmp_path / "out/pages/00_good.html").read_text(encoding="utf-8")
    assert "ran with seed 1" in page and "ran with seed 0" not in page


def test_the_clock_of_a_bar_runs_between_two_events(monkeypatch):
    now = iter(range(0, 1000, 70))
    monkeypatch.setattr(screen, "perf_counter", lambda: next(now))
    course = screen.Course("01_cnn", 10, start=0.0)
    assert str(course) != str(course)
    assert f"{course}".endswith("2:20 elapsed")


def test_a_cell_that_hangs_is_stopped(shelf, tmp_path, own_folder, capsys):  # noqa: F811
    notebook(shelf / "01_bad.ipynb", "import time; time.sleep(600)")
    assert run("01", "02", "--data", own_folder, "--out", tmp_path / "out", "--timeout", 2) == 1
    said = capsys.readouterr().out
    assert "longer than --timeout 2 seconds" in said and "1 of 2 notebooks" in said


def test_what_is_shown_while_it_runs(shelf, tmp_path, own_folder, capsys):  # noqa: F811
    notebook(shelf / "00_good.ipynb", "for n in (1, 2): print(f'epoch {n:3d}/2   train 0.500')")
    assert run("00", "--data", own_folder, "--out", tmp_path / "out") == 0
    told = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines() if line.startswith("      ")]
    assert told[0] == "starts" and told[1].startswith("cell 3 of 3, epoch 1 of 2, 0:0")
    assert told[-1].startswith("cell 3 of 3, epoch 2 of 2")
    assert "epoch   2/2" in (tmp_path / "out/00_good-quick-seed0.log").read_text()


def test_several_seeds_are_runs_of_their_own(shelf, tmp_path, own_folder, capsys):  # noqa: F811
    assert run("00", "--data", own_folder, "--out", tmp_path / "out", "--seed", "0,7") == 0
    names = {words[1] for words in ends(capsys.readouterr().out)}
    assert names == {"00_good-seed0", "00_good-seed7"}
    assert (tmp_path / "out/00_good-quick-seed7.ipynb").exists()


SHOW = """import os
print({name: os.environ.get(name) for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
    "BLOODCELL_DEVICES", "JPY_SESSION_NAME")})"""


def shown(tmp_path, name: str) -> dict:
    text = nbformat.read(tmp_path / f"out/{name}-quick-seed0.ipynb", as_version=4).cells[-1].outputs[0].text
    return {key: value for key, value in eval(text).items() if value is not None}


def test_jobs_divide_the_cores_and_take_the_gpus_in_turn(shelf, tmp_path, own_folder, monkeypatch):  # noqa: F811
    monkeypatch.setattr(runner, "_cores", lambda: 8)
    monkeypatch.setattr(runner, "_gpus", lambda: ("4", "6"))
    monkeypatch.setenv("JPY_SESSION_NAME", "a notebook that somebody looks at")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # whoever says so is obeyed
    for stem in ("00_good", "02_last"):
        notebook(shelf / f"{stem}.ipynb", "import time; time.sleep(3)", SHOW)
    assert run("00", "02", "--data", own_folder, "--out", tmp_path / "out") == 0
    found = [shown(tmp_path, stem) for stem in ("00_good", "02_last")]
    assert {each.pop("CUDA_VISIBLE_DEVICES") for each in found} == {"4", "6"}
    assert found == [{"TF_NUM_INTRAOP_THREADS": "4", "OMP_NUM_THREADS": "3"}] * 2
    assert run("00", "--data", own_folder, "--out", tmp_path / "out", "--devices", "all", "--fresh") == 0
    assert shown(tmp_path, "00_good") == {"OMP_NUM_THREADS": "3", "BLOODCELL_DEVICES": "all"}


@pytest.mark.parametrize(
    ("gpus", "cores", "gib", "fit"), [((), 2, 20, 2), ((), 8, 9, 2), ((), 8, 1, 1), (("0", "1"), 16, 99, 2)]
)
def test_as_many_jobs_as_fit(monkeypatch, gpus, cores, gib, fit):
    monkeypatch.setattr(runner, "_cores", lambda: cores)
    monkeypatch.setattr(runner, "_gpus", lambda: gpus)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("", (), {"available": gib * 2**30}))
    assert runner.fitting() == fit and runner.fitting(devices="all") == 1


def test_the_only_job_that_is_left_has_all_cores(shelf, tmp_path, own_folder, monkeypatch):  # noqa: F811
    monkeypatch.setattr(runner, "_cores", lambda: 8)
    monkeypatch.setattr(runner, "_gpus", lambda: ())
    arguments = ("--data", own_folder, "--out", tmp_path / "out", "--jobs", 2)
    assert run("02", *arguments) == 0
    notebook(shelf / "00_good.ipynb", SHOW)
    assert run("00", "02", *arguments) == 0
    assert "TF_NUM_INTRAOP_THREADS" not in shown(tmp_path, "00_good")


def test_a_job_that_cannot_start_is_one_failure(shelf, tmp_path, own_folder, capsys):  # noqa: F811
    (tmp_path / "out/00_good-quick-seed0.log").mkdir(parents=True)
    assert run("00", "02", "--data", own_folder, "--out", tmp_path / "out") == 1
    said = capsys.readouterr().out
    assert "it cannot be started (" in said and "1 of 2 notebooks" in said


def test_a_notebook_that_fails_after_its_record_trains_nothing_again(shelf, tmp_path, own_folder, capsys):  # noqa: F811
    small = {"wanted": ["cnn"], "epochs": 2, "image_size": "16x16"}
    notebook(shelf / "01_cnn.ipynb", LESSON, "raise RuntimeError('after the record')")
    arguments = ("cnn", "--data", own_folder, "--out", tmp_path / "out", "--epochs", 2, "--image-size", "16x16")
    assert run(*arguments) == 1
    said = capsys.readouterr().out
    assert "after the record" in said and "| cnn" not in said, "a failed notebook has no row in the table"
    record = planned(tmp_path, own_folder, **small).record
    kept = json.loads(record.read_text())
    notebook(shelf / "01_cnn.ipynb", LESSON)
    assert run(*arguments) == 0 and "| cnn" in capsys.readouterr().out
    again = json.loads(record.read_text())
    assert again["seconds"]["epochs"] == kept["seconds"]["epochs"] and not again["resumed"], "it was not trained again"
    assert run(*arguments, "--fresh") == 0
    assert json.loads(record.read_text())["seconds"]["epochs"] != kept["seconds"]["epochs"]
