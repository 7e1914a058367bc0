"""Tables as Markdown and LaTeX, and numbers with the digits that mean something."""

from __future__ import annotations

import math

import pytest
from made_runs import answered, last_values

from deltagclip_cli.core import finite, short, shown_with, with_error
from deltagclip_cli.results.compare.formats import latex, markdown
from deltagclip_cli.results.compare.tables import Cell, Table, make_cells, p_value

NASTY = "a_b|c*d `e` <f> [g] 100% $x_1$ & {h} \\i #j ~k ^l δ ∞ 中"


@pytest.mark.parametrize(
    ("mean", "error", "text"),
    [
        (0.70601, 0.00196, "0.7060 ± 0.0020"),
        (0.70601, 0.0196, "0.706 ± 0.020"),
        (123.456, 7.8, "123.5 ± 7.8"),
        (123.456, 78.9, "123 ± 79"),
        (0.5, None, "0.5"),
        (0.123456, None, "0.1235"),
        (0.5, 0.0, "0.5 ± 0"),
        (0.5, 3e-9, "0.500000 ± 3.0e-09"),
        (1.234e-7, 5.6e-9, "1.234e-07 ± 5.600e-09"),
        (-0.25, 0.01, "-0.250 ± 0.010"),
        (0.0, 0.01, "0.000 ± 0.010"),
    ],
)
def test_the_standard_error_has_two_digits_and_the_mean_as_many_decimals(
    mean: float, error: float | None, text: str
) -> None:
    assert with_error(mean, error) == text


def test_what_is_not_finite_is_shown_as_such() -> None:
    show = shown_with(0.01, 0.5)
    assert [show(each) for each in (math.inf, -math.inf, math.nan)] == ["∞", "-∞", "–"]
    assert finite(None, "{:.2f}") == short(None) == p_value(None) == "–"


def test_a_small_p_value_keeps_its_order() -> None:
    assert [p_value(p) for p in (1.0, 0.04567, 0.001, 0.00099)] == [
        "1.0000",
        "0.0457",
        "0.0010",
        "9.9e-04",
    ]


def table(*rows: list[Cell]) -> Table:
    return Table("A title_1", ["name", "p %"], rows, ["One note.", "Another_one."])


def test_markdown_is_a_table_of_github_s_with_what_means_something_there_escaped() -> None:
    best = [Cell("a|b", is_best=True), Cell("1", "[0, 2]", is_best=True)]
    assert markdown([table(best, make_cells(["c_d", "-3"]))]) == (
        "### A title\\_1\n\n"
        "| name | p % |\n"
        "| --- | ---: |\n"
        "| **a\\|b** | **1 \\[0, 2\\]** |\n"
        "| c\\_d | -3 |\n\n"
        "One note.  \nAnother\\_one.  \n"
    )


def test_latex_has_the_rules_of_booktabs_and_real_minus_signs() -> None:
    best = [Cell("a&b", is_best=True), Cell("-1", "[-2, 1e-05]")]
    text = latex([table(best)])
    assert text.splitlines()[5:] == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"name & p {\%} \\",
        r"\midrule",
        r"\textbf{a{\&}b} & {\ensuremath{-}}1 {[}{\ensuremath{-}}2, 1e-05{]} \\",
        r"\bottomrule",
        r"\end{tabular}}\par\smallskip",
        r"{\footnotesize One note. Another{\_}one.\par}",
        r"\end{table}",
    ]


def test_a_latex_table_that_is_longer_than_a_page_goes_on_to_the_next() -> None:
    text = latex([table(*[make_cells(["a", "1"])] * 41)])
    assert r"\begin{longtable}{lr}" in text
    assert r"\begin{table}" not in text
    assert text.count(r"a & 1 \\") == 41


def test_no_name_breaks_a_table() -> None:
    for name in (NASTY, "", "\\", "**bold**"):
        for text, ends in (
            (markdown([table(make_cells([name, "1"]))]), "|"),
            (latex([table()]), ""),
        ):
            rows = [each for each in text.splitlines() if each.startswith("|")]
            assert all(each.replace("\\|", "").count("|") == 3 for each in rows)
            assert all(each.endswith(ends) for each in rows)
    written = latex([table(make_cells([NASTY, "1"]))])
    row = next(each for each in written.splitlines() if each.startswith("a"))
    assert row.replace("\\&", "").count("&") == 1
    assert not set("δ∞中") & set(row)


def test_the_best_is_bold_and_everything_is_marked() -> None:
    runs = last_values("good", [0.9, 0.91, 0.92]) + last_values("like", [0.92, 0.89, 0.91])
    text = markdown(answered(runs).tables())
    assert "| **• good** | 3 | **0.9100 ± 0.0058** |" in text
    assert "| ≈ like | 3 | 0.9067 ± 0.0088 |" in text
    assert r"\textbf{{\textbullet} good} & 3 &" in latex(answered(runs).tables())
