"""Every number of ``deltagclip compare``, computed once more from the files of the runs."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compare_cases import Asked, assert_right, compare, look
from run_cases import finish
from tiny_spec import trials_of

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder, create
from deltagclip_cli.spec.trial import Trial

ROOT = Path(__file__).parents[2]
ASKED = [
    Asked("test/loss"),
    Asked("test/accuracy", at="best", ddof=0),
    Asked("test/accuracy", at="epoch=2"),
    Asked("test/loss", at="step=5", baseline="delta-gclip"),
    Asked("test/accuracy", at="epoch=4"),
]

# --------------------------------------------------------------- runs made of random numbers

SPEC = """\
experiments:
  tiny:
    title: Random numbers
    model: {name: mlp, hidden: [8]}
    data: {name: synthetic, batch_size: 4, size: 4, train: 8, test: 8}
    epochs: 2
    optimizers:
      adam: {name: adam, lr: 1e-3}
      sgd: {name: sgd, lr: 0.1}
      gclip: {name: gclip, lr: 0.1, gamma: 1.0}
      delta-gclip: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}
    grid:
      delta-gclip: {lr: [0.05, 0.1, 0.2]}
"""
SEEDS = {  # of each setting, in the order of the spec
    3: [range(5), [0, 1, 2, 4, 5, 6], [2], range(12), range(5), [0, 1, 8]],
    4: [[0, 1, 2, 3], range(4), range(2), [1, 2, 3], range(11), [0, 3]],
}
STATUS = {  # of epochs, setting and seed; all others finished
    (3, 4, 2): "diverged",
    (3, 4, 4): "failed",
    (3, 1, 6): "unfinished",
    (4, 0, 3): "diverged",
    (4, 4, 0): "failed",
    (4, 5, 0): "diverged",
    (4, 5, 3): "diverged",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders of two conditions with every outcome, seed counts from 1 to 12, and a grid."""
    folder = tmp_path_factory.mktemp("made")
    random = np.random.default_rng(5)
    for epochs, seeds in SEEDS.items():
        first = [t for t in trials_of(folder, f"epochs={epochs}", text=SPEC) if t.seed == 0]
        for number, (trial, own) in enumerate(zip(first, seeds, strict=True)):
            for seed in own:
                status = STATUS.get((epochs, number, seed), "finished")
                make_run(folder / "runs", trial.with_seed(seed), status, number, random)
    return folder / "runs"


def make_run(
    runs: Path, trial: Trial, status: str, level: int, random: np.random.Generator
) -> None:
    """Write a run folder by hand; one that did not finish ends an epoch early."""
    folder = RunFolder.of(runs, trial)
    create(folder, trial)
    epochs = trial.epochs if status == "finished" else trial.epochs - 1
    step = {"epoch": 0, "step": 1, "time": 0.0, "step/train/loss": 7.0}
    lines = [record(epoch, level, trial, random) for epoch in range(1, epochs + 1)]
    if status == "diverged":
        lines[-1] |= {"train/loss": None, "test/loss": None}
    text = "".join(json.dumps(line) + "\n" for line in [step, *lines])
    folder.metrics_file.write_text(text)
    if status == "failed":
        HeldFolder(folder).record_failure(ValueError("no"), "ValueError: no")
    if status in ("finished", "diverged"):
        finish(folder, status)


def record(
    epoch: int, level: int, trial: Trial, random: np.random.Generator
) -> dict[str, float | None]:
    """One epoch of two steps; accuracies have ties, losses have none."""
    loss = 2 / (epoch + 1) + 0.1 * level + 0.1 * float(random.normal())
    found: dict[str, float | None] = {
        "epoch": epoch,
        "step": 2 * epoch,
        "time": 100.0 * epoch,
        "train/loss": loss,
        "test/loss": loss + 0.05 * float(random.normal()),
        "test/accuracy": round(16 * (0.4 + 0.1 * epoch - 0.03 * level + random.normal() / 16)) / 16,
        "perf/epoch_seconds": 1 + 0.2 * level + float(random.random()),
    }
    if "gclip" in trial.label:
        shares = random.dirichlet([1, 1, 1])
        names = ("plain", "clipped", "floored")
        found |= {f"optim/{n}_fraction": float(s) for n, s in zip(names, shares, strict=True)}
    return found


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: " ".join(asked.words[:6]))
def test_every_number_is_what_the_files_say(made: Path, asked: Asked) -> None:
    asked = replace(asked, target=middle_loss(made))
    answer = json.loads(compare("--runs", str(made), "--format", "json", *asked.words))
    assert_right(answer, made, asked)


