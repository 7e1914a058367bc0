"""How long a training is, and how often it is evaluated: said once, and in one unit."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_spec import TINY, faults_of_text, trial_of, trials_of

IN_STEPS = TINY.replace("epochs: 2", "steps: 50")


@pytest.mark.parametrize(
    ("text", "sets", "fault"),
    [
        (
            TINY.replace("epochs: 2", "precision: fp32"),
            [],
            "'epochs' is missing.\n  write epochs: 10, for passes over the data, or steps: 5000,",
        ),
        (
            TINY.replace("epochs: 2", "epochs: 2\n    steps: 50"),
            [],
            "epochs: 2 and steps: 50 both say how long the training is.\n  keep one of them",
        ),
        (IN_STEPS, ["steps=0"], "'steps' must be greater than 0 (got 0)."),
        (TINY, ["evaluate_every=0"], "'evaluate_every' must be greater than 0 (got 0)."),
        (TINY, ["ema=1.0"], "'ema' must be less than 1 (got 1.0)."),
        (TINY, ["ema=0"], "'ema' must be greater than 0 (got 0)."),
        (TINY, ["grid.steps=[5, 6]"], "a grid cannot vary 'steps'.\n  the length of this training"),
        (IN_STEPS, ["grid.epochs=[5]"], "a grid cannot vary 'epochs'.\n  the length of this"),
        (IN_STEPS, ["grid.steps=[5, null]"], "value 2 of 'steps' must be a valid integer"),
        (TINY, ["max_steps=5"], "unknown option 'max_steps'"),
        (TINY, ["max_steps=5"], "did you mean 'steps'?"),
        (TINY, ["eval_interval=5"], "did you mean 'evaluate_every'?"),
        (TINY, ["ema_decay=0.9"], "did you mean 'ema'?"),
    ],
)
def test_a_length_or_a_rhythm_that_is_wrong_is_refused(
    text: str, sets: list[str], fault: str, tmp_path: Path
) -> None:
    (found,) = faults_of_text(tmp_path, text, *sets)
    assert fault in found


def test_a_length_replaces_that_of_the_defaults_and_of_the_file(tmp_path: Path) -> None:
    defaults = f"defaults: {{epochs: 9}}\n{IN_STEPS}"
    assert [each.steps for each in trials_of(tmp_path, text=defaults)] == [50, 50]
    by_option = trial_of(tmp_path, "epochs=1", text=IN_STEPS)
    assert (by_option.epochs, by_option.steps) == (1, None)
    last = trial_of(tmp_path, "epochs=1", "steps=7")
    assert (last.epochs, last.steps) == (None, 7)


def test_each_of_them_makes_another_trial(tmp_path: Path) -> None:
    texts = ["steps=50", "steps=51", "evaluate_every=5", "ema=0.9", "ema=0.99", "epochs=3"]
    trials = [trial_of(tmp_path), *(trial_of(tmp_path, each) for each in texts)]
    assert len({each.identity for each in trials}) == len(trials)
    assert "ema" not in trials[0].model_dump()


@pytest.mark.parametrize("setting", ["steps: 2", "epochs: 2, evaluate_every: 1"])
def test_a_certificate_is_measured_at_epochs(setting: str, tmp_path: Path) -> None:
    settings = f"""
experiments:
  exact:
    model: {{name: mlp, hidden: [4]}}
    data: {{name: sphere, batch_size: full}}
    task: {{loss: squared, reduction: sum}}
    precision: fp64
    certificate: {{}}
    optimizers: {{sgd: {{name: sgd, lr: 0.1}}}}
    {setting.replace(", ", chr(10) + "    ")}
"""
    (fault,) = faults_of_text(tmp_path, settings)
    assert "no certificate: it is measured at every epoch" in fault


def test_a_search_may_judge_by_averaged_weights_where_there_are_some(tmp_path: Path) -> None:
    search = "\n    search: {metric: test_ema/accuracy, space: {sgd: {lr: {choice: [0.1, 1]}}}}\n"
    faults = faults_of_text(tmp_path, TINY.rstrip() + search)
    assert any("'test_ema/accuracy'" in each for each in faults)
    found = trial_of(tmp_path, "ema=0.9", text=TINY.rstrip() + search)
    assert found.ema == 0.9
