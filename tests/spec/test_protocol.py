"""A protocol is fair, or says why it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_spec import TINY, faults_of_text, write_spec

from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.tuning.studies import Tuning

SPACE = "{lr: {log_uniform: [1e-2, 10]}}"


def text(protocol: str, space: str) -> str:
    space = f"delta-gclip: {SPACE}, {space}"
    return f"{TINY}    protocol: {{{protocol}}}\n    search: {{space: {{{space}}}}}\n"


def experiment(folder: Path, protocol: str, space: str) -> Experiment:
    return load_spec(write_spec(folder, text(protocol, space))).experiments["tiny"]


def test_a_protocol_says_by_what_its_search_judges(tmp_path: Path) -> None:
    found = experiment(tmp_path, "draws: 4, metric: test/accuracy", f"sgd: {SPACE}")
    assert found.protocol is not None and found.search is not None
    assert (found.search.metric, found.search.direction) == ("test/accuracy", "maximize")
    assert (found.protocol.fresh_seeds, found.protocol.studies) == (10, 1)


@pytest.mark.parametrize(
    ("protocol", "space", "fault"),
    [
        ("draws: 4, metric: test/loss", "adam: {fixed: true}", "no optimizer 'adam'"),
        ("draws: 4, metric: tst/loss", f"sgd: {SPACE}", "'metric' must be"),
        ("draws: 0, metric: test/loss", f"sgd: {SPACE}", "'draws' must be"),
        ("draws: 4, metric: test/loss, sampler: tpe", f"sgd: {SPACE}", "hangs on those before"),
        ("draws: {gd: 4}, metric: test/loss", f"sgd: {SPACE}", "no optimizer 'gd'"),
        ("draws: 4, metric: test/loss, baseline: gd", f"sgd: {SPACE}", "no optimizer 'gd'"),
        ("draws: 4, metric: test/loss", "sgd: {fixed: yes}", "fixed: true takes an optimizer"),
    ],
)
def test_a_wrong_protocol_is_a_fault(tmp_path: Path, protocol: str, space: str, fault: str) -> None:
    found = faults_of_text(tmp_path, text(protocol, space))
    assert any(fault in each for each in found)
    assert not any("is missing" in each for each in found), "of the search, which has no metric"


TWO = TINY + "      other: {name: sgd, lr: 1}\n"


def two(protocol: str, space: str) -> str:
    search = f"    search: {{space: {{delta-gclip: {SPACE}, {space}}}}}\n"
    return f"{TWO}    protocol: {{{protocol}, metric: test/loss}}\n{search}"


def test_every_optimizer_needs_a_space_and_as_many_draws_as_the_others(tmp_path: Path) -> None:
    (lacking,) = faults_of_text(tmp_path, two("draws: 4", f"sgd: {SPACE}"))
    assert "other has no search space" in lacking
    both = f"sgd: {SPACE}, other: {SPACE}"
    (unequal,) = faults_of_text(tmp_path, two("draws: {delta-gclip: 4, sgd: 4, other: 50}", both))
    assert "sgd has 4 draws, another one 50" in unequal and "unequal: 'the reason'" in unequal
    (fixed,) = faults_of_text(tmp_path, two("draws: 4", f"sgd: {SPACE}, other: {{fixed: true}}"))
    assert "other has 1 draw, another one 4" in fixed
    said = two("draws: {delta-gclip: 4, sgd: 4, other: 50}, unequal: tuned by its authors", both)
    assert load_spec(write_spec(tmp_path, said)).experiments["tiny"].protocol is not None


def test_a_seed_that_is_there_twice_is_refused_where_it_stands(tmp_path: Path) -> None:
    said = text("draws: 4, metric: test/loss, seeds: [3, 0, 3]", f"sgd: {SPACE}")
    (fault,) = faults_of_text(tmp_path, said)
    line = said[: said.index("seeds:")].count("\n") + 1
    assert f"spec.yaml:{line}:" in fault
    assert "seed 3 is there twice, and would be run once." in fault
    assert "write each seed once" in fault


def test_studies_share_neither_draws_nor_seeds(tmp_path: Path) -> None:
    words = "draws: 3, studies: 2, seeds: [0, 4], fresh_seeds: 2, metric: test/loss"
    tuning = Tuning.of("tiny", experiment(tmp_path, words, f"sgd: {SPACE}"))
    assert [tuning.search_seeds(study) for study in (0, 1)] == [[0, 4], [7, 11]]
    assert [tuning.fresh_seeds(study) for study in (0, 1)] == [[5, 6], [12, 13]]
    rates = [draw.options["lr"] for draw in tuning.draws]
    assert len(set(rates)) == 2 * 2 * 3


def test_the_first_draws_do_not_hang_on_how_many_follow(tmp_path: Path) -> None:
    for sampler in ("sobol", "random"):
        few, many = (
            Tuning.of(
                "tiny",
                experiment(
                    tmp_path, f"draws: {n}, sampler: {sampler}, metric: test/loss", f"sgd: {SPACE}"
                ),
            ).draws
            for n in (3, 9)
        )
        assert [each for each in many if each.number < 3] == few
