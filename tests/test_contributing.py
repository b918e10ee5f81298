"""What CONTRIBUTING.md says is done here, in a copy of the project: its files are written, its commands run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_set, zipped

ROOT = Path(__file__).parents[1]
TEXT = re.split(r"^```(\w*)\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE | re.DOTALL)
PROGRAMS = {".venv/bin/python": [sys.executable], ".venv/bin/bloodcell": [sys.executable, "-m", "bloodcell_lib"]}


@pytest.fixture
def do(tmp_path, cache):
    """Run a command in a copy of what the text touches, with the set that it speaks of; return what it prints."""
    for name in ("bloodcell_lib", "tests", "benchmarks", "data", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.zip", "TRAIN"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    zipped(make_set(tmp_path / "ward", classes=("BLAST", "LYMPHOCYTE")), tmp_path / "data" / "ward.zip")

    def do(*command: str) -> str:
        env = os.environ | {"PYTHONPATH": str(tmp_path), "BLOODCELL_CACHE": str(cache)}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    return do


@pytest.mark.timeout(1800)
def test_every_block_of_the_text_works(do, tmp_path):
    """A block goes to the end of the file that the paragraph before it names, or it is a script or commands."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    written, said = [], {}
    for before, kind, block in zip(TEXT[::3], TEXT[1::3], TEXT[2::3], strict=False):
        paths = re.findall(r"`(\S+\.(?:py|toml))`", before.strip().split("\n\n")[-1])
        if kind and paths:
            with open(tmp_path / paths[0], "a") as file:
                file.write(f"\n\n{block}" if file.tell() else block)
            written += paths
        elif kind:
            do(sys.executable, "-c", block)
        for line in block.splitlines() if not kind else ():
            program, *rest = shlex.split(line, comments=True)
            if program == "make":
                assert rest[0] in targets
            else:
                said[line] = do(*PROGRAMS[program], *rest)
    assert written == ["bloodcell_lib/models/allcnn.py", "bloodcell_lib/cards.py", "pyproject.toml"]
    for command in (("check",), ("format", "--check")):
        do(sys.executable, "-m", "ruff", *command, *written[:2])
    network, table, card, data, copies, address = said.values()
    assert int(re.search(r"(\d+) passed", network)[1]) >= 14 and "skipped" not in network
    assert re.search(r"\| allcnn +\| sample +\| quick-", table)
    assert re.search(r"\b2 passed", card) and "skipped" not in card
    assert copies.count(".ipynb") == len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert int(re.search(r"(\d+) passed", address)[1]) == copies.count(".ipynb")
    assert "ward: 40 images" in data and "0 of 40 images cannot be used" in data


def test_what_the_text_links_to_is_there():
    links = re.findall(r"\]\((?!http)([^)#]+)", "".join(TEXT)) + re.findall(
        r"`((?:tests|benchmarks)/\S+?)`", "".join(TEXT)
    )
    assert links and not [link for link in links if not (ROOT / link).exists()]
