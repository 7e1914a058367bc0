"""What is drawn, what is chosen, and which trials there are in a try."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import pytest
from trying_cases import like_a_rival, only, study

from deltagclip_cli.core import SpecError, UsageError
from deltagclip_cli.trying.candidate import read_candidate
from deltagclip_cli.trying.protocol import (
    DRAWS,
    MOST_ROUNDS,
    PROBLEMS,
    RIVALS,
    SCANNED,
    best_rate,
    drawn_rates,
    read_stored,
    scanned_rates,
    stored,
    tuning_seed,
)


def test_a_scan_is_of_powers_of_ten_around_the_default() -> None:
    assert scanned_rates(0.002) == [2e-6, 2e-5, 2e-4, 2e-3, 0.02, 0.2, 2.0]


def test_a_round_draws_one_rate_in_each_quarter_of_two_decades() -> None:
    for number in range(1, 20):
        places = [(math.log10(rate / 0.3) + 1) / 2 * DRAWS for rate in drawn_rates(0.3, number)]
        assert [math.floor(place + 1e-2) for place in places] == list(range(DRAWS))
    assert drawn_rates(0.3, 1) != drawn_rates(0.3, 2)


def test_the_rate_with_the_least_loss_is_chosen_and_none_of_those_that_diverged() -> None:
    assert best_rate({0.1: 2.0, 0.2: 1.0, 0.3: math.inf}) == 0.2
    assert best_rate({0.1: math.inf}) is None


def test_every_method_gets_the_same_draws_on_seeds_that_are_not_judged() -> None:
    made, _ = study("sgd", like_a_rival)
    trials = made.needed()
    of_ours = [each for each in trials if each.label == "sgd"]
    tuning = [each for each in of_ours if each.experiment.endswith("-tuning")]
    judged = [each for each in trials if not each.experiment.endswith("-tuning")]
    assert len(tuning) == len(PROBLEMS) * (SCANNED + 6 * DRAWS)
    assert {each.seed for each in tuning} == {1000, *map(tuning_seed, range(1, 7))}
    assert [each.seed for each in judged if each.label == "sgd"] == [*range(1, 7)] * 3
    assert {each.label for each in judged} == {"sgd", *RIVALS}
    assert len({each.folder for each in trials}) == len(trials) == made.most()


def test_what_is_judged_is_what_the_round_chose() -> None:
    made, answer = study("sgd", like_a_rival)
    for number in made.numbers:
        drawn = made.drawn("try-shapes", answer.candidate.method, number)
        chosen = made.chosen("try-shapes", "sgd", number)
        assert drawn is not None and chosen is not None
        assert chosen.optimizer.options["lr"] == min(drawn, key=lambda rate: drawn[rate])


def test_an_optimizer_with_a_fixed_rate_or_none_is_not_tuned() -> None:
    made, answer = study("sgd", like_a_rival, sets=("lr=0.2",))
    assert len([each for each in made.needed() if each.label == "sgd"]) == 18
    assert "The lr of sgd was fixed: nothing is drawn." in answer.tables()[1].notes
    assert answer.as_data()["draws"] == 0


@pytest.mark.parametrize(
    ("argument", "remark"),
    [("size: int = 1", "free has no lr"), ("lr=None", "The lr of free is no number by default")],
)
def test_an_optimizer_without_lr_runs_without_draws_and_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str, remark: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(
        "import torch\n"
        "class Free(torch.optim.Optimizer):\n"
        f"    def __init__(self, params, {argument}):\n"
        "        super().__init__(params, {'lr': 1.0})\n"
    )
    made, answer = study("own.py:Free", like_a_rival)
    ours = [each for each in made.needed() if each.label == "free"]
    assert len(ours) == 18
    assert {each.schedule for each in ours} == {None}
    assert answer.candidate.remarks[0].startswith(remark)
    if "lr" not in argument:
        with pytest.raises(UsageError, match="--around 1: nothing is to be scanned"):
            study("own.py:Free", like_a_rival, around=1.0)


def test_a_rate_without_a_default_is_scanned_around_one_hundredth() -> None:
    _, answer = study("gclip", like_a_rival, sets=("gamma=1",))
    assert answer.candidate.method.middle == 0.01
    assert "gclip has no default for lr" in answer.candidate.remarks[0]


@pytest.mark.parametrize(
    ("name", "sets", "words"),
    [
        ("nadamx", (), "nadamx: there is no optimizer 'nadamx'.\n  optimizers: "),
        ("gclip", (), "gclip: 'gamma' is missing.\n  deltagclip try gclip --set gamma=..."),
        ("sgd", ("momentun=1",), "sgd: unknown option 'momentun' for sgd.\n  options: lr"),
        ("sgd", ("momentum=-1",), "sgd: 'momentum' must be "),
        ("sgd", ("momentum",), "--set momentum: expected KEY=VALUE, such as --set weight_decay"),
        ("sgd", ("name=adam",), "--set name=...: the name is the first word"),
        ("own.py:Lost", (), "own.py:Lost: there is no file own.py in the folder"),
        ("nosuch:Adam", (), "nosuch:Adam: the package nosuch is not installed"),
    ],
)
def test_a_wrong_name_or_option_is_refused_without_the_problems_names(
    name: str, sets: tuple[str, ...], words: str
) -> None:
    with pytest.raises(SpecError) as refused:
        read_candidate(name, sets, None, Path("runs"))
    assert str(refused.value).startswith(words)
    assert "try-" not in str(refused.value)


def test_rivals_were_tuned_by_the_same_protocol() -> None:
    content = read_stored()
    assert (content["scanned"], content["draws"]) == (SCANNED, DRAWS)
    assert list(content["problems"]) == list(PROBLEMS)

    for problem in content["problems"].values():
        assert list(problem["rivals"]) == list(RIVALS)
        for rival in problem["rivals"].values():
            scan = {rate: math.inf if loss is None else loss for rate, loss in rival["scan"]}
            assert list(scan) == scanned_rates(1e-3)  # the default of both
            middle = best_rate(scan)
            assert middle is not None
            chosen = statistics.median(each["chosen"] for each in rival["rounds"])
            assert middle / 10**0.5 < chosen < middle * 10**0.5 or middle not in (
                min(scan),
                max(scan),
            )
            assert len(rival["rounds"]) == MOST_ROUNDS
            for number, each in enumerate(rival["rounds"], start=1):
                drawn = {rate: math.inf if loss is None else loss for rate, loss in each["draws"]}
                assert list(drawn) == drawn_rates(middle, number)
                assert each["chosen"] == best_rate(drawn)
    assert all(
        each.untrained > 1.2 * min(r.best for r in each.rivals.values())
        for each in stored().values()
    )


def test_a_study_without_an_answer_yet_needs_only_its_scan() -> None:
    made, _ = study("sgd", only("sgd", like_a_rival))
    made.loss = lambda trial, metric: None  # type: ignore[method-assign, assignment, return-value]
    assert len(made.needed()) == len(PROBLEMS) * SCANNED
    assert len(made.missing()) == 21 and made.ended() == 0
    made.loss = lambda trial, metric: 1.0 if trial.label in RIVALS else None  # type: ignore[method-assign, assignment, return-value]
    assert made.ended() == len(PROBLEMS) * len(RIVALS) * 6  # of an earlier try, with another


def test_every_experiment_has_an_example_by_which_its_code_is_kept() -> None:
    made, _ = study("sgd", like_a_rival)
    examples = {(each.experiment, each.label) for each in made.examples()}
    assert examples == {(name, "sgd") for p in PROBLEMS for name in (p, f"{p}-tuning")}
