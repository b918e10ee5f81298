"""The workflow for clusters, run here on two cores: the extra `cluster`."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SNAKEMAKE = os.environ.get("SNAKEMAKE") or shutil.which("snakemake")


def snakemake(out: Path, *config: str) -> subprocess.CompletedProcess:
    command = [SNAKEMAKE, "-s", ROOT / "workflow/Snakefile", "-d", out.parent, "--cores", "2"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([*command, "--config", f"out={out}", *config], env=env, text=True, capture_output=True)


@pytest.mark.skipif(not SNAKEMAKE, reason="snakemake is not installed: pip install 'bloodcell[cluster]'")
def test_each_network_and_seed_is_a_job_and_what_is_done_is_skipped(tmp_path):
    two = ("notebooks=cnn 05", "seeds=0-1", "threads=1", "set=EPOCHS=1 LIMIT=8")
    done = snakemake(tmp_path / "runs", *two)
    assert done.returncode == 0, done.stdout + done.stderr
    found = sorted((tmp_path / "runs").glob("*.json"))
    runs = {(json.loads(file.read_text())["model"], json.loads(file.read_text())["seed"]) for file in found}
    assert runs == {("cnn", 0), ("cnn", 1), ("squeezenet", 0), ("squeezenet", 1)}
    before = [file.stat().st_mtime_ns for file in found]
    again = snakemake(tmp_path / "runs", *two)
    assert again.returncode == 0 and "Nothing to be done" in again.stdout + again.stderr
    assert [file.stat().st_mtime_ns for file in found] == before


@pytest.mark.skipif(not SNAKEMAKE, reason="snakemake is not installed: pip install 'bloodcell[cluster]'")
def test_an_unknown_notebook_is_refused(tmp_path):
    done = snakemake(tmp_path / "runs", "notebooks=lenet")
    assert done.returncode and "lenet" in done.stderr and "01_cnn" in done.stderr
