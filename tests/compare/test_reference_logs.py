"""``deltagclip compare`` on the authors' own TensorBoard logs of ViT-Tiny."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare_cases import compare, rank_p
from scipy import stats
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SHARED = Path(__file__).parents[3] / "shared"
LOGS = SHARED / "reference" / "vit-tiny"
PAPER = SHARED / "paper.md"
ROWS = {
    "ViT-Tiny, Adam 5e-4": "vit_cifar.adam.0.0005.1.0.0.001.1e-05",
    "ViT-Tiny, δ-GClip 0.2; 1; 1e-3": "vit_cifar.dgclip.0.2.1.0.0.001.0.0",
    "ViT-Tiny, δ-GClip at η 5e-4 (too small a step)": "vit_cifar.dgclip.0.0005.1.0.0.001.1e-05",
}
TAGS = ["train_loss", "test_loss", "train_acc", "test_acc"]
NUMBER = r"(?:\d+\.\d+|\de-\d+)"
PATTERN = (
    r"^(?P<model>[^.]+)\.(?P<optimizer>adam|dgclip)"
    rf"\.(?P<lr>{NUMBER})\.(?P<gamma>{NUMBER})\.(?P<delta>{NUMBER})\.(?P<weight_decay>{NUMBER})"
    r"\.\d+-\d+_(?P<seed>\d+)$"
)

pytestmark = pytest.mark.skipif(
    not (LOGS.is_dir() and PAPER.is_file()), reason="the authors' logs are not on this machine"
)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Nothing that was read before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def published() -> dict[str, list[str]]:
    """``mean ± s.e.`` of each metric in the paper's table, by the name of the row."""
    rows = [line.strip("|\n ").split(" | ") for line in PAPER.read_text("utf-8").splitlines()]
    return {row[0]: row[2:] for row in rows if row[0] in ROWS}


def settings(*words: str) -> list[dict[str, Any]]:
    """The settings of the one experiment there is."""
    (experiment,) = json.loads(compare(str(LOGS), "--json", *words))["experiments"]
    found: list[dict[str, Any]] = experiment["settings"]
    return found


def last_values(name: str, tag: str) -> list[float]:
    """The last value of each run of a group, as TensorBoard reads it."""
    values = []
    for folder in sorted(LOGS.glob(f"{name}.2025*")):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        values.append(max(events.Scalars(tag), key=lambda event: event.step).value)
    return values


def test_the_groups_are_the_settings_of_the_authors() -> None:
    counts = {row["optimizer"]: row["summary"]["n"] for row in settings()}
    tiny = [f"vit-tiny_cifar.dgclip.0.2.1.0.{delta}.0.0" for delta in DELTAS]
    assert counts == {**dict.fromkeys(ROWS.values(), 10), **dict.fromkeys(tiny, 5)}


DELTAS = ["0.01", "0.001", "0.0001", "1e-05", "1e-06"]


@pytest.mark.parametrize("number", range(4), ids=TAGS)
def test_the_tables_show_the_figures_of_the_paper_and_their_caveats(
    number: int, published: dict[str, list[str]]
) -> None:
    words = ("--metric", TAGS[number], "--ddof", "0")
    shown = compare(str(LOGS), "--published", *words)
    assert len(published) == 3
    found = {row["optimizer"]: row["summary"] for row in settings(*words)}
    for title, name in ROWS.items():
        mean, error = (float(word) for word in published[title][number].split(" ± "))
        assert round(found[name]["mean"], 4) == mean
        assert round(found[name]["standard_error"], 4) == error
        (line,) = re.findall(rf"^.*{re.escape(name)} +10 .*$", shown, re.MULTILINE)
        assert re.search(rf" {mean:.4f} ± {error:.4f} ", line)
        setting = title.removeprefix("ViT-Tiny, ").replace("at η 5e-4", "5e-4; 1; 1e-3")
        line = rf"^{re.escape(setting)} +100 +10 +{mean:.4f} ± {error:.4f} "
        assert re.search(line, shown, re.MULTILINE)
    assert "158/157" in shown and "No step of the δ-GClip runs was floored" in shown
    assert "arXiv 2404.08624" in shown


def test_the_p_values_are_those_of_what_tensorboard_reads() -> None:
    tag = "test_acc"
    rows = {r["optimizer"]: r for r in settings("--metric", tag, "--baseline", "adam")}
    adam = last_values("vit_cifar.adam.0.0005.1.0.0.001.1e-05", tag)
    for name in ("vit_cifar.dgclip.0.2.1.0.0.001.0.0", "vit-tiny_cifar.dgclip.0.2.1.0.0.01.0.0"):
        found = rows[name]["versus_baseline"]
        ours = last_values(name, tag)
        assert len(adam) == 10 and len(ours) in (5, 10)
        expected = stats.ttest_ind(ours, adam, equal_var=False)
        assert found["design"] == "unpaired"
        assert found["t_test_p"] == pytest.approx(expected.pvalue, rel=1e-9)
        assert found["difference"] == pytest.approx(np.mean(ours) - np.mean(adam), rel=1e-9)
        p = rank_p(np.array(ours), np.array(adam), paired=False)
        assert found["rank_test_p"] == pytest.approx(p, rel=1e-9)


def test_a_pattern_tells_settings_and_leaves_the_numbers_as_they_are() -> None:
    named = {row["optimizer"]: row["summary"] for row in settings("--metric", "test_acc")}
    found = settings("--metric", "test_acc", "--group", PATTERN)
    assert len(found) == len(named) == 8
    for row in found:
        words = row["settings"]
        assert list(words) == ["model", "lr", "gamma", "delta", "weight_decay"]
        name = ".".join([words["model"], row["optimizer"], *list(words.values())[1:]])
        assert row["summary"] == named[name]
        folders = [Path(run["folder"]).name for run in row["runs"]]
        assert all(folder.startswith(name) for folder in folders)
        assert [run["seed"] for run in row["runs"]] == [each.rpartition("_")[2] for each in folders]


def test_a_map_over_two_settings_that_a_pattern_names() -> None:
    shown = compare(str(LOGS), "--metric", "test_acc", "--group", PATTERN, "--heatmap", "delta,lr")
    (line,) = [line for line in shown.splitlines() if line.startswith("1e-06 ")]
    mean = np.mean(last_values("vit-tiny_cifar.dgclip.0.2.1.0.1e-06.0.0", "test_acc"))
    assert line.split() == ["1e-06", "–", f"{mean:.4g}"]