def test_the_seeds_of_the_best_and_the_worst_are_those_of_the_files(made: Path) -> None:
    shown = compare("--runs", str(made), "--format", "markdown", "--metric", "test/loss")
    found = []
    is_value_table = False
    for line in shown.splitlines():
        if line.startswith("#"):
            is_value_table = "within" not in line
        cells = [re.sub(r"[*•≈?]", "", cell).split() for cell in line.split("|")]
        if is_value_table and len(cells) == 10 and cells[6] not in (["best"], ["–"], ["---:"]):
            found.append((cells[1][0], *(cell[-1].strip("()") for cell in cells[6:8])))
    groups: dict[tuple[str, ...], list[tuple[float, str]]] = {}
    for each in look(made):
        value = each.value(Asked("test/loss"))
        if not isinstance(value, str):
            ranked = (value, str(each.seed)) if value == value else (math.inf, "diverged")
            groups.setdefault((str(each.trial["epochs"]), *each.key), []).append(ranked)
    expected = [(key[1], min(group)[1], max(group)[1]) for key, group in groups.items()]
    assert sorted(found) == sorted(expected)


def middle_loss(runs: Path) -> float:
    """A test loss that half of the runs reach, or some more."""
    lowest = [min(each.column("test/loss")) for each in look(runs) if each.status == "finished"]
    return float(np.median(lowest))


# ------------------------------------------------------------------------------ a real sweep


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment ``quickstart``, 30 epochs, five seeds, a grid for one optimizer."""
    folder = tmp_path_factory.mktemp("swept")
    words = ["sweep", "quickstart", "--spec", str(ROOT / "experiments.yaml"), "--quiet"]
    for setting in (
        "epochs=30",
        "certificate=null",  # which takes longer than all the steps
        "checkpoint.epochs=30",
        "seeds=[0, 1, 2, 3, 4]",
        "grid.delta-gclip.lr=[0.05, 0.17]",
    ):
        words += ["--set", setting]
    subprocess.run(
        [sys.executable, "-m", "deltagclip_cli", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=300,
    )
    return folder / "runs"


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        Asked("test/loss"),
        Asked("test/accuracy", ddof=0),
        Asked("test/loss", at="best", ddof=0),
        Asked("test/accuracy", at="best", baseline="delta-gclip"),
        Asked("test/loss", at="epoch=12"),
        Asked("test/accuracy", at="step=7", ddof=0),
    ],
    ids=lambda asked: " ".join(asked.words[:6]),
)
def test_every_number_of_a_sweep_is_what_its_files_say(swept: Path, asked: Asked) -> None:
    asked = replace(asked, target=middle_loss(swept))
    answer = json.loads(compare("--runs", str(swept), "--format", "json", *asked.words))
    assert_right(answer, swept, asked)
    reached = [row["reached"] for row in answer["experiments"][0]["settings"]]
    assert 0 < sum(each["count"] for each in reached) < sum(each["n"] for each in reached) == 25


@pytest.mark.slow
def test_the_shares_of_regimes_are_those_of_the_steps_that_were_counted(swept: Path) -> None:
    answer = json.loads(compare("--runs", str(swept), "--json"))
    for row in answer["experiments"][0]["settings"]:
        folders = [Path(run["folder"], "result.json") for run in row["runs"]]
        counts = [json.loads(folder.read_text())["regimes"] for folder in folders]
        if row["regimes"] is None:
            assert counts == [None] * 5
            continue
        for regime, share in row["regimes"].items():
            assert share == pytest.approx(sum(each[regime] for each in counts) / (5 * 30))
