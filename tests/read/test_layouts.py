"""How people lay out runs of several seeds: what is read, and which ``--group`` is suggested."""

from __future__ import annotations

import itertools
import shlex
from collections import defaultdict
from collections.abc import Iterable

import pytest
from layouts import SUGGESTED, UNDERSTOOD, Layout

from deltagclip_cli.results.read.grouping import Named, Naming
from deltagclip_cli.results.read.names import Found, Name
from deltagclip_cli.results.read.run import Option

Groups = dict[str, list[str | None]]
Options = dict[str, dict[str, Option]]


def read(
    paths: Iterable[str],
    pattern: str | None = None,
    options: dict[str, dict[str, Option]] | None = None,
) -> tuple[list[Named], list[str]]:
    options = options or {}
    found = [Found("logs", Name.of(path), options.get(path, {})) for path in paths]
    return Naming(pattern).read(found)


def groups(named: Iterable[Named]) -> Groups:
    found: Groups = defaultdict(list)
    for each in named:
        found[each.group.name].append(each.seed)
    return dict(found)


def suggested(notes: list[str]) -> str:
    """The pattern of the only ``--group`` in some sentences."""
    (note,) = notes
    _, pattern = shlex.split(note[note.index("--group ") :])
    return pattern


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_seeds_and_times_are_understood(name: str) -> None:
    layout = UNDERSTOOD[name]
    named, _ = read(layout.paths())
    assert groups(named) == layout.groups()


WORDS = ["seed{s}", "Seed_{s}", "SEED-{s}", "seed={s}", "seed:0{s}", "rng_seed {s}"]
PLACES = ["{o}_@", "@-{o}", "{o}/@", "@/{o}", "lr=0.1,@,opt={o}", "resnet18.{o}.@/b32"]
TOOLS = [
    "#",
    "#_2024-01-01_12-0{k}-00",
    "multirun/2024-01-01/12-00-0{k}/#",
    "#/lightning_logs/version_{k}",
    "#/runs/Jan01_12-0{k}-00_node{k}",
    "f_a1b2{k}_0000{k}_{k}_#_2024-01-01_12-00-00",
    "logs/#/wandb/run-20240101_12000{k}-{id}",
]


@pytest.mark.parametrize("tool", TOOLS)
def test_the_word_seed_is_understood_wherever_and_however_it_is_written(tool: str) -> None:
    for word, place in itertools.product(WORDS, PLACES):
        form = tool.replace("#", place.replace("@", word))
        found = groups(read(Layout(form, "").paths())[0])
        assert list(found.values()) == [["0", "1", "2"]] * 2, form


@pytest.mark.parametrize("name", SUGGESTED)
def test_runs_that_a_number_tells_apart_are_united_by_what_is_suggested(name: str) -> None:
    layout = SUGGESTED[name]
    named, notes = read(layout.paths())
    assert len(groups(named)) == 6
    united, _ = read(layout.paths(), suggested(notes))
    assert groups(united) == layout.groups()


@pytest.mark.parametrize("name", ["seed below", "cleanrl", "ray", "hugging face", "milliseconds"])
def test_what_is_understood_needs_no_words(name: str) -> None:
    assert read(UNDERSTOOD[name].paths())[1] == []


# ------------------------------------------------------------ when in doubt


def test_what_follows_a_host_is_never_merged_in_silence() -> None:
    """Nobody knows where the host's name ends and a comment begins."""
    paths = Layout("May19_{t}_host{o}", "").paths()
    named, notes = read(paths)
    assert groups(named) == {"hostadam": [None] * 3, "hostsgd": [None] * 3}
    assert "6 runs differ in what follows the time-stamp (hostadam, hostsgd)" in notes[0]
    assert notes[0].endswith("If they are repetitions, say with --group where the seed is")


def test_hosts_of_one_cluster_are_kept_apart_where_seeds_are_not_known() -> None:
    paths = Layout("{o}/May19_{t}_node{s}", "").paths()
    named, notes = read(paths)
    assert len(groups(named)) == 6
    united, _ = read(paths, suggested(notes))
    assert {name: len(seeds) for name, seeds in groups(united).items()} == {"adam": 3, "sgd": 3}


def test_a_learning_rate_behind_the_host_is_kept_apart_though_seeds_are_known() -> None:
    paths = [f"seed{i}/May19_14-35-0{i}_host-lr0.{i}" for i in (1, 2)]
    assert groups(read(paths)[0]) == {"host-lr0.1": ["1"], "host-lr0.2": ["2"]}


def test_short_numbers_behind_a_time_that_come_again_are_settings() -> None:
    paths = [f"a.20250519-14354{i}_{size}" for size in (16, 32) for i in range(3)]
    assert groups(read(paths)[0]) == {"a.16": [None] * 3, "a.32": [None] * 3}


def test_long_numbers_behind_a_time_that_come_again_are_settings() -> None:
    paths = [f"a.20250519-14354{i}_{size}" for size in (10000, 20000) for i in range(3)]
    assert len(groups(read(paths)[0])) == 2


