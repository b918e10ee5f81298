"""A stranger adds a tenth network and a second data set from outside the project, in a script of a few lines."""

import os
import subprocess
import sys
from pathlib import Path

from conftest import make_set

SCRIPT = """
from keras import Model, layers
from bloodcell_lib import cards, dataset, models, protocols, records, training
from bloodcell_lib.command import tables

@models.register(models.Card(name="tiny", title="Tiny", year=2026, paper="none", idea="Average, then decide.",
                             parameters=16, min_side=8, preprocessing="none"))
def tiny(inputs, num_classes, weights):
    average = layers.GlobalAveragePooling2D(name="pool")(inputs)
    return Model(inputs, layers.Dense(num_classes, "softmax", name="probabilities")(average), name="tiny")

cards.register(cards.DataCard(name="mine", title="Mine", classes=("band", "blast"), counts={"": (30, 30)},
                              about="Cells.", comparable="", licence="mine", places=("SET",)))
protocol = protocols.get("quick", image_size=(24, 32), epochs=1)
data = dataset.load("mine", **protocol.data)
for name in ("cnn", "tiny"):
    run = training.fit(models.build(name, protocol.image_size, len(data.classes)), data, protocol, out="out")
    training.evaluate(run, data).write()
print(tables.text(tables.runs(records.comparable("out", protocol))))
"""


def test_a_tenth_network_and_a_second_set_are_trained_compared_and_tabulated(tmp_path):
    folder = make_set(tmp_path / "cells", splits=("",), classes=("blast", "band"), each=30)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("SET", str(folder)))
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")][:3] for row in rows[2:]]
    assert cells == [[name, "mine", "quick-image_size=24x32-epochs=1"] for name in ("cnn", "tiny")]
    assert (tmp_path / "out/tiny-quick-image_size=24x32-epochs=1-seed0.json").exists()
