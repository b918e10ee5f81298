"""The page of measured results follows from the records."""

import re
import warnings
from dataclasses import replace
from pathlib import Path

import made
import numpy as np
import pandas as pd
import pytest

from bloodcell_lib import plots, protocols, records
from bloodcell_lib.command import cli, report, tables

PAPER, PHOTO, GROUPED = protocols.get("paper"), protocols.get("paper", split="photo"), protocols.get("grouped")


@pytest.fixture
def folder(tmp_path):
    """The CNN by image, 10 and 20 % wrong on validation and test, and by photograph, 30 and 20 %; two seeds."""
    for seed in (0, 1):
        made.record(tmp_path, protocol=PAPER, seed=seed, validation=4, wrong=8).write()
        made.record(tmp_path, protocol=PHOTO, seed=seed, validation=12, wrong=8).write()
    made.record(tmp_path, "xception", protocol=PAPER, wrong=4).write()
    return tmp_path


def other_images(record) -> dict:
    return record.dataset | {"fingerprint": "other images"}


def cells(markdown: str) -> list[list[str]]:
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_leak_is_the_difference_by_image_and_by_photograph(folder):
    row, other = report.leak(records.read_all(folder)).to_dict("records")
    assert row["network"] == "cnn" and row["seeds"] == "0, 1"
    differences = [f"difference, {how}" for how in ("by image", "by photograph", "the paper")]
    assert [row[name] for name in differences] == ["+10.0", "-10.0", "+16"]
    assert [row[f"{part}, by image"] for part in ("validation", "test")] == ["90.0", "80.0"]
    assert [other[name] for name in ("network", *differences)] == ["xception", "+0.0", "–", "+7"]
    made.record(folder, protocol=PAPER, seed=2, validation=0, wrong=0).write()  # by image alone: not in the means
    assert report.leak(records.read_all(folder)).to_dict("records") == [row, other]
    drawn = made.record(folder, dataset=other_images(records.read_all(folder)[0]), protocol=PAPER, seed=3)
    assert report.leak([*records.read_all(folder), drawn])["seeds"].tolist() == ["0, 1", "0", "3"]


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
    assert [row[0] for row in cells(text) if row[2].startswith("paper")].count("xception") == 2  # the leak, every run
    assert cli.main(["table", str(folder), "--write"]) == 0
    assert (page, figure) == ((folder / "README.md").read_bytes(), (folder / "leak.svg").read_bytes())


def test_what_our_protocol_gives_is_said_of_seed_0_beside_the_papers_row(folder):
    for model, seed, wrong in (("cnn", 0, 2), ("cnn", 1, 20), ("googlenet", 0, 12)):
        made.record(folder, model, protocol=GROUPED, seed=seed, wrong=wrong).write()
    made.record(folder, "xception", protocol=replace(GROUPED, epochs=2)).write()
    assert report.grouped(records.read_all(folder)) == (
        "By our own protocol, `grouped`, 2 networks have 70.0 to 95.0 % on test with seed 0. "
        "At or above the paper's accuracy: 1; below it: googlenet. Mean ± SD over the seeds 0, 1: cnn 72.5 ± 31.8."
    )
    for place in range(1, 6):  # 8 of the 40 images each; all of those of the first two are wrong
        rows = np.arange(8 * place - 8, 8 * place)
        made.record(folder, protocol=protocols.get(f"fold:{place}/5"), rows=rows, wrong=16).write()
    (accuracy,) = tables.folds(records.read_all(folder))["accuracy"]
    assert accuracy.startswith("60.0 [")
    assert report.grouped(records.read_all(folder)).endswith(f" Five folds of all 20 photographs: cnn {accuracy}.")
    made.record(folder, "googlenet", protocol=GROUPED, seed=0, wrong=6).write()  # 85.0, below the paper's 86
    assert "googlenet. The intervals of 1 hold the paper's, so this is no proof." in report.grouped(
        records.read_all(folder)
    )


