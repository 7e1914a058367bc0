"""The sentences at the top of a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.stats
from made_runs import answered, curve, group, last_values, run

from deltagclip_cli.report.prose import sentences
from deltagclip_cli.results.read.run import Outcome, Run


def said(runs: Sequence[Run], **request: object) -> str:
    (comparison,) = answered(runs, **request).comparisons
    return " ".join(sentences(comparison))


GOOD = [0.90, 0.91, 0.92, 0.93, 0.94]
LIKE_IT = [0.91, 0.90, 0.93, 0.92, 0.935]
BAD = [0.50, 0.52, 0.51, 0.53, 0.55]


def test_the_best_is_named_with_its_mean_its_error_and_n() -> None:
    text = said([*last_values("adam", GOOD), *last_values("sgd", BAD)])
    assert "adam has the best test/accuracy at the last epoch: 0.9200 ± 0.0071" in text
    assert "(mean ± standard error of 5 seeds)" in text


def test_what_is_worse_is_named_with_the_difference_and_how_sure_it_is() -> None:
    text = said([*last_values("adam", GOOD), *last_values("sgd", BAD)])
    test = scipy.stats.ttest_rel(GOOD, BAD)
    low, high = test.confidence_interval()
    amount = f"0.3980 (95 % interval {low:.4f} to {high:.4f}, p = {test.pvalue:.1e}"
    assert f"sgd is worse by {amount}" in text
    assert "5 pairs by seed" in text
    assert "cannot be told" not in text


def test_what_cannot_be_told_from_the_best_is_not_called_equal() -> None:
    text = said([*last_values("adam", GOOD), *last_values("gclip", LIKE_IT)])
    assert "gclip cannot be told from adam with these seeds, which is not to say" in text
    assert "is worse" not in text


def test_less_is_better_and_worse_is_still_more_than_nothing() -> None:
    runs = [*last_values("adam", BAD), *last_values("sgd", GOOD)]
    assert "sgd is worse by 0.3980 (95 % interval 0.38" in said(runs, mode="min")


def test_what_is_further_behind_than_the_nearest_is_not_given_its_numbers() -> None:
    worst = [value / 2 for value in BAD]
    text = said([*last_values("a", GOOD), *last_values("b", BAD), *last_values("c", worst)])
    assert "b is worse by 0.3980" in text
    assert "; c is further behind." in text


def test_what_cannot_be_told_apart_may_differ_by_as_much_as_the_intervals_say() -> None:
    test = scipy.stats.ttest_rel(LIKE_IT, GOOD)
    reach = max(map(abs, test.confidence_interval()))
    text = said([*last_values("adam", GOOD), *last_values("gclip", LIKE_IT)])
    assert f"the means differ by at most {abs(np.mean(GOOD) - np.mean(LIKE_IT)):.4f}" in text
    assert f"95 % intervals of the differences reach {reach:.4f}." in text


def test_runs_that_have_ended_without_the_metric_are_not_said_to_go_on() -> None:
    lacking = [run("sgd", seed, [], train__loss=[1.0]) for seed in range(2)]
    others = last_values(group("sgd", "other"), GOOD)
    first, _ = answered([*lacking, *others]).comparisons
    assert sentences(first) == ["No run that has come to its end has test/accuracy."]


def test_one_seed_each_says_that_there_are_too_few() -> None:
    text = said([*last_values("adam", [0.9]), *last_values("sgd", [0.5])])
    assert "adam has the best test/accuracy at the last epoch: 0.9 (one seed)." in text
    assert "Of sgd there are too few seeds to tell." in text


def test_a_setting_alone_is_not_called_the_best() -> None:
    assert said(last_values("adam", GOOD)).startswith("adam has test/accuracy at the last epoch")


def test_of_many_names_only_the_first_are_said() -> None:
    runs = [each for k in range(60) for each in last_values(f"o{k}", [0.9 - k / 1e5, 0.8, 0.7])]
    assert "o1, o2, o3 and 56 others cannot be told from o0" in said(runs)


def test_runs_that_diverged_and_runs_without_a_value_are_counted() -> None:
    runs = [*last_values("adam", GOOD), run("sgd", 0, [0.1], Outcome.DIVERGED)]
    runs += [run("sgd", 1, [0.5, 0.6]), run("sgd", 2, [0.5], Outcome.FAILED)]
    text = said(runs)
    assert "Runs that diverged: 1 of 3 of sgd." in text
    assert "1 run had no value to count; the table says why." in text


def test_where_all_diverged_nothing_is_called_the_best() -> None:
    text = said([run("sgd", seed, [0.1], Outcome.DIVERGED) for seed in range(3)])
    assert text.startswith("Every run diverged.")


def test_where_nothing_has_ended_there_is_no_answer() -> None:
    text = said([run("sgd", 0, [0.1], Outcome.UNFINISHED)])
    assert text.startswith("No run has come to its end")


def clipping(floored: float) -> list[Run]:
    of = group("delta-gclip", options={"delta": 1e-3})
    shares = {
        "optim__plain_fraction": [0.0, 0.0],
        "optim__clipped_fraction": [1 - floored] * 2,
        "optim__floored_fraction": [floored] * 2,
    }
    return [run(of, seed, [0.1, 0.9], **shares) for seed in range(2)]


def test_a_floor_that_was_never_reached_is_said_in_words() -> None:
    assert "No step of delta-gclip was floored: δ was never active" in said(clipping(0.0))
    assert "never active" not in said(clipping(0.5))


def logs(name: str, ratio: float) -> list[Run]:
    return [
        Run(
            each.folder,
            each.group,
            each.seed,
            each.outcome,
            "",
            {**each.curves, "grad_clip_ratio": curve([1.0, ratio])},
        )
        for each in last_values(name, [0.9, 0.8])
    ]


def test_the_papers_own_logs_say_by_their_clip_ratio_that_the_floor_was_never_reached() -> None:
    text = said([*logs("vit.dgclip.0.2", 1.0), *logs("vit.adam", 1.0)])
    assert "No step of vit.dgclip.0.2 was floored: δ was never active" in text
    assert "never active" not in said(logs("vit.dgclip.0.2", 0.99))
    assert "never active" not in said(logs("vit.gclip.0.2", 1.0))  # which has no floor
