"""``compare``, as an object with every number behind its tables."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deltagclip_cli.api.argument_types import checked
from deltagclip_cli.core import Mode, UsageError
from deltagclip_cli.results.compare.request import Request

if TYPE_CHECKING:
    from pandas import DataFrame

    from deltagclip_cli.results.compare.analysis import Analysis
    from deltagclip_cli.results.compare.tables import Cell, Table
    from deltagclip_cli.results.read.run import Reading
    from deltagclip_cli.results.tidy import TidyRow

_FORMS = ("table", "csv", "json", "markdown", "latex")
_LEFT, _LEFT_HEADING = '<td style="text-align:left">', '<th style="text-align:left">'
_COLUMNS = 160  # of a table that goes into a file


@checked
def compare(
    *targets: str | Path,
    runs: str | Path = "runs",
    group: str | None = None,
    metric: str | None = None,
    at: str = "last",
    baseline: str | None = None,
    target: str | Sequence[str] | None = None,
    interval: bool = False,
    ddof: Literal[0, 1] = 1,
    mode: Literal["min", "max"] | None = None,
    heatmap: str | None = None,
    within: str | float = "1%",
    published: bool = False,
    select_on_test: bool = False,
) -> Compared:
    """Compare optimizers over seeds: means, medians, tests, and what they cost.

    ::

        compare("quickstart", metric="train/loss", baseline="adam")

    shows the tables in a notebook or at a prompt; ``.frame()`` has their numbers.

    Args:
        targets: experiments of the runs folder, or folders with runs of this program or with logs
            of another; none for all experiments.
        runs: the runs folder.
        group: how other people's runs are named, a regular expression with named groups.
        metric: what to compare; by default ``test/accuracy`` or ``test/loss``.
        at: when the metric is read: ``last``, ``best``, ``epoch=N`` or ``step=N``.
        baseline: the label of an optimizer, against which every other one is tested.
        target: ``METRIC=VALUE``, to show what it took to reach it; ``EXPERIMENT:METRIC=VALUE`` for
            one experiment, or several of these.
        interval: show means with 95 % intervals instead of standard errors.
        ddof: of the standard error; 0 is the paper's.
        mode: which values of the metric are good, ``min`` or ``max``; by default by its name.
        heatmap: two settings, such as ``lr,gamma``, for a map.
        within: how far from the best a good setting may be: ``0.01`` or ``"1%"``.
        published: add what the paper's authors got.
        select_on_test: choose by the test set where there is no validation split.

    Raises:
        UsageError: the question is wrong or does not fit the runs, or there are none.
        NotYetError: no trial there has begun yet.
    """
    targeted = [target] if isinstance(target, str) else target
    request = Request(
        metric=metric,
        at=at,
        baseline=baseline,
        target=None if targeted is None else list(targeted),
        interval=interval,
        ddof=ddof,
        mode=None if mode is None else Mode(mode),
        heatmap=heatmap,
        within=str(within),
        published=published,
        select_on_test=select_on_test,
    )
    return answer([str(each) for each in targets], Path(runs), group, request)


def answer(targets: Sequence[str], runs: Path, group: str | None, request: Request) -> Compared:
    """Answer a request about some runs, which are named as :func:`compare` has them."""
    from deltagclip_cli.results.compare.analysis import analyse
    from deltagclip_cli.results.read.tree import Place

    reading = Place(targets, runs, group).read()
    return Compared(reading, analyse(reading, request))


@dataclass(frozen=True, eq=False, repr=False)
class Compared:
    """The answer of :func:`compare`; it shows its tables, and has all numbers behind them."""

    reading: Reading  # the runs that were compared
    analysis: Analysis  # every number, as objects

    def tables(self) -> list[Table]:
        """Return everything as tables of texts, in the order in which they are read."""
        return self.analysis.tables()

    def frame(self) -> DataFrame:
        """Return a frame with a row for each setting, as ``compare --format csv`` has it."""
        from deltagclip_cli.api.all_runs import as_frame

        return as_frame(self.rows(), "rows()")

    def rows(self) -> list[TidyRow]:
        """Return :meth:`frame` as dictionaries, without pandas; None where there is nothing."""
        from deltagclip_cli.results.compare.formats import setting_rows

        return setting_rows(self.analysis)

    def data(self) -> dict[str, Any]:
        """Return everything as plain data, as ``compare --json`` has it, with each run's value."""
        from deltagclip_cli.results.compare.formats import everything

        return everything(self.analysis)

    def text(self, form: str = "table") -> str:
        """Return what ``compare --format`` writes.

        Args:
            form: ``table``, ``csv``, ``json``, ``markdown`` or ``latex``.
        """
        from deltagclip_cli.results.compare.formats import csv_text, json_text, latex, markdown

        match form:
            case "table":
                return self._shown(_COLUMNS)
            case "csv":
                return csv_text(self.analysis)
            case "json":
                return json_text(self.analysis)
            case "markdown":
                return markdown(self.tables())
            case "latex":
                return latex(self.tables())
        raise UsageError(f"There is no form {form!r}.\n  forms: {', '.join(_FORMS)}")

    @property
    def has_ended(self) -> bool:
        """Any run has come to its end, or diverged, so that there is something to say."""
        from deltagclip_cli.results.read.run import Outcome

        has_values = any(row.values for each in self.analysis.comparisons for row in each.rows)
        return has_values or any(run.outcome is Outcome.DIVERGED for run in self.reading.runs)

    @property
    def problems(self) -> list[str]:
        """A sentence on each thing that could not be read or is in doubt."""
        from deltagclip_cli.results.read.run import not_ended

        return [
            *self.analysis.problems,
            *([] if self.has_ended else [not_ended(self.reading.runs)]),
        ]

    def __repr__(self) -> str:
        return "\n".join([self._shown(shutil.get_terminal_size().columns), *self.problems])

    def _repr_html_(self) -> str:
        problems = "".join(f"<p>{escape(each)}</p>" for each in self.problems)
        return "".join(map(_html, self.tables())) + problems

    def _shown(self, columns: int) -> str:
        from deltagclip_cli.terminal.compare_view import print_tables
        from deltagclip_cli.terminal.console import Console

        file = io.StringIO()
        console = Console(
            file=file, width=columns, highlight=False, color_system=None, force_jupyter=False
        )
        print_tables(console, self.tables())
        return file.getvalue()


def _html(table: Table) -> str:
    """Return a table for a notebook, in its own colours, numbers to the right."""
    first, *others = table.headings
    head = f"{_LEFT_HEADING}{escape(first)}</th>"
    head += "".join(f"<th>{escape(each)}</th>" for each in others)
    rows = [_html_name(row[0]) + "".join(map(_html_cell, row[1:])) for row in table.rows]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    notes = "".join(f"<small>{escape(note)}</small><br>" for note in table.notes)
    return (
        f"<p><b>{escape(table.title)}</b></p><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table><p>{notes}</p>"
    )


def _html_name(cell: Cell) -> str:
    text = escape(f"{cell.mark} {cell.whole}".strip())
    return f"{_LEFT}{f'<b>{text}</b>' if cell.is_best else text}</td>"


def _html_cell(cell: Cell) -> str:
    text = escape(cell.whole)
    return f"<td>{f'<b>{text}</b>' if cell.is_best and text else text}</td>"
