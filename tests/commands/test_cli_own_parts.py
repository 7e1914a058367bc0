"""Experiments with parts that somebody has written, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from invocation import Invoke

PARTS = """\
from torch import nn, optim

from helper import scale


class Net(nn.Module):
    def __init__(self, shape, classes, width=4):
        super().__init__()
        inputs = shape[0] * shape[1] * shape[2]
        layers = nn.Linear(inputs, width), nn.Linear(width, classes)
        self.layers = nn.Sequential(nn.Flatten(), *layers)

    def forward(self, images):
        return self.layers(images)


class Halved(optim.SGD):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr=scale(lr))
"""
HELPER = """\
def scale(rate):
    return rate / 2


def unused(rate):
    return rate
"""
SPEC = """\
experiments:
  own:
    model: {name: parts.py:Net}
    data: {name: synthetic, batch_size: 8, size: 4, train: 16, test: 8}
    epochs: 1
    seeds: [0, 1]
    optimizers:
      mine: {name: parts.py:Halved, lr: 0.1}
"""


@pytest.fixture
def own(deltagclip: Invoke, tmp_path: Path) -> Invoke:
    """Call the command in a folder with a spec and two files of its parts."""
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "experiments.yaml").write_text(SPEC)
    return deltagclip


def states(own: Invoke) -> dict[str, str]:
    """The state of each trial of the spec, by its run folder."""
    answer = json.loads(own("status", "--json").stdout)
    return {each["folder"]: each["state"] for each in answer["trials"]}


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_own_parts_are_trained_and_compared(own: Invoke) -> None:
    done = own("sweep", "own", "--launcher", "inline")
    assert done.exit_code == 0, done.output
    assert set(states(own).values()) == {"finished"}
    compared = json.loads(own("compare", "own", "--json").stdout)
    (setting,) = compared["experiments"][0]["settings"]
    assert setting["optimizer"] == "mine" and len(setting["runs"]) == 2


def test_what_changes_no_syntax_changes_no_trial(own: Invoke, tmp_path: Path) -> None:
    before = set(states(own))
    edit(
        tmp_path / "helper.py",
        "def scale(rate):",
        "# half of it\ndef scale(\n    rate,\n):\n    'Halve it.'",
    )
    assert set(states(own)) == before
    edit(tmp_path / "helper.py", "rate / 2", "rate / 3")
    assert not set(states(own)) & before


def test_an_edit_makes_other_trials_and_is_told(own: Invoke, tmp_path: Path) -> None:
    own("sweep", "own", "--launcher", "inline", "--quiet")
    edit(tmp_path / "helper.py", "rate / 2", "rate / 4")
    done = own("sweep", "own", "--launcher", "inline")
    words = " ".join(done.output.split())
    assert (
        "parts.py:Halved and parts.py:Net changed since 2 finished trials (in helper.py: scale)"
        in words
    )
    assert "--same-code" in words
    assert list(states(own).values()).count("finished") == 4


def test_whoever_vouches_for_an_edit_keeps_the_trials(own: Invoke, tmp_path: Path) -> None:
    own("sweep", "own", "--launcher", "inline", "--quiet")
    edit(tmp_path / "helper.py", "rate / 2", "0.5 * rate")
    done = own("sweep", "own", "--launcher", "inline", "--same-code")
    assert done.exit_code == 0
    assert "started" not in done.output
    words = " ".join(done.output.split())
    assert "changed since 2 finished trials (in helper.py: scale), which count: recorded" in words
    assert list(states(own).values()) == ["finished", "finished"]
    edit(tmp_path / "helper.py", "0.5 * rate", "rate / 2")
    assert list(states(own).values()) == ["finished", "finished"]


def test_of_as_many_trials_with_other_code_the_latest_are_vouched_for(
    own: Invoke, tmp_path: Path
) -> None:
    for number in range(2, 5):
        own("sweep", "own", "--launcher", "inline", "--quiet", "--seed", "0")
        edit(tmp_path / "helper.py", f"rate / {number}", f"rate / {number + 1}")
    records = sorted(
        (json.loads(file.read_text())["time"], file)
        for file in (tmp_path / "runs" / "own" / ".code").glob("*/code.json")
    )
    own("sweep", "own", "--launcher", "inline", "--seed", "0", "--same-code")
    vouched = [bool(json.loads(file.read_text())["vouched"]) for _, file in records]
    assert vouched == [False, False, True]


def test_code_is_shown_where_nothing_else_tells_settings_apart(own: Invoke, tmp_path: Path) -> None:
    own("sweep", "own", "--launcher", "inline", "--quiet")
    edit(tmp_path / "helper.py", "rate / 2", "rate / 3")
    more = ["--set", "optimizers.mine.lr=0.2", "--set", "epochs=2"]
    own("sweep", "own", "--launcher", "inline", "--quiet", *more)

    def shown() -> list[dict[str, str]]:
        compared = json.loads(own("compare", "own", "--json").stdout)["experiments"]
        return [{**each["conditions"], **each["settings"][0]["settings"]} for each in compared]

    assert shown() == [{"epochs": "1"}, {"epochs": "2"}]
    own("sweep", "own", "--launcher", "inline", "--quiet")
    assert all("code" in each for each in shown())


def test_trials_are_run_with_the_code_that_they_were_planned_with(
    own: Invoke, tmp_path: Path
) -> None:
    """Not with that of a file which is edited in the meantime."""
    own("sweep", "own", "--launcher", "inline", "--quiet", "--seed", "0")
    (folder,) = (tmp_path / "runs" / "own" / "mine").iterdir()
    for name in ("result.json", "metrics.jsonl", "checkpoint.pt"):
        (folder / name).unlink()
    edit(tmp_path / "helper.py", "rate / 2", "rate / 0")
    worker = ["worker", str(folder), "--device", "cpu"]
    done = own(*worker)
    assert done.exit_code == 0, done.output
    assert (folder / "result.json").exists()


READERS = [
    "list",
    "list optimizers",
    "list experiments",
    "validate",
    "status",
    "compare own",
    "report own --no-open",
    "clean own --dry-run",
    "train own --dry-run",
    "sweep own --dry-run",
    "sweep own --dry-run --launcher slurm",
    "certify own",
    "reproduce own",
    "cancel own --dry-run",
    "tensorboard own --help",
]


@pytest.mark.usefixtures("fake_slurm")  # a real one that is down is waited for
@pytest.mark.parametrize("words", READERS)
def test_readers_run_no_code_of_parts(own: Invoke, tmp_path: Path, words: str) -> None:
    own("sweep", "own", "--launcher", "inline", "--quiet", "--seed", "0")
    for name in ("parts.py", "helper.py"):
        text = (tmp_path / name).read_text()
        mark = f"open({str(tmp_path / 'was-run')!r}, 'w')\nraise SystemExit(99)\n"
        (tmp_path / name).write_text(f"{mark}{text}")
    done = own(*words.split(), catch=True)
    assert done.exit_code != 99 and not (tmp_path / "was-run").exists()
    assert not isinstance(done.exception, (AssertionError, LookupError, TypeError))


FORWARD = "return self.layers(images)"
WRONG = {
    "wrong shapes": (
        FORWARD,
        "return self.layers(images[:, 0])",
        "in forward: return self.layers(images[:, 0])",
    ),
    "no gradient": (FORWARD, f"{FORWARD}.detach()", "the loss has no gradient"),
    "division": ("return rate / 2", "return rate / 0", "helper.py:2: in scale: return rate / 0"),
    "too few outputs": ("(width, classes)", "(width, classes - 1)", "Target 9 is out of bounds"),
    "no optimizer": (
        "class Halved(optim.SGD):",
        "def Halved(params, lr=0.1): return 7\nclass Other(optim.SGD):",
        "where a torch.optim.Optimizer is needed",
    ),
    "import": (
        "from helper import scale",
        "import nowhere",
        "model 'parts.py:Net' cannot be used: ModuleNotFoundError: No module named 'nowhere'",
    ),
    "key": (FORWARD, "return {}['logits']", "4): KeyError: 'logits'."),
    "exit": (FORWARD, "raise SystemExit(0)", "in forward: raise SystemExit(0)"),
    "exit where it is made": ("inputs = ", "exit(3)\n        inputs = ", "made: SystemExit: 3"),
    "script": (
        "from helper import scale",
        "from helper import scale\nraise SystemExit(2)",
        'below: if __name__ == "__main__":',
    ),
}


@pytest.mark.parametrize(("old", "new", "said"), WRONG.values(), ids=WRONG)
def test_what_fails_is_shown_with_its_line_before_anything_runs(
    own: Invoke, tmp_path: Path, old: str, new: str, said: str
) -> None:
    edit(tmp_path / ("parts.py" if old in PARTS else "helper.py"), old, new)
    done = own("sweep", "own", "--launcher", "inline")
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output and "experiments.yaml:" in done.output
    assert not list((tmp_path / "runs").glob("own/mine/*"))


def test_a_part_that_ends_the_process_fails_its_trial(own: Invoke, tmp_path: Path) -> None:
    edit(
        tmp_path / "parts.py",
        FORWARD,
        "self.calls = getattr(self, 'calls', 0) + 1\n"
        f"        if self.calls > 40:\n            raise SystemExit(0)\n        {FORWARD}",
    )
    done = own("train", "own", "--set", "epochs=30")
    assert done.exit_code == 1
    assert "the trial failed: SystemExit: 0." in done.output


def test_a_tokenizer_of_a_model_of_ones_own_is_its_own(own: Invoke, tmp_path: Path) -> None:
    edit(tmp_path / "parts.py", "class Net(nn.Module):", "class Net(nn.Module):\n    tokenizer = 7")
    assert own("sweep", "own", "--launcher", "inline", "--seed", "0").exit_code == 0


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("lrr: 0.1", "options: lr, schedule, groups, clip_grad_norm - did you mean 'lr'?"),
        ("other: 0.1", "no errors"),
        ("extra: {lrr: 0.1}", "no errors"),
    ],
)
def test_an_option_that_looks_misspelt_is_no_option_that_nobody_knows(
    own: Invoke, tmp_path: Path, option: str, said: str
) -> None:
    """Even where keywords go somewhere that cannot be followed."""
    loose = "class Loose(optim.Optimizer):\n    def __init__(self, params, lr=0.1, **more):\n"
    loose += "        super().__init__(params, {'lr': lr, **more})\n"
    (tmp_path / "parts.py").write_text(f"{PARTS}\n\n{loose}")
    edit(tmp_path / "experiments.yaml", "parts.py:Halved, lr: 0.1", f"parts.py:Loose, {option}")
    assert said in own("validate").output
