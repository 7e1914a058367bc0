"""From words on the command line to a folder with a page, tables and figures."""

from __future__ import annotations

import webbrowser
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deltagclip_cli.commands.compare import not_ended
from deltagclip_cli.core import ExitCode, UsageError, plural, printable
from deltagclip_cli.report.appearance import Style
from deltagclip_cli.report.charts import FORMATS, figures, save
from deltagclip_cli.report.output import FileNames, plain_name, report_folder
from deltagclip_cli.report.page import all_tables, page
from deltagclip_cli.results.compare.analysis import Analysis, analyse
from deltagclip_cli.results.compare.export import json_text
from deltagclip_cli.results.compare.request import Request
from deltagclip_cli.results.compare.sensitivity import usual_heat_maps
from deltagclip_cli.results.read.run import Outcome, Reading
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.terminal.console import make_console, print_problems, shown_reading

PAGE = "report.html"


@dataclass(frozen=True)
class Figures:
    """How figures are to be written.

    Args:
        formats: endings of files.
        style: what they look like.
    """

    formats: tuple[str, ...]
    style: Style

    @classmethod
    def parse(cls, formats: str, style: Path | None) -> Figures | None:
        """``pdf,svg``; None for ``none``.

        Raises:
            UsageError: a format is not known, or the style file is wrong.
        """
        words = [word.strip().lower() for word in formats.split(",")]
        if words == ["none"]:
            if style is not None:
                raise UsageError("--style and --format none: say one of them.")
            return None
        if wrong := [word for word in words if word not in FORMATS]:
            known = ", ".join(FORMATS)
            raise UsageError(
                f"--format {formats}: {wrong[0]!r} is none of {known}; say none for no figures."
            )
        return cls(tuple(dict.fromkeys(words)), Style.read(style))


def write_report(
    place: Place,
    request: Request,
    wanted: Figures | None,
    output: Path | None,
    *,
    opens: bool,
    quiet: bool,
) -> ExitCode:
    """Write the report of the runs of a place, and say in a line what was written.

    Args:
        place: where the runs are.
        request: what is asked.
        wanted: the figures; None for none.
        output: the folder; None for the usual one.
        opens: show the page in the browser.
        quiet: say nothing but what is in doubt.

    Returns:
        Whether there was something to report: ``FAILED`` if no run has come to its end.

    Raises:
        UsageError: there are no runs, or not what is asked for, or nothing can be written.
    """
    reading = place.read(shown_reading(quiet=quiet))
    found = _answer(reading, request)
    problems = found.problems if found else reading.problems
    folder = output or _usual_folder(place)
    with report_folder(folder) as draft:
        text = page(_title(place), reading.runs, found, problems)
        (draft / PAGE).write_text(text, encoding="utf-8")
        if found is not None:
            _write_beside(draft, found, wanted)
        written = [path.relative_to(draft) for path in draft.rglob("*") if path.is_file()]
        size = (draft / PAGE).stat().st_size
    console = make_console()
    if not quiet:
        summary = _summary(folder, written, size)
        console.print(summary, soft_wrap=True)
    print_problems(problems, all_in="the page")
    if opens and not webbrowser.open((folder / PAGE).resolve().as_uri()):
        print_problems([f"--open: there is no browser here; the page is {folder / PAGE}."])
    if any(run.outcome in (Outcome.FINISHED, Outcome.DIVERGED) for run in reading.runs):
        return ExitCode.OK
    print_problems([f"{not_ended(reading.runs)} The page says what there is."])
    return ExitCode.FAILED


def _answer(reading: Reading, request: Request) -> Analysis | None:
    """What the runs came to; None if none of them has come to the end of its first epoch."""
    if not any(run.curves for run in reading.runs):
        return None
    found = analyse(reading, request)
    if request.heatmap is None:
        return replace(found, heat_maps=usual_heat_maps(found.comparisons))
    return found


def _title(place: Place) -> str:
    names = [folder.resolve().name for folder in place.folders()] if place.targets else []
    return printable(", ".join(names)) or "All experiments"


def _usual_folder(place: Place) -> Path:
    """``report/`` in the folder of a single experiment, else in the runs folder.

    What lies elsewhere, such as another program's logs, is left as it is: its report goes into a
    folder of its name in the latter, for in the runs folder itself that would be an experiment.
    """
    shared = place.runs / "report"
    if len(place.targets) != 1:
        return shared
    (folder,) = place.folders()
    if folder.resolve().parent == place.runs.resolve():
        return folder / "report"
    if folder.resolve() == place.runs.resolve():
        return shared
    return shared / plain_name(folder.resolve().name)


def _write_beside(draft: Path, found: Analysis, wanted: Figures | None) -> None:
    """Tables, figures, and every number for programs."""
    (draft / "comparison.json").write_text(json_text(found), encoding="utf-8")
    (draft / "tables").mkdir()
    names = FileNames()
    for title, table in all_tables(found):
        path = draft / "tables" / names.name(title, table.kind)
        path.with_suffix(".tex").write_text(table.latex, encoding="utf-8")
        path.with_suffix(".md").write_text(table.markdown, encoding="utf-8")
    if wanted is None:
        return
    (draft / "figures").mkdir()
    for each in figures(found, wanted.style):
        path = draft / "figures" / names.name(each.title, each.kind)
        for ending in wanted.formats:
            save(each, path.with_suffix(f".{ending}"), wanted.style)


def _summary(folder: Path, written: Sequence[Path], size: int) -> str:
    names: dict[str, set[str]] = defaultdict(set)
    endings: dict[str, set[str]] = defaultdict(set)
    for path in written:
        names[path.parts[0]].add(path.stem)
        endings[path.parts[0]].add(path.suffix[1:])
    parts = [f"{folder / PAGE} ({size / 1e6:.1f} MB)"]
    for part in ("table", "figure"):
        if found := names[f"{part}s"]:
            parts.append(f"{plural(len(found), part)} ({', '.join(sorted(endings[f'{part}s']))})")
    return ", ".join(parts)