def test_what_the_papers_protocol_gives_is_said_of_seed_0_and_one_size(folder):
    made.record(folder, "googlenet", protocol=protocols.get("paper", image_size=(75, 100)), wrong=40).write()
    assert report.nine(records.read_all(folder)) == (
        "By the paper's protocol 2 networks have 90.0 to 90.0 % on validation and 80.0 to 90.0 % on test. "
        "Validation minus test is +5.0 points on average, and +11.5 in the paper. The paper's test accuracy is inside "
        "our interval for 2 of them: cnn, xception."
    )


def test_what_a_division_by_photograph_gives_is_said_of_the_networks_that_have_it(folder):
    made.record(folder, "xception", protocol=PHOTO, validation=8, wrong=10).write()
    assert report.by_photograph(records.read_all(folder)) == (
        "With TRAIN split by photograph, validation minus test is -2.5 points (mean of cnn, xception); by image +5.0."
    )


def test_what_copies_are_worth_is_said_of_the_same_images(folder):
    said = report.same_images(records.read_all(folder))
    assert re.search(
        r"40 images of 20 photographs are in both .* 90\.0 % .* 70\.0 % \(p = 0\.\d+, by photograph\)", said
    )


def test_networks_that_are_not_in_the_paper_have_no_row(folder):
    made.record(folder, "mine", protocol=PAPER).write()
    assert "mine" not in report.beside_paper(records.read_all(folder))["network"].tolist()


def test_runs_on_other_images_do_not_stand_beside_the_paper(folder):
    found = records.read_all(folder)
    drawn = [replace(r, dataset=r.dataset | {"name": "sample", "fingerprint": "1"}) for r in found]
    assert report.beside_paper(drawn).empty and not report.misses(drawn)
    table = report.leak([*found, *drawn])
    assert table["data"].tolist() == ["blood-cells"] * 2 + ["sample"] * 2
    assert table["difference, the paper"].tolist() == ["+16", "+7", "–", "–"]
    axes = report.draw_leak(drawn).axes
    assert not [line for axis in axes for line in axis.lines if line.get_markerfacecolor() == "white"]


