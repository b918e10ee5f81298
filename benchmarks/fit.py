"""What `training.fit` costs per image, and how many cores it keeps busy, in turns with something else.

CPU seconds per image hold on a busy machine too; images per second and cores at work, which are CPU seconds over wall
seconds, depend on what else runs.

    python benchmarks/fit.py --torch-python ../torch-env/bin/python --out runs/fit.json

--against torch takes torchvision's networks, trained by Adam in channels_last, in an environment of their own:

    python3.11 -m venv ../torch-env
    ../torch-env/bin/pip install torch==2.14.1 torchvision==0.29.1

--against a folder takes another checkout of this library; --against mixed_bfloat16 this one in another precision;
--against NAME=VALUE,... this one with other environment variables.
"""

import argparse
import os
import tempfile
from statistics import median

from alternating import Baton, Contender, chosen, finish, in_turns, parser, spread, worker

NETWORKS = ["resnet50", "squeezenet", "googlenet", "shufflenetv2"]
PRECISIONS = ["float32", "mixed_bfloat16"]
WARM = 3


def ours(options: argparse.Namespace, baton: Baton) -> None:
    """Train by `training.fit` itself, in an epoch that is longer than all turns."""
    import suite

    from bloodcell_lib import models, protocols, training
    from bloodcell_lib.backend import keras

    keras.utils.set_random_seed(0)
    images = options.batch_size * (WARM + options.steps * (options.rounds + 1))
    data = suite.noise((images, 64, 64), (75, 100))
    network = models.build(options.networks[0], (75, 100), len(data.classes))
    how = {} if options.precision == "float32" else {"precision": options.precision}  # older checkouts know no other
    protocol = protocols.get("paper", image_size=(75, 100), batch_size=options.batch_size, epochs=1, **how)
    steps = suite.Steps(baton, options.steps, options.batch_size, WARM)
    training.fit(network, data, protocol, callbacks=[steps], out=f"{options.folder}/{os.getpid()}")


def torch(options: argparse.Namespace, baton: Baton) -> None:
    """Train a network of torchvision in the same way, its images in memory and shuffled too."""
    import torch
    from torch.nn.functional import cross_entropy
    from torchvision import models

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    build = {
        "resnet50": lambda: models.resnet50(num_classes=4),
        "squeezenet": lambda: models.squeezenet1_0(num_classes=4),
        "googlenet": lambda: models.googlenet(num_classes=4, aux_logits=True, init_weights=False),
        "shufflenetv2": lambda: models.shufflenet_v2_x1_0(num_classes=4),
    }[options.networks[0]]
    network = build().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    size, total = options.batch_size, options.batch_size * (WARM + options.steps * (options.rounds + 1))
    images = torch.randint(0, 256, (total, 75, 100, 3), dtype=torch.uint8)
    labels, order = torch.randint(0, 4, (total,)), torch.randperm(total)
    loss_sum = correct = 0.0
    for step in range(total // size):
        rows = order[step * size : (step + 1) * size]
        x, y = images[rows].permute(0, 3, 1, 2).float() / 255, labels[rows]  # a view: channels_last already
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision != "float32"):
            answers = network(x)
            main, *heads = answers if isinstance(answers, tuple) else (answers,)
            loss = cross_entropy(main, y) + 0.3 * sum(cross_entropy(head, y) for head in heads)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum, correct = loss_sum + loss.item(), correct + (main.argmax(1) == y).sum().item()
        done = step + 1 - WARM
        if done >= 0 and done % options.steps == 0:
            baton.hand_over(images=options.steps * size)
            baton.wait()


def other(options: argparse.Namespace, shared: dict) -> Contender:
    """Return what this library is measured against."""
    if options.against == "torch":
        return Contender("torch", worker(__file__, options.torch_python, worker="torch", **shared))
    if "=" in options.against:
        variables = dict(pair.split("=") for pair in options.against.split(","))
        return Contender(options.against, worker(__file__, worker="ours", **shared), environment=variables)
    if options.against in PRECISIONS:
        return Contender(options.against, worker(__file__, worker="ours", **shared | {"precision": options.against}))
    place = {"PYTHONPATH": os.path.abspath(options.against)}
    return Contender(options.against, worker(__file__, worker="ours", **shared), environment=place)


def compare(name: str, options: argparse.Namespace) -> tuple[dict, dict]:
    """Measure one network; return its row of the table, and all turns."""
    shared = {key: getattr(options, key) for key in ("steps", "rounds", "batch_size", "precision", "threads", "folder")}
    shared["networks"], threads = name, str(max(1, options.threads // options.jobs))
    limits = {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads} if options.jobs > 1 else None
    mine = Contender("ours", worker(__file__, worker="ours", **shared), options.jobs, limits)
    turns = in_turns([mine, other(options, shared)], options.rounds)
    costs = {side: [1e3 * turn["cpu"] / turn["images"] for turn in found] for side, found in turns.items()}
    rates = {side: [turn["images"] / turn["wall"] for turn in found] for side, found in turns.items()}
    cores = {side: median(turn["cpu"] / turn["wall"] for turn in found) for side, found in turns.items()}
    first, second = turns
    row: dict[str, str] = {"network": name}
    row |= {f"{side}, CPU ms/image": f"{median(values):.2f}" for side, values in costs.items()}
    row |= {"rate by CPU": spread(costs[second], costs[first])}
    row |= {f"{side}, images/s": f"{median(values):.0f}" for side, values in rates.items()}
    row |= {"rate by wall": spread(rates[first], rates[second])}
    row |= {f"{side}, cores at work": f"{value:.2f}" for side, value in cores.items()}
    return row, turns


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--networks", nargs="+", default=NETWORKS)
    options.add_argument("--against", default="torch", help="torch, a folder, or NAME=VALUE,... (default: torch)")
    options.add_argument("--torch-python", default="../torch-env/bin/python", help="default: %(default)s")
    options.add_argument("--steps", type=int, default=6, help="training steps in a turn (default: %(default)s)")
    options.add_argument("--batch-size", type=int, default=32, help="default: %(default)s")
    options.add_argument("--precision", default="float32", choices=PRECISIONS)
    options.add_argument("--threads", type=int, default=os.cpu_count(), help="of each side (default: %(default)s)")
    options.add_argument("--jobs", type=int, default=1, help="of this library at once; they share the threads")
    options.add_argument("--folder", help=argparse.SUPPRESS)
    given = options.parse_args()
    if chosen({"ours": ours, "torch": torch}, given):
        return
    with tempfile.TemporaryDirectory() as given.folder:
        rows, turns = zip(*(compare(name, given) for name in given.networks), strict=True)
        finish(given, list(rows), dict(zip(given.networks, turns, strict=True)))


if __name__ == "__main__":
    main()
