"""``deltagclip reproduce``: the paper's figures and ours."""

from __future__ import annotations

import json
from pathlib import Path

from invocation import Invoke
from run_cases import lines, make_run, record
from tiny_spec import TINY, trials_of

SHIPPED = Path(__file__).parents[2] / "experiments.yaml"


def test_every_figure_has_its_command_and_is_not_run(deltagclip: Invoke) -> None:
    done = deltagclip("reproduce", "--spec", str(SHIPPED))
    assert done.exit_code == 0
    assert "deltagclip sweep vit-small-cifar10" in done.stdout
    assert "not run" in done.stdout
    assert "0.7060 ± 0.0019" in done.stdout


def test_runs_of_an_experiment_are_counted(deltagclip: Invoke, tmp_path: Path) -> None:
    text = TINY.replace("tiny:", "tiny:\n    figure: A small figure", 1)
    spec = Path("figures.yaml")
    spec.write_text(text, encoding="utf-8")
    trials = trials_of(tmp_path, text=text)
    make_run(Path("runs"), trials[0], lines(record(1), record(2)), status="finished")
    done = deltagclip("reproduce", "--spec", str(spec), "--json")
    (told,) = json.loads(done.stdout)
    assert (told["experiment"], told["figure"]) == ("tiny", "A small figure")
    assert (told["finished"], told["planned"]) == (1, len(trials))


def test_an_experiment_without_a_figure_is_refused(deltagclip: Invoke) -> None:
    done = deltagclip("reproduce", "quickstart", "--spec", str(SHIPPED))
    assert done.exit_code == 2
    assert "quickstart: this experiment says no 'figure:'" in done.stderr


def test_an_empty_file_of_figures_says_so(deltagclip: Invoke) -> None:
    Path("none.yaml").write_text(TINY, encoding="utf-8")
    done = deltagclip("reproduce", "--spec", "none.yaml")
    assert done.exit_code == 2
    assert "no experiment in none.yaml repeats a figure" in done.stderr