def test_a_page_of_ones_own_is_not_replaced(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    Path("README.md").write_text("Mine.")
    assert cli.main(["table", ".", "--write"]) == 2
    assert "README.md: is no page of results" in capsys.readouterr().err and Path("README.md").read_text() == "Mine."
    assert not Path("leak.svg").exists()
    Path("README.md").unlink()
    assert cli.main(["table", ".", "--write"]) == 0
    assert f"`bloodcell table {folder.name} --write`" in Path("README.md").read_text()


def test_a_folder_without_records_makes_no_page(tmp_path):
    with pytest.raises(records.RecordError, match="no record"):
        report.write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_runs_that_differ_in_more_than_the_split_are_no_pair(tmp_path):
    one = made.record(tmp_path, protocol=PAPER)
    other = made.record(tmp_path, protocol=replace(PHOTO, learning_rate=1e-3))
    assert report.by_image([one, other]) == [(one, None)]
    with warnings.catch_warnings(action="error"):
        assert report.draw_leak([other]).axes[0].get_yticks().tolist() == [] and report.leak([other]).empty


def test_the_picture_has_a_row_for_each_network_and_a_panel_for_each_protocol(folder):
    made.record(folder, "xception", protocol=GROUPED, validation=20, wrong=16).write()
    made.record(folder, "googlenet", protocol=replace(PAPER, image_size=(60, 80))).write()  # alone with its size
    axes = report.draw_leak(records.read_all(folder)).axes
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["cnn", "xception"]
    points = [
        {(line.get_xdata()[0], round(line.get_ydata()[0])) for line in axis.lines if line.get_markerfacecolor() == fill}
        for axis in axes
        for fill in ("white", *plots.PART_COLOURS.values())
    ]
    image, photo, ours = (
        dict(zip(("paper", *plots.PART_COLOURS), points[start : start + 4], strict=True)) for start in (0, 4, 8)
    )
    assert image["paper"] == {(88, 2), (72, 2), (96, 1), (89, 1)} and photo["paper"] == set()
    assert (image["validation"], image["test"]) == ({(90.0, 2), (90.0, 1)}, {(80.0, 2), (90.0, 1)})
    assert (photo["validation"], photo["test"]) == ({(70.0, 2)}, {(80.0, 2)})
    assert (ours["paper"], ours["validation"], ours["test"]) == ({(89, 1)}, {(50.0, 1)}, {(60.0, 1)})


def test_runs_around_the_cell_stand_in_no_table_of_whole_images(folder):
    found = records.read_all(folder)
    for protocol in (PAPER, PHOTO):
        made.record(folder, protocol=replace(protocol, frame="cell"), wrong=30).write()
    both = records.read_all(folder)
    assert len(both) == len(found) + 2
    for table in (report.beside_paper, report.leak):
        assert table(both).equals(table(found))
    assert report.nine(both) == report.nine(found)


def test_a_run_below_its_row_says_how_far_and_why(tmp_path):
    def run(model, **options):
        return made.record(tmp_path, model, **{"protocol": PAPER} | options)

    assert report.misses([run("cnn", wrong=8)]) == ""  # 80 is above 72
    inside = report.misses([run("googlenet", wrong=8)])
    assert inside.startswith("- **googlenet**, 120x160, seed 0: test 80.0 [") and "is inside the interval" in inside
    for validation, train, why in (
        (0, 0.99, "recognises copies of its photographs as the paper's does"),
        (4, 0.99, "recognises copies of its photographs less often than the paper's does"),
        (30, 0.99, "It memorises"),
        (30, None, "it memorises images, or its statistics lag"),
        (30, 0.5, "not learned its images, or its statistics"),
    ):
        kept = train and {"loss": 1.0, "accuracy": train}
        told = report.misses([run("googlenet", wrong=20, validation=validation, train=kept)])
        assert "86 is above. " in told and why in told and told.endswith("Reached by: no run yet.")
    better = run("googlenet", wrong=2, seed=3, protocol=protocols.get("paper", batch_size=8))
    fold = run("googlenet", wrong=0, protocol=protocols.get("fold:1/3"))
    drawn = run("googlenet", wrong=0, dataset=other_images(better), seed=5)
    told = report.misses([run("googlenet", wrong=20), better, fold, drawn])
    assert told.count("\n") == 0 and told.endswith("Reached by: `paper-batch_size=8`, seed 3, 95.0.")


# The whole image, or the cell

CELL = protocols.get("grouped", epochs=2, image_size=(69, 69))
SLIDE = replace(CELL, image_size=(60, 80), frame="slide")


def folds(folder, protocol, wrong=8, **options):
    """Return three folds of TRAIN, which together test each of the 40 images once."""
    return [
        made.record(
            folder,
            protocol=replace(protocol, split=f"train:{place}/3"),
            rows=np.flatnonzero(np.arange(40) // 2 % 3 == place - 1),
            wrong=wrong,
            **options,
        )
        for place in (1, 2, 3)
    ]


def test_folds_that_differ_in_frame_and_size_are_a_row(tmp_path):
    cell = folds(tmp_path, CELL, wrong=2, multiply_adds=29_000_000)
    (row,) = report.frames([*folds(tmp_path, SLIDE), *cell[::-1]]).to_dict("records")
    assert row["network"] == "cnn" and row["recipe"] == "grouped-epochs=2" and row["tested on"] == "3 folds of TRAIN"
    assert row["units"] == "20 photographs" and row["equal in"] == "pixels" and row["size"] == "60x80 / 69x69"
    assert row["pixels"] == "4,800 / 4,761" and row["million multiply-adds"] == "30 / 29"
    assert re.fullmatch(r"80\.0 \[.+\] / 95\.0 \[.+\]", row["accuracy"])
    last = 100 * cell[0].history["accuracy"][-1]
    assert row["train, last"] == f"{last:.1f} / {last:.1f}"
    # three of 20 photographs, both copies of each, are gained: signs alike in 2 of 8 ways
    assert row["difference"].startswith("+15.0 [") and row["p"] == "0.25"


def test_what_differs_in_more_than_frame_and_size_is_no_pair(tmp_path):
    slide, cell = folds(tmp_path, SLIDE), folds(tmp_path, CELL)
    others = [folds(tmp_path, CELL, **one) for one in ({"model": "xception"}, {"seed": 1})]
    others.append(folds(tmp_path, replace(CELL, learning_rate=0.5)))
    for other in (*others, cell[:2], [replace(r, dataset=r.dataset | {"fingerprint": "1"}) for r in cell]):
        assert report.frames([*slide, *other]).empty
    assert len(report.frames([*slide, *cell])) == 1


def test_single_runs_are_pairs_if_they_have_the_split_in_common(tmp_path):
    photo, image, cell = SLIDE, replace(SLIDE, split="image"), replace(CELL, image_size=(65, 65))
    found = [made.record(tmp_path, protocol=protocol) for protocol in (photo, image, cell, CELL)]
    frame = report.frames(found)
    assert list(frame["tested on"]) == ["test", "test"] and list(frame["equal in"]) == ["neither", "pixels"]
    assert set(frame["difference"]) == {"+0.0 [-10.7, +10.7]"} and set(frame["p"]) == {"1"}


@pytest.mark.parametrize(
    ("slide", "cell", "equal"),
    [
        ((60, 80), (69, 69), "pixels"),
        ((120, 160), (139, 139), "pixels"),
        ((120, 160), (65, 65), "detail"),
        ((75, 100), (41, 41), "detail"),
        ((60, 80), (64, 64), "neither"),
        ((65, 65), (65, 65), "pixels"),
    ],
)
def test_a_pair_is_equal_in_pixels_or_in_detail(tmp_path, slide, cell, equal):
    pair = [made.record(tmp_path, image_size=list(size)) for size in (slide, cell)]
    assert report.equal_in(*pair) == equal


def test_a_pair_that_was_tested_on_different_images_is_refused(tmp_path):
    found = [made.record(tmp_path, protocol=SLIDE), made.record(tmp_path, protocol=CELL, rows=slice(38))]
    with pytest.raises(records.RecordError, match="cnn-grouped.*slide.* different images"):
        report.frames(found)


def test_the_page_has_a_section_on_the_window(folder):
    assert "## The whole image, or the cell" in report.page(records.read_all(folder), folder)
    for record in (*folds(folder, SLIDE), *folds(folder, CELL, wrong=2)):
        record.write()
    section = report.page(records.read_all(folder), folder).split("## The whole image, or the cell")[1].split("##")[0]
    assert "Not measured" not in section and len(cells(section)) == 3 and "+15.0 [" in section


# Class by class, and what no network gets right


def test_recalls_have_a_row_for_each_run_and_each_whole_set_of_folds(tmp_path):
    runs = [
        made.record(tmp_path, protocol=PHOTO, wrong=5),
        *folds(tmp_path, CELL, wrong=0),
        *folds(tmp_path, SLIDE)[:2],
    ]
    frame = tables.per_class(runs)
    assert list(frame["tested on"]) == ["test", "3 folds of TRAIN"] and list(frame["recipe"])[0] == "paper-split=photo"
    assert list(frame["photographs"]) == ["5 / 5 / 5 / 5"] * 2
    assert frame["Eosinophil"][0].startswith("50.0 [") and frame["Eosinophil"][1].startswith("100.0 [")
    other = replace(runs[0], dataset=runs[0].dataset | {"classes": ["a", "b", "c", "d"]})
    mixed = tables.per_class([runs[0], other])
    assert list(mixed["Eosinophil"]) == [frame["Eosinophil"][0], "–"] and mixed["A"][0] == "–"


def test_photographs_that_every_run_has_wrong_are_named_with_what_they_cost(tmp_path):
    """The first `wrong` images are wrong, two of each photograph: p0 by all, p1 in half by the run with three."""
    runs = [made.record(tmp_path, wrong=wrong, seed=wrong) for wrong in (3, 5)]
    guesses = made.record(tmp_path, "xception", wrong=30)
    (row,) = report.unsolved([*runs, guesses]).to_dict("records")
    assert row == {
        "tested on": "test", "right in": "0 of 2 runs", "photograph": "p0", "true class": "Eosinophil",
        "most predicted": "Lymphocyte", "images": 2, "correct": "0", "points": "5.0",
    }  # fmt: skip
    others = folds(tmp_path, CELL, wrong=4), folds(tmp_path, SLIDE, wrong=8)
    table = report.unsolved([*runs, *others[0], *others[1]])  # of folds by other runs than of test
    assert list(table["tested on"]) == ["test"] + ["3 folds of TRAIN"] * 2
    assert list(table["photograph"]) == ["p0", "p0", "p1"]
    many = [made.record(tmp_path, wrong=5, seed=20 + seed) for seed in range(18)]
    solved = [made.record(tmp_path, wrong=0, seed=40 + seed) for seed in range(3)]
    assert set(report.unsolved([*many, *solved[:2]])["right in"]) == {"2 of 20 runs"}
    assert report.unsolved([*many, *solved]).empty
    few = replace(runs[0], seed=9, arrays={name: values[4:] for name, values in runs[0].answers.items()})
    (row,) = report.unsolved([*runs, few]).to_dict("records")
    assert row["right in"] == "0 of 2 runs"  # the third was tested on other images, and is right on all
    ends = runs[0].test | {"interval95": runs[0].test["interval95"] | {"unit": "image"}}
    unknown = [replace(run, test=ends) for run in runs]
    for none in ([], runs[:1], [guesses, guesses], unknown):
        assert report.unsolved(none).empty


def test_the_page_has_both(folder):
    page = report.page(records.read_all(folder), folder)
    section = page.split("## Class by class")[1]
    hardly_any = section.split("## What hardly any network gets right")[1]
    assert len(cells(section.split("##")[0])) == 2 + 5 and "| p0 " in hardly_any


def test_the_paired_interval_holds_the_true_difference():
    """In simulated photographs of eight copies, which tend to be right together, in about 95 of 100 cases."""
    rng, photos, held = np.random.default_rng(0), pd.Series(np.repeat(np.arange(60), 8)), []
    many = rng.beta(2, 0.5, 10**6)
    true = np.mean(many**0.8 - many)
    for _ in range(300):
        share = rng.beta(2, 0.5, 60)
        a, b = (pd.Series(rng.random(480) < np.repeat(p, 8)) for p in (share**0.8, share))
        low, high = report.paired_interval(a, b, photos)
        held.append(low <= true <= high)
    assert 0.91 <= np.mean(held) <= 0.985


def test_the_paired_interval_has_a_width_where_few_photographs_differ():
    """In simulations in which a network gains one photograph of 33: often one, two or none of 60."""
    rng, photos, held = np.random.default_rng(0), pd.Series(np.repeat(np.arange(60), 8)), []
    for _ in range(300):
        gained = pd.Series(np.repeat(rng.random(60) < 0.03, 8))
        low, high = report.paired_interval(gained, pd.Series(np.zeros(480, bool)), photos)
        held.append(low <= 0.03 <= high)
        assert high - low > 0.05
    assert np.mean(held) >= 0.93
    one, nothing = pd.Series([True, True]), pd.Series([False, False])
    assert report.paired_interval(one, nothing, pd.Series(["a", "a"])) == (-1.0, 1.0)


def test_two_versions_of_the_code_in_one_row_are_named(folder):
    found = records.read_all(folder)
    assert report.mixed(found) == ""
    pair = next(pair for pair in report.by_image(found) if pair[1] and pair[0].model == "cnn")
    replace(pair[1], code="other").write()
    found = records.read_all(folder)
    assert report.mixed(found) == "Trained by two versions of the code, or on two backends: the runs of cnn."
    assert report.mixed(found) in report.page(found, folder)


def test_nothing_is_replaced_where_a_record_lacks_its_predictions(folder):
    report.write(folder)
    before = [(folder / name).read_bytes() for name in ("README.md", "leak.svg")]
    made.record(folder, "googlenet", protocol=protocols.get("paper")).write()
    (folder / "googlenet-paper-seed0.predictions.npz").unlink()
    with pytest.raises(records.RecordError, match="googlenet-paper-seed0"):
        report.write(folder)
    assert before == [(folder / name).read_bytes() for name in ("README.md", "leak.svg")]
