"""The page of measured results follows from the records."""

import re
from dataclasses import replace

import made
import pytest

from bloodcell_lib import protocols, records
from bloodcell_lib.command import cli, report

PAPER, PHOTO = protocols.get("paper", epochs=2), protocols.get("paper", epochs=2, split="photo")


@pytest.fixture
def folder(tmp_path):
    """The CNN by image, 10 and 20 % wrong on validation and test, and by photograph, 30 and 20 %; two seeds."""
    for seed in (0, 1):
        made.record(tmp_path, protocol=PAPER, seed=seed, validation=4, wrong=8).write()
        made.record(tmp_path, protocol=PHOTO, seed=seed, validation=12, wrong=8).write()
    made.record(tmp_path, "xception", protocol=PAPER, wrong=4).write()
    return tmp_path


def cells(markdown: str) -> list[list[str]]:
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_leak_is_the_difference_by_image_and_by_photograph(folder):
    (row,) = report.leak(records.read_all(folder)).to_dict("records")
    assert row["network"] == "cnn" and row["seeds"] == "0, 1"
    assert [row[f"difference, {how}"] for how in ("by image", "by photo")] == ["+10.0", "-10.0"]
    assert [row[f"{part}, by image"] for part in ("validation", "test")] == ["90.0", "80.0"]


def test_each_run_by_the_paper_stands_beside_its_row(folder):
    frame = report.beside_paper(records.read_all(folder))
    assert frame["network"].tolist() == ["cnn", "cnn", "xception"]
    assert frame["paper: train / validation / test"].tolist() == ["93 / 88 / 72", "93 / 88 / 72", "97 / 96 / 89"]
    assert frame["test"].tolist()[2].startswith("90.0 [")


def test_the_page_and_its_figure_are_written_by_one_command_and_the_same_every_time(folder, capsys):
    assert cli.main(["table", str(folder), "--write"]) == 0
    page, figure = (folder / "README.md").read_bytes(), (folder / "leak.svg").read_bytes()
    assert "written:" in capsys.readouterr().out
    text = page.decode()
    assert (
        "Runs by machine: 5 on one machine." in text and "{" not in text and "*Not measured yet.*" in text
    )  # no folds
    assert [row[0] for row in cells(text) if row[2].startswith("paper")].count("xception") == 1
    assert cli.main(["table", str(folder), "--write"]) == 0
    assert (page, figure) == ((folder / "README.md").read_bytes(), (folder / "leak.svg").read_bytes())


def test_the_headline_shows_the_first_seed(folder):
    rows = cells(report.headline(records.read_all(folder)))
    assert [row[0] for row in rows[2:]] == ["the paper", "its protocol, run here", "the same, split by photograph"]
    assert rows[2][1:] == ["88", "72"] and rows[4][1].startswith("70.0 [")


def test_what_copies_are_worth_is_said_of_the_same_images(folder):
    said = report.same_images(records.read_all(folder))
    assert re.search(r"40 images are in both .* 90\.0 % .* 70\.0 % \(p = 0\.\d+, by photograph\)", said)


def test_networks_that_are_not_in_the_paper_have_no_row(folder):
    made.record(folder, "mine", protocol=PAPER).write()
    assert "mine" not in report.beside_paper(records.read_all(folder))["network"].tolist()


def test_a_folder_without_records_makes_no_page(tmp_path):
    with pytest.raises(records.RecordError, match="no record"):
        report.write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_runs_that_differ_in_more_than_the_split_are_no_pair(tmp_path):
    one = made.record(tmp_path, protocol=PAPER)
    other = made.record(tmp_path, protocol=replace(PHOTO, learning_rate=1e-3))
    assert report.pairs([one, other]) == [] and report.leak([one, other]).empty


def test_runs_around_the_cell_stand_in_no_table_of_whole_images(folder):
    found = records.read_all(folder)
    for protocol in (PAPER, PHOTO):
        made.record(folder, protocol=replace(protocol, frame="cell"), wrong=30).write()
    both = records.read_all(folder)
    assert len(both) == len(found) + 2
    for table in (report.beside_paper, report.leak):
        assert table(both).equals(table(found))
    assert report.headline(both) == report.headline(found)
