"""The tables of a report, as they are copied and as they lie beside the page."""

from __future__ import annotations

import csv
import io

from made_runs import answered, group, last_values

from deltagclip_cli.report.page import tables_across, tables_of

ACCURACIES = [0.123456789012345, 0.2, 0.3]


def test_the_tables_of_a_comparison_begin_with_its_values() -> None:
    answer = answered([*last_values("adam", ACCURACIES), *last_values("sgd", ACCURACIES)])
    kinds = [table.kind for table in tables_of(answer.comparisons[0], answer)]
    assert kinds == ["values", "cost"]


def test_the_values_are_copied_in_full_precision() -> None:
    answer = answered([*last_values("adam", ACCURACIES), *last_values("sgd", [0.9, 0.8])])
    (values, *_) = tables_of(answer.comparisons[0], answer)
    rows = {row["optimizer"]: row for row in csv.DictReader(io.StringIO(values.csv))}
    assert float(rows["adam"]["worst"]) == ACCURACIES[0]


def test_a_caption_does_not_repeat_the_title_of_its_section() -> None:
    answer = answered(last_values("adam", ACCURACIES))
    captions = [table.caption for table in tables_of(answer.comparisons[0], answer)]
    assert captions == ["test/accuracy at the last epoch", "Cost"]


def test_each_comparison_and_all_of_them_together_have_tables() -> None:
    runs = [
        each
        for experiment in ("one", "two")
        for name in ("adam", "sgd")
        for each in last_values(group(name, experiment), ACCURACIES)
    ]
    answer = answered(runs)
    titles = [(c.title, table.kind) for c in answer.comparisons for table in tables_of(c, answer)]
    titles += [("", table.kind) for table in tables_across(answer)]
    assert titles == [
        ("one", "values"),
        ("one", "cost"),
        ("two", "values"),
        ("two", "cost"),
        ("", "across"),
    ]


def test_a_nasty_name_is_right_in_what_is_copied() -> None:
    name = "a&b $x_1$ 100%"
    answer = answered([*last_values(name, ACCURACIES), *last_values("sgd", [0.9, 0.8])])
    (values, *_) = tables_of(answer.comparisons[0], answer)
    assert name in {row["optimizer"] for row in csv.DictReader(io.StringIO(values.csv))}
    assert r"a{\&}b {\$}x{\_}1{\$} 100{\%}" in values.latex
