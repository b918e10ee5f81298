"""A person in JupyterLab: from the map to a lesson, its fields, its curves while it trains, and its record."""

import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from bloodcell_lib.command.notebooks import copy_notebooks
from bloodcell_lib.records import Record

ROOT = Path(__file__).parents[1]
TYPED = {"DATA": "sample", "IMAGE_SIZE": "32x32", "BATCH_SIZE": "4", "LIMIT": "8", "EPOCHS": "2"}
HERE = ".jp-NotebookPanel:not(.lm-mod-hidden)"  # the notebook in front
# A notebook that has not all of its cells yet, nor its kernel, is shown as idle too.
READY = f"""title => [...document.querySelectorAll('{HERE}')].some(e =>
    e.querySelector('h1')?.textContent.includes(title)
    && e.querySelectorAll('.jp-Cell').length > 5 && e.querySelector('[data-status=idle]'))"""
MAP, LESSON = "White blood cells", "A four-layer CNN"
CURVES = "Loss and accuracy after {} of 2 epochs."  # the alternative texts of the pictures, as they come
WATCH = """window.seen = []; new MutationObserver(() => {
    document.querySelectorAll('img[alt^="Loss and accuracy"]').forEach(e => seen.at(-1) == e.alt || seen.push(e.alt))
}).observe(document.body, {childList: true, subtree: true})"""
LONG = 600_000  # milliseconds
pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]


@pytest.fixture
def folder(tmp_path):
    """Where the notebooks were copied to."""
    copy_notebooks(tmp_path / "mine")
    return tmp_path / "mine"


@pytest.fixture
def address(folder, tmp_path, cache):
    """The map in a JupyterLab of its own that is served from this folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port, token = free.getsockname()[1], secrets.token_hex(16)
    own = {f"JUPYTER_{what}_DIR": str(tmp_path / what) for what in ("CONFIG", "DATA", "RUNTIME")}
    own |= {f"JUPYTERLAB_{what}_DIR": str(tmp_path / what) for what in ("SETTINGS", "WORKSPACES")}
    own |= {"JUPYTER_PREFER_ENV_PATH": "1", "PYTHONPATH": str(ROOT), "BLOODCELL_CACHE": str(cache)}
    options = ["--no-browser", "--allow-root", f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}"]
    options += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    with open(tmp_path / "lab.log", "wb") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        process = subprocess.Popen(command, cwd=folder, env=os.environ | own, stdout=log, stderr=log)
    end, server = time.monotonic() + 180, f"http://127.0.0.1:{port}"
    try:
        while True:
            assert process.poll() is None and time.monotonic() < end, (tmp_path / "lab.log").read_text()
            try:
                urllib.request.urlopen(f"{server}/api/status?token={token}", timeout=30).close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"{server}/lab/tree/index.ipynb?token={token}"
    finally:
        process.terminate()
        process.wait(60)


def test_a_lesson_in_jupyterlab(address, folder, browser):
    pytest.importorskip("ipywidgets", reason="ipywidgets is not installed: the extra `lab` has it")
    browser.goto(address)
    browser.wait_for_function(READY, arg=MAP)
    browser.locator(f"{HERE} .jp-RenderedMarkdown a").get_by_text(LESSON).click()
    browser.locator(".lm-TabBar-tab.lm-mod-current").get_by_text("01_cnn.ipynb").wait_for()
    browser.wait_for_function(READY, arg=LESSON)

    browser.locator(f"{HERE} .jp-CodeCell .cm-line").first.click()
    for _ in range(4):  # setup, the text on the parameters, the parameters, the fields
        browser.keyboard.press("Shift+Enter")
    browser.get_by_label("EPOCHS").fill("0")
    browser.get_by_label("SEED").click()
    browser.get_by_text("epochs='0' cannot be used. Give a whole number, 1 at least.").wait_for()
    for name, text in TYPED.items():
        browser.get_by_label(name).fill(text)
    browser.get_by_label("SEED").click()
    name = browser.locator(".jp-OutputArea b").get_by_text("epochs=2").inner_text()

    browser.evaluate(WATCH)
    for item in ("Run", "Run All Cells"):
        browser.get_by_role("menuitem", name=item, exact=True).click()
    browser.get_by_alt_text(CURVES.format(2)).wait_for(timeout=LONG)
    assert browser.evaluate("seen") == [CURVES.format(epoch) for epoch in range(3)]
    assert browser.get_by_alt_text(CURVES.format(2)).evaluate("e => e.decode().then(() => e.naturalWidth)") > 900
    browser.wait_for_function(READY, arg=LESSON, timeout=LONG)
    browser.keyboard.press("Control+s")
    code = finished(folder / "01_cnn.ipynb")

    record = Record.read(folder / "runs" / f"cnn-{name}.json")
    assert record.settings["epochs"] == 2 and len(record.history["loss"]) == 2
    (fit,) = (cell for cell in code if "training.fit(" in cell.source and "lesson.source" not in cell.source)
    (kept,) = fit.outputs
    assert re.findall('alt="(.+?)"', kept.data["text/html"]) == [CURVES.format(2)]


def finished(path: Path, seconds: float = 300) -> list:
    """Return the code cells of a notebook when it was saved with all of them executed; none may have failed."""
    end = time.monotonic() + seconds
    while True:
        code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
        if all(cell.execution_count for cell in code):
            return code
        assert time.monotonic() < end, [cell.source for cell in code if not cell.execution_count]
        time.sleep(0.5)
