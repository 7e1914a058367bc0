"""Checklists: what the files say, each with its source, and what they do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import METRIC, answered, group, run

from deltagclip_cli.core import MARK
from deltagclip_cli.report.checklist import FORMS, Checklist, checklist_markdown, checklist_of
from deltagclip_cli.results.read.run import Outcome

FACTS = {"Device": "cuda NVIDIA H100", "Device time": "3 h 2 min on cuda NVIDIA H100"}


def filled(name: str = "acl", **others: list[float]) -> Checklist:
    """What is filled of three seeds of an optimizer, and a run that failed."""
    lost = replace(run("sgd", 3, [0.1], Outcome.FAILED), reason="out of memory")
    runs = [*(run("sgd", seed, [0.5, 0.6 + seed / 100], **others) for seed in range(3)), lost]
    return checklist_of(name, runs, answered(runs), FACTS)


def item(checklist: Checklist, words: str) -> tuple[str, list[str]]:
    (found,) = [each for each in checklist.items if words in each.question]
    return "\n".join(line for each in found.evidence for line in each.lines), [*found.left_open]


def test_what_the_files_say_stands_below_its_question_with_its_source() -> None:
    found = filled()
    told, _ = item(found, "exact number of training")
    assert told.startswith(
        "tiny: 4 runs of 1 setting of 1 optimizer, seeds 0-3: 3 finished, 1 failed"
    )
    assert "tiny, sgd, seed 3: failed: out of memory" in told
    assert item(found, "computing infrastructure")[0] == (
        "Device: cuda NVIDIA H100\nDevice time: 3 h 2 min on cuda NVIDIA H100"
    )
    assert f"sgd: {METRIC} at the last epoch 0.6100 ± 0.0058, n = 3" in item(found, "Summary")[0]
    assert all(each.source for one in found.items for each in one.evidence)


def test_every_test_figure_has_its_validation_figure_or_is_left_open() -> None:
    words = "Corresponding validation performance"
    told, left_open = item(filled(), words)
    assert told == "" and left_open == [
        "The validation figure for each test figure: the files do not say."
    ]
    told, left_open = item(filled(validation__accuracy=[0.4, 0.5]), words)
    assert told == "sgd: validation/accuracy 0.5 ± 0, test/accuracy 0.6100 ± 0.0058"
    assert left_open == []


def test_what_the_test_set_has_chosen_has_the_mark() -> None:
    settings = [group("sgd", options={"name": "sgd", "lr": lr}, lr=str(lr)) for lr in (0.1, 1.0)]
    runs = [run(each, seed, [0.5, 0.6 + seed / 100]) for each in settings for seed in range(2)]
    found = checklist_of("acl", runs, answered(runs), FACTS)
    for words in ("method of choosing", "best-performing", "Summary"):
        assert MARK in item(found, words)[0]


@pytest.mark.parametrize("name", FORMS)
def test_what_nobody_told_is_left_open_where_it_can_be_seen(name: str, tmp_path: Path) -> None:
    text = checklist_markdown(checklist_of(name, [], None, {}))
    assert text.count("Answer: ______") == len(FORMS[name].questions)
    assert "- [ ] The number of runs and their seeds: the files do not say. ______" in text
    assert "Source:" not in text
