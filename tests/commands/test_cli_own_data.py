"""Data, tasks, losses and metrics that somebody has written, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from invocation import Invoke

PARTS = """\
import datasets
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, shape, targets_shape=(), width=4):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(shape[0], width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, inputs):
        return self.layers(inputs).squeeze(1)


class Pair(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.left = nn.Linear(shape["left"][0], classes)
        self.right = nn.Embedding(5, classes)

    def forward(self, inputs):
        return self.left(inputs["left"]) + self.right(inputs["right"])


def table(samples=64):
    inputs = torch.randn(samples, 3)  # with the seed that there is
    return (inputs, inputs.sum(1)), (inputs[:16], inputs[:16].sum(1))


def files(folder, download):
    (folder / "calls").mkdir(parents=True, exist_ok=True)
    return table()


def several():
    inputs = {"left": torch.randn(64, 3).numpy().astype("float64"), "right": torch.arange(64) % 5}
    split = (inputs, torch.rand(64, 2).round())
    return {"train": split, "test": split, "validation": split}


def named():
    features = datasets.Features(
        {"x": datasets.Value("float32"), "y": datasets.ClassLabel(names=["no", "yes"])}
    )
    columns = {"x": [0.1 * n for n in range(40)], "y": [n % 2 for n in range(40)]}
    made = datasets.Dataset.from_dict(columns, features=features)
    return {**made.train_test_split(0.25, seed=0), "collate": collate}


class Rows:
    def __len__(self):
        return 32

    def __getitem__(self, place):
        return torch.ones(3), place % 2


def unnamed():
    return Rows(), Rows()


class Classifier(nn.Linear):
    def __init__(self, shape, classes):
        super().__init__(shape[0], classes)


def collate(rows):
    left = torch.tensor([[row["x"]] * 3 for row in rows])
    right = torch.ones(len(rows), dtype=torch.long)
    return {"left": left, "right": right}, torch.tensor([row["y"] for row in rows])


def nothing():
    return None


def halves(outputs, targets):
    return (outputs - targets).abs() / 2


def fit(outputs, targets):
    return 1 - (outputs - targets) ** 2


def undefined(outputs, targets):
    return outputs * float("nan")


def spread(outputs, targets):
    return outputs.std()


def count(outputs, targets):
    return (outputs > targets).float().mean()


def both(net, x, y, *, power=2.0):
    losses = (net(x) - y).abs() ** power
    return losses, {"largest": losses.detach() * 2}


def broken(net, x, y):
    return net(x).nothing
"""
SPEC = """\
experiments:
  own:
    model: {name: parts.py:Net}
    data: {name: parts.py:table, batch_size: 16}
    task: {name: supervised, loss: parts.py:halves}
    epochs: 2
    optimizers:
      sgd: {name: sgd, lr: 0.1}
"""


@pytest.fixture
def own(deltagclip: Invoke, tmp_path: Path) -> Invoke:
    """Call the command in a folder with a spec and a file of its parts."""
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "experiments.yaml").write_text(SPEC)
    return deltagclip


def trained(own: Invoke, tmp_path: Path, *sets: str) -> tuple[str, dict[str, Any]]:
    """Train it with some settings; what is said, and the last record."""
    words = [word for each in sets for word in ("--set", each)]
    done = own("train", "own", "--force", "--data", str(tmp_path / "data"), *words)
    assert done.exit_code == 0, done.output
    [file] = (tmp_path / "runs").glob("own/sgd/*/metrics.jsonl")
    return done.output, json.loads(file.read_text().splitlines()[-1])


def test_a_metric_of_ones_own_is_shown_and_compared_by(own: Invoke, tmp_path: Path) -> None:
    metrics = "{fit: {name: parts.py:fit, better: higher}, mae: l1_loss}"
    task = f"task={{name: supervised, loss: parts.py:halves, metrics: {metrics}}}"
    said, record = trained(own, tmp_path, task)
    for name in ("train/fit", "test/fit", "test/mae"):
        assert name in said and name in record
    assert record["test/mae"] == pytest.approx(2 * record["test/loss"])
    [result] = (tmp_path / "runs").glob("own/sgd/*/result.json")
    best = json.loads(result.read_text())["best"]
    assert best["test/fit"]["value"] == max(best["test/fit"]["value"], record["test/fit"])
    compared = own("compare", "own", "--metric", "test/fit", "--at", "best", "--select-on-test")
    assert compared.exit_code == 0, compared.output
    reported = own(
        "report", "own", "--metric", "test/fit", "--target", "test/fit=-9", "--format", "none"
    )
    assert reported.exit_code == 0, reported.output
    assert "test/fit ≥ -9" in (tmp_path / "runs/own/report/report.html").read_text()


def test_a_metric_of_which_nobody_says_what_is_good_is_asked_about(
    own: Invoke, tmp_path: Path
) -> None:
    task = "task={name: supervised, loss: mse_loss, metrics: {fit: parts.py:fit}}"
    trained(own, tmp_path, task)
    refused = own("compare", "own", "--metric", "test/fit")
    assert refused.exit_code != 0
    assert "does not tell whether more of it is better" in refused.output


def test_a_metric_that_is_not_finite_is_recorded_as_nothing(own: Invoke, tmp_path: Path) -> None:
    task = "task={name: supervised, loss: mse_loss, metrics: {odd: parts.py:undefined}}"
    said, record = trained(own, tmp_path, task)
    assert record["test/odd"] is None and record["test/loss"] < 10
    assert "test/odd not finite" in said


def test_a_metric_that_is_there_is_measured_by_its_name(own: Invoke, tmp_path: Path) -> None:
    _, record = trained(
        own,
        tmp_path,
        "data={name: parts.py:named, batch_size: 16, workers: 1}",
        "model=parts.py:Pair",
        "task={name: supervised, loss: cross_entropy, metrics: {right: accuracy}}",
    )
    assert 0 <= record["test/right"] <= 1


def test_a_task_of_ones_own_names_its_arguments_as_it_likes(own: Invoke, tmp_path: Path) -> None:
    _, record = trained(own, tmp_path, "task={name: parts.py:both, power: 1.5}")
    assert record["test/largest"] == pytest.approx(2 * record["test/loss"])


def test_inputs_and_targets_are_of_any_shape(own: Invoke, tmp_path: Path) -> None:
    _, record = trained(
        own,
        tmp_path,
        "data={name: parts.py:several, batch_size: 16}",
        "model=parts.py:Pair",
        "task={name: supervised, loss: binary_cross_entropy_with_logits}",
    )
    assert record["validation/loss"] == record["test/loss"]


def test_data_are_the_same_each_time_and_have_a_folder_of_their_own(
    own: Invoke, tmp_path: Path
) -> None:
    _, first = trained(own, tmp_path, "data.name=parts.py:files")
    assert (tmp_path / "data" / "files" / "calls").is_dir()
    _, second = trained(own, tmp_path, "data.name=parts.py:files")
    assert first["test/loss"] == second["test/loss"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("data={name: parts.py:nothing, batch_size: 16}", "the function returns None"),
        ("data={name: parts.py:fit, batch_size: 16}", "'outputs' is missing"),
        ("model=parts.py:Pair", "model 'parts.py:Pair' cannot be made"),
        ("task={name: supervised, loss: cross_entropy}", "outputs must be (samples, classes)"),
        ("task={name: supervised, loss: parts.py:spread}", None),
        ("task={name: supervised, loss: parts.py:count}", "has no gradient"),
        ("task={name: supervised, loss: mse_loss, metrics: {n: parts.py:count}}", "a mean over a"),
        ("task={name: supervised, loss: mse_loss, metrics: {n: parts.py:spread}}", "on the batch"),
        ("task=parts.py:broken", "in broken: return net(x).nothing"),
        ("task={name: supervised, loss: mse_loss, metrics: {loss: l1_loss}}", "that is the loss"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_trains(
    own: Invoke, tmp_path: Path, setting: str, words: str | None
) -> None:
    done = own("train", "own", "--set", setting)
    if words is None:
        assert done.exit_code == 0, done.output
        return
    assert done.exit_code != 0
    assert words in " ".join(done.output.split()) and "Traceback" not in done.output
    assert not list((tmp_path / "runs").glob("own/sgd"))


@pytest.mark.parametrize("more", ["", ", classes: $classes"])
def test_a_model_of_classes_that_nobody_counts_is_refused_with_the_way_to_say_them(
    own: Invoke, more: str
) -> None:
    sets = ["data={name: parts.py:unnamed, batch_size: 16}", "task=classify"]
    sets += [f"model={{name: parts.py:Classifier{more}}}"]
    done = own("train", "own", *(word for each in sets for word in ("--set", each)))
    assert done.exit_code != 0
    assert "let them return 'classes' beside 'train'" in " ".join(done.output.split())
