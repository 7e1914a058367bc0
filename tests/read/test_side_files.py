"""Hyperparameters in files that tools write beside the event files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from obstacles import as_nobody
from run_cases import make_events

from deltagclip_cli.results.read.grouping import Naming
from deltagclip_cli.results.read.tree import read_tree

OPTIONS = [("adam", seed) for seed in range(2)] + [("sgd", seed) for seed in range(2)]


def groups(root: Path) -> list[tuple[str, object]]:
    reading = read_tree([root], Naming())
    assert list(reading.problems) == []
    return [(run.group.name, run.seed) for run in reading.runs]


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_hydra_tells_what_was_said_to_each_of_its_jobs(tmp_path: Path) -> None:
    for number, (optimizer, seed) in enumerate(OPTIONS):
        job = tmp_path / "multirun" / "2024-01-01" / "12-00-00" / str(number)
        make_events(job / "tb", {"loss": [1]})
        put(job / ".hydra" / "overrides.yaml", f"- optimizer={optimizer}\n- +seed={seed}\n")
    assert groups(tmp_path / "multirun") == [
        ("adam", "0"),
        ("adam", "1"),
        ("sgd", "0"),
        ("sgd", "1"),
    ]


def test_lightning_tells_what_its_versions_are(tmp_path: Path) -> None:
    for number, (optimizer, seed) in enumerate(OPTIONS):
        version = make_events(tmp_path / "mnist" / f"version_{number}", {"loss": [1]})
        text = f"model:\n  optim: {optimizer}\n  lr: 0.1\nseed: {seed}\nnote: run {number}\n"
        put(version / "hparams.yaml", text)
    assert groups(tmp_path) == [
        (f"mnist model.optim={optimizer}", str(seed)) for optimizer, seed in OPTIONS
    ]


def test_ray_and_guild_tell_what_their_random_names_do_not(tmp_path: Path) -> None:
    for number, (optimizer, seed) in enumerate(OPTIONS):
        options = {"opt": optimizer, "seed": seed, "big": 2**60}
        trial = tmp_path / "ray" / f"f_a1b2c_0000{number}_{number}_2024-01-01_12-00-00"
        put(make_events(trial, {"loss": [1]}) / "params.json", json.dumps(options))
        run = tmp_path / "guild" / ".guild" / "runs" / (f"a1b2c3d{number}" * 4)
        put(make_events(run, {"loss": [1]}) / ".guild" / "attrs" / "flags", json.dumps(options))
    expected = [(f"f opt={optimizer}", str(seed)) for optimizer, seed in OPTIONS]
    assert groups(tmp_path / "ray") == expected
    assert groups(tmp_path / "guild") == [(o, str(seed)) for o, seed in OPTIONS]


@pytest.mark.parametrize(
    "content", ["", "what?", "[1, 2]", "- a\n- =\n", "a: !!python/object:x.Y {}", "a: [", "\0", "3"]
)
def test_a_file_that_says_nothing_of_use_is_no_problem(tmp_path: Path, content: str) -> None:
    for seed in range(2):
        run = make_events(tmp_path / "logs" / f"adam_seed{seed}", {"loss": [1]})
        put(run / "hparams.yaml", content)
        os.mkfifo(run / "params.json")
        (run / ".hydra" / "overrides.yaml").mkdir(parents=True)
    assert groups(tmp_path / "logs") == [("adam", "0"), ("adam", "1")]


def test_files_of_another_user_are_no_problem(open_folder: Path) -> None:
    runs = [make_events(open_folder / f"adam_seed{seed}", {"loss": [1]}) for seed in range(2)]
    closed = runs[0] / ".hydra"
    put(closed / "overrides.yaml", "- lr=1")
    closed.chmod(0o000)
    groups(open_folder)  # which loads what nobody may be kept from
    with as_nobody():
        assert groups(open_folder) == [("adam", "0"), ("adam", "1")]


def test_a_file_in_the_folder_that_is_searched_is_of_no_single_run(tmp_path: Path) -> None:
    put(tmp_path / "logs" / "hparams.yaml", "seed: 7")
    make_events(tmp_path / "logs" / "adam", {"loss": [1]})
    (run,) = read_tree([tmp_path / "logs"], Naming()).runs
    assert run.seed is None
