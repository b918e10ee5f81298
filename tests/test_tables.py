"""Tables of records."""

import numpy as np
import pytest

from bloodcell_lib import metrics, records, tables


def test_the_seeds_of_one_recipe_are_put_together():
    def record(seed: int, accuracy: float, protocol: str = "paper") -> dict:
        part = {"accuracy": accuracy}
        return {
            "model": "cnn",
            "protocol": protocol,
            "seed": seed,
            "settings": {},
            "image_size": [60, 80],
            "dataset": {"name": "own", "fingerprint": "0"},
            "validation": part,
            "test": part,
        }

    assert tables.seeds([record(0, 0.8), record(0, 0.9, "grouped")]) == ""
    lines = tables.seeds([record(0, 0.8), record(2, 0.9), record(0, 0.9, "grouped")]).splitlines()
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == ["cnn", "own", "paper", "0, 2"] + [
        "85.0 ± 7.1"
    ] * 2
    assert len(lines) == 3


def test_whole_sets_of_folds_are_put_together(tmp_path):
    rng = np.random.default_rng(0)
    labels, photos = np.arange(48) % 4, np.array([f"p{n // 4}" for n in range(48)])  # a photograph has four classes
    probabilities = rng.dirichlet(np.ones(4), 48)
    found = []
    for fold in (1, 2, 3):
        rows = np.arange(16 * (fold - 1), 16 * fold)
        kept = {
            "labels": labels[rows],
            "probabilities": probabilities[rows],
            "photos": photos[rows],
            "paths": rows.astype(str),
        }
        np.savez(tmp_path / f"{fold}.npz", **kept, **{f"validation_{name}": value for name, value in kept.items()})
        part = {
            "confusion": metrics.confusion(labels[rows], probabilities[rows]).tolist(),
            "interval95": {"unit": "photo"},
        }
        found.append(
            {
                "model": "cnn",
                "seed": 0,
                "predictions": f"{fold}.npz",
                "image_size": [60, 80],
                "settings": {"name": f"fold{fold}of3", "split": f"fold:{fold}/3"},
                "dataset": {"name": "own", "fingerprint": "0"},
                "test": part,
                "validation": part,
            }
        )
    other = found[2] | {"settings": {"name": "grouped", "split": "grouped"}}
    assert tables.folds(found[:2] + [other], tmp_path) == ""
    row = [cell.strip() for cell in tables.folds(found + [other], tmp_path).splitlines()[2].strip("|").split("|")]
    right = (probabilities.argmax(1) == labels).mean()
    assert row[:5] == ["cnn", "own", "3", "0", "60x80"] and row[5].startswith(f"{100 * right:.1f} [")
    assert row[-1] == "12"
    (tmp_path / "2.npz").unlink()
    with pytest.raises(records.RecordError, match=r"2\.npz: not the predictions of cnn"):
        tables.folds(found, tmp_path)
