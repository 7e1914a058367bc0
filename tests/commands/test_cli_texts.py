"""Fine-tuning on texts from the command line, and what is said where something is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from invocation import Invoke
from tiny_data import write_bert, write_emotion

SPEC = """\
experiments:
  texts:
    model: {name: bert, pretrained: some-bert}
    data: {name: emotion, batch_size: 16}
    epochs: 1
    optimizers:
      adamw: {name: adamw, lr: 1e-3}
      delta-gclip: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}
    grid:
      data.batch_size: [16, 30]
"""
PREPARE = ("data", "prepare", "--spec", "spec.yaml", "--data", "data")
TRAIN = ("train", "texts", "--spec", "spec.yaml", "--data", "data", "--device", "cpu")


@pytest.fixture(autouse=True)
def no_determinism(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of torch last longer than a test."""
    monkeypatch.setattr("deltagclip_cli.training.assembly.choose_kernels", lambda *_: None)


@pytest.fixture
def spec(deltagclip: Invoke) -> None:
    """The spec above and its texts."""
    Path("spec.yaml").write_text(SPEC)
    write_emotion(Path("data"))


@pytest.fixture
def network(spec: None) -> None:
    """The network that the spec names, as a folder."""
    write_bert(Path("some-bert"))


@pytest.mark.usefixtures("network")
def test_prepare_cuts_texts_into_tokens_once_for_all_that_use_them(deltagclip: Invoke) -> None:
    done = deltagclip(*PREPARE)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "cutting 84 texts of emotion into tokens",
        "emotion: 60 + 24 samples of at most 14 tokens, 5.38 kB in memory, in data/emotion",
        "No job needs the network for these. Next: deltagclip sweep --spec spec.yaml --data data",
    ]
    assert len(list(Path("data/.tokens").iterdir())) == 1
    (told,) = json.loads(deltagclip(*PREPARE, "--json").stdout)
    assert (told["shape"], told["tokens"], told["classes"]) == ([14], True, 6)


@pytest.mark.usefixtures("network")
def test_another_network_cuts_anew(deltagclip: Invoke) -> None:
    write_bert(Path("other-bert"), hidden_act="relu")
    grid = "model.pretrained: [some-bert, other-bert]"
    Path("spec.yaml").write_text(SPEC.replace("data.batch_size: [16, 30]", grid))
    done = deltagclip(*PREPARE)
    assert done.exit_code == 0, done.output
    assert done.stdout.count("cutting 84 texts") == 2


@pytest.mark.usefixtures("spec")
def test_prepare_says_where_a_network_is_missing(
    deltagclip: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(name: str, **_: Any) -> str:
        raise ConnectionError("no route")

    library = pytest.importorskip("huggingface_hub", reason="the extra 'bert' is not installed")
    monkeypatch.setattr(library, "snapshot_download", unreachable)
    done = deltagclip(*PREPARE)
    assert done.exit_code == 2
    assert done.stderr.startswith(
        "error: data emotion of experiment texts: model.pretrained: 'some-bert' is neither a "
        "folder here nor in the cache of the Hugging Face hub, and downloading failed: no route.\n"
    )


@pytest.mark.usefixtures("network")
def test_a_trial_is_trained_and_nothing_of_the_library_is_shown(deltagclip: Invoke) -> None:
    done = deltagclip(*TRAIN)
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    first, *others = done.stdout.splitlines()
    second, third = [line for line in others if "--threads" not in line][:2]
    assert first.startswith("texts · adamw · seed 0")
    assert second == "cutting 84 texts of emotion into tokens"
    assert third.startswith("epoch 1/1  train/loss ")


@pytest.mark.usefixtures("spec")
def test_without_the_extra_nothing_is_started_and_its_name_is_said(
    deltagclip: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    done = deltagclip(*TRAIN)
    assert done.exit_code == 2
    assert "Install it: pip install 'deltagclip_cli[bert]'" in done.stderr
    assert not Path("runs").exists()


@pytest.mark.usefixtures("spec")
@pytest.mark.parametrize("command", ["validate", "dry-run", "list"])
def test_planning_needs_neither_the_extra_nor_the_network(
    command: str, deltagclip: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any, **__: Any) -> Any:
        pytest.fail("a pretrained network was looked for")

    monkeypatch.setattr("deltagclip_cli.parts.models.bert.find_pretrained", forbidden)
    for name in ("transformers", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, name, None)
    words = {
        "validate": ("validate", "spec.yaml"),
        "dry-run": (*TRAIN, "--dry-run"),
        "list": ("list", "models"),
    }
    done = deltagclip(*words[command])
    assert done.exit_code == 0, done.output


@pytest.mark.usefixtures("spec")
def test_a_model_without_its_network_is_a_fault_of_the_spec(deltagclip: Invoke) -> None:
    Path("spec.yaml").write_text(SPEC.replace(", pretrained: some-bert", ""))
    done = deltagclip("validate", "spec.yaml")
    assert done.exit_code == 2
    assert "spec.yaml:3:5: texts › model: 'pretrained' is missing." in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("network")
def test_a_sweep_trains_all_of_them_side_by_side(deltagclip: Invoke) -> None:
    words = ("sweep", "texts", "--spec", "spec.yaml", "--data", "data", "--jobs", "2")
    done = deltagclip(*words)
    assert done.exit_code == 0, done.output
    logs = [path.read_text() for path in Path("runs").rglob("log.txt")]
    assert len(logs) == 4
    assert not any("transformers" in log or "tokenizers" in log for log in logs)


@pytest.mark.slow
@pytest.mark.usefixtures("spec")
def test_a_sweep_without_its_network_starts_nothing(deltagclip: Invoke) -> None:
    Path("some-bert").mkdir()
    done = deltagclip("sweep", "texts", "--spec", "spec.yaml", "--data", "data", "--jobs", "2")
    assert done.exit_code == 2
    assert "missing: config.json" in done.output
    assert "Nothing was started." in done.output
    assert not Path("runs/texts").exists()
