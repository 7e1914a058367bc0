"""Tables on terminals of different widths."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from deltagclip_cli.results.compare.comparison import Standing
from deltagclip_cli.results.compare.tables import Cell, Table, make_cells
from deltagclip_cli.terminal.compare_view import print_tables

LONG = "vit-tiny_cifar.dgclip.0.2.1.0.0.001.0.0"
TABLE = Table(
    "A title",
    ["optimizer", "n", *(f"column {letter}" for letter in "abcd")],
    [
        make_cells([
            Cell(LONG, standing=Standing.BEST), "10",
            *(Cell(f"0.{i}234", f"[0.{i}111, 0.{i}999]") for i in range(4)),
        ]),
        make_cells([
            Cell("adam δ [red]x[/red]", standing=Standing.LIKE_BEST), "5", "1", "2", "3", "–",
        ]),
        make_cells(["中文", "5", "1", "2", "3", "∞"]),
    ],
    ["A note that is longer than a narrow terminal, and so goes on below on another line."],
)  # fmt: skip


def shown(width: int, *, terminal: bool = False, table: Table = TABLE) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, highlight=False)
    print_tables(console, [table])
    return file.getvalue().splitlines()


def test_where_there_is_room_everything_of_a_row_is_on_one_line() -> None:
    lines = shown(160)
    (first,) = (each for each in lines if LONG in each)
    assert first.split() == ["•", LONG, "10", *(w for i in range(4) for w in words(i))]
    assert len(lines) == 1 + 2 + 3 + 1 + 1


def words(i: int) -> list[str]:
    return [f"0.{i}234", f"[0.{i}111,", f"0.{i}999]"]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_lost(width: int) -> None:
    lines = shown(width)
    assert max(map(cell_len, lines)) <= width
    everything = "".join("".join(lines).split())
    for each in TABLE.rows:
        for cell in each[1:]:
            assert cell.text in everything
            assert cell.detail.replace(" ", "") in everything


def test_columns_that_do_not_fit_continue_below_beside_the_same_names() -> None:
    lines = shown(60)
    headers = [each.split() for each in lines if "optimizer" in each]
    assert len(headers) > 1
    titles = [word for each in headers for word in each if len(word) == 1]
    assert titles == ["n", "a", "b", "c", "d"]
    assert sum("adam δ" in each for each in lines) == len(headers)


def test_names_are_not_folded_for_a_cell_that_is_wider_than_the_terminal() -> None:
    wide = Table("t", ["optimizer", "best one"], [make_cells(["adam", "a long setting " * 9])])
    lines = shown(60, table=wide)
    assert lines[1].split() == ["optimizer", "best", "one"]
    assert max(map(cell_len, lines)) <= 60


def test_markup_in_a_name_is_text() -> None:
    assert any("[red]x[/red]" in each for each in shown(160, terminal=True))


def test_a_shade_is_a_colour_on_a_terminal_only() -> None:
    shaded = Table("t", ["a", "b"], [[Cell("x"), Cell("0.5", shade=0.9)]])
    assert any("\x1b[" in each and "0.5" in each for each in shown(80, terminal=True, table=shaded))
    assert not any("\x1b" in each for each in shown(80, table=shaded))


def test_a_table_without_marks_has_no_room_for_them() -> None:
    plain = Table("t", ["a", "b"], [make_cells(["x", "1"])])
    assert shown(80, table=plain)[1].startswith("a")