def test_versions_of_one_seed_are_kept_apart() -> None:
    paths = [f"adam/seed_{s}/version_{v}" for s in range(3) for v in range(2)]
    named, notes = read(paths)
    assert groups(named) == {"adam/version_0": ["0", "1", "2"], "adam/version_1": ["0", "1", "2"]}
    assert notes == []


def test_sweeps_with_the_same_seeds_are_kept_apart_by_their_times() -> None:
    paths = [f"2024-01-01/1{hour}-00-00/seed={s}" for hour in (2, 3) for s in range(3)]
    assert groups(read(paths)[0]) == {
        "2024-01-01/12-00-00": ["0", "1", "2"],
        "2024-01-01/13-00-00": ["0", "1", "2"],
    }


def test_bare_numbers_of_several_sweeps_are_not_taken_for_one_setting() -> None:
    paths = [f"2024-01-01/1{hour}-00-00/{job}" for hour in (2, 3) for job in range(3)]
    named, notes = read(paths)
    assert len(groups(named)) == 6
    united, _ = read(paths, suggested(notes))
    assert groups(united) == {
        "2024-01-01/12-00-00": ["0", "1", "2"],
        "2024-01-01/13-00-00": ["0", "1", "2"],
    }


@pytest.mark.parametrize(
    "form",
    [
        "Jan01_{t}_host",
        "wandb/run-2024011{k}_120000-{id}",
        ".guild/runs/{id}{id}{id}{id}",
        "fit/2024011{k}-120000",
    ],
)
def test_runs_that_only_a_time_or_a_random_name_tells_apart_are_said_to_be_one(form: str) -> None:
    paths = Layout(form, "").paths()
    named, notes = read(paths)
    assert list(groups(named).values()) == [[None] * 6]
    assert "6 runs differ from others in nothing but time-stamps or random names" in notes[0]
    assert len(groups(read(paths, suggested(notes))[0])) == 6


def test_a_suggestion_leaves_out_no_run_that_was_understood() -> None:
    paths = ["adam_seed0", "adam_seed1", "PPO_1", "PPO_2", "baseline", "lion_20240101-120000"]
    _, notes = read(paths)
    assert groups(read(paths, suggested(notes))[0]) == {
        "adam_seed": ["0", "1"],
        "PPO": ["1", "2"],
        "baseline": [None],
        "lion_20240101": ["120000"],
    }


def test_decimals_are_settings_and_no_seeds() -> None:
    assert read(["lr0.1", "lr0.01", "lr1e-3", "lr1e-4", "a.0.1", "a.0.2"])[1] == []


# ----------------------------------------------------------- hyperparameters


def test_hyperparameters_give_settings_and_seeds() -> None:
    options: Options = {
        f"version_{3 * i + s}": {"lr": lr, "seed": float(s), "log_dir": f"/tmp/{i}{s}", "wd": 0.0}
        for i, lr in enumerate((0.1, 0.01))
        for s in range(3)
    }
    named, notes = read(options, options=options)
    assert groups(named) == {"logs lr=0.1": ["0", "1", "2"], "logs lr=0.01": ["0", "1", "2"]}
    assert notes == []


def test_an_optimizer_among_hyperparameters_is_the_label_where_names_have_none() -> None:
    options: Options = {
        "May19_14-35-01_host": {"optimizer": "adam"},
        "May19_14-35-02_host": {"optimizer": "sgd", "momentum": 0.9},
    }
    assert list(groups(read(options, options=options)[0])) == ["adam", "sgd momentum=0.9"]
    below = {f"x/{path}": words for path, words in options.items()}
    assert list(groups(read(below, options=below)[0])) == [
        "x optimizer=adam",
        "x optimizer=sgd momentum=0.9",
    ]


def test_a_seed_in_the_name_goes_before_one_among_hyperparameters() -> None:
    named, _ = read(["a_seed1"], options={"a_seed1": {"seed": 2.0, "data_seed": 3.0}})
    assert named[0].seed == "1"
    named, _ = read(["a"], options={"a": {"data_seed": 3.0, "seed": "2"}})
    assert named[0].seed == "2"


def test_settings_with_the_same_seed_are_not_taken_for_repetitions() -> None:
    for paths in (
        ["adam_bs16_seed0", "adam_bs32_seed0", "sgd_bs16_seed0", "sgd_bs32_seed0"],
        ["adam_bs16_seed0", "adam_bs16_seed1", "adam_bs32_seed2"],
    ):
        assert read(paths)[1] == [], paths


def test_seeds_that_files_tell_are_found_in_names_that_differ_by_them() -> None:
    paths = [f"{o}_s{s}" for o in ("adam", "sgd") for s in range(2)]
    options: Options = {path: {"seed": int(path[-1]), "opt": path[:-3]} for path in paths}
    named, notes = read(paths, options=options)
    assert len(groups(named)) == 4
    assert groups(read(paths, suggested(notes), options)[0]) == {
        "adam_s": ["0", "1"],
        "sgd_s": ["0", "1"],
    }
