"""``deltagclip report``: a page to send, figures for a paper, and tables beside them."""

from __future__ import annotations

import time
import webbrowser
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.commands.compare import Group, Targets, takes_request
from deltagclip_cli.core import ExitCode, UsageError, files_seen, plural, printable
from deltagclip_cli.results.compare.request import Request

if TYPE_CHECKING:
    from deltagclip_cli.results.read.tree import Place


class Checklists(StrEnum):
    """Conferences that ask for a checklist."""

    NEURIPS = "neurips"
    ACL = "acl"


@takes_request(
    heatmap=typer.Option(
        "--heatmap",
        metavar="KEY,KEY",
        help="Maps over two settings, such as lr,gamma.",
        show_default="the two with most values",
    ),
    published=None,
)
def report(
    targets: Targets = None,
    *,
    request: Request,
    group: Group = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format", metavar="pdf,png,svg|none", help="Of the figures; one or several of these."
        ),
    ] = "pdf",
    style: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A matplotlib style file, laid over the built-in one."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where to.", show_default="report/ of the experiment's folder"
        ),
    ] = None,
    checklist: Annotated[
        Checklists | None,
        typer.Option(
            "--checklist",
            metavar="neurips|acl",
            help="Fill that of a conference, beside the page and in it.",
        ),
    ] = None,
    opens: Annotated[
        bool, typer.Option("--open", help="Show the page in the web browser.")
    ] = False,
    runs: options.Runs = options.RUNS,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write a web page with the answer, and figures for a paper.

    The page is one file that needs no network: send it, keep it. Reads run folders of this program,
    and logs of others: TensorBoard, CSV, W&B, MLflow.
    """
    from deltagclip_cli.report.appearance import Style
    from deltagclip_cli.report.output import report_folder
    from deltagclip_cli.report.page import PAGE, answered, write_files
    from deltagclip_cli.report.record import record_of
    from deltagclip_cli.results.read.run import Outcome, not_ended
    from deltagclip_cli.results.read.tree import Place
    from deltagclip_cli.terminal.console import make_console, print_problems, read_shown

    formats = _formats(format_, style)
    look = Style.read(style) if formats else None
    place = Place(targets or (), runs, group, read_at=time.time())
    with files_seen() as seen:
        reading = read_shown(place, quiet=quiet)
        answer = answered(reading, request)
        folder = output or _usual_folder(place)
        with report_folder(folder) as draft:
            record = partial(record_of, place, request, reading, seen, folder / PAGE)
            write_files(draft, _title(place), reading, answer, formats, look, record, checklist)
            written = _summary(folder / PAGE, draft)
    if not quiet:
        make_console().print(written, soft_wrap=True)
    print_problems(answer.problems if answer else reading.problems, all_in="the page")
    if opens and not webbrowser.open((folder / PAGE).resolve().as_uri()):
        print_problems([f"--open: there is no browser here; the page is {folder / PAGE}."])
    if not any(run.outcome in (Outcome.FINISHED, Outcome.DIVERGED) for run in reading.runs):
        print_problems([f"{not_ended(reading.runs)} The page says what there is."])
        raise typer.Exit(ExitCode.FAILED)


def _formats(words: str, style: Path | None) -> list[str]:
    """Return the formats of figures, such as ``pdf,svg``; none for ``none``."""
    from deltagclip_cli.report.charts import FORMATS

    formats = [word.strip().lower() for word in words.split(",")]
    if formats == ["none"]:
        if style is not None:
            raise UsageError("--style and --format none: say one of them.")
        return []
    if wrong := [each for each in formats if each not in FORMATS]:
        known = ", ".join(FORMATS)
        raise UsageError(
            f"--format {words}: {wrong[0]!r} is none of {known}; say none for no figures."
        )
    return list(dict.fromkeys(formats))


def _title(place: Place) -> str:
    names = [folder.resolve().name for folder in place.folders()] if place.targets else []
    return printable(", ".join(names)) or "All experiments"


def _usual_folder(place: Place) -> Path:
    """Return ``report/`` in the folder of a single experiment, else in the runs folder.

    What lies elsewhere, such as another program's logs, is left as it is: its report goes into a
    folder of its name in the latter, for in the runs folder itself that would be an experiment.
    """
    from deltagclip_cli.report.output import plain_name

    shared = place.runs / "report"
    if len(place.targets) != 1:
        return shared
    (folder,) = place.folders()
    if folder.resolve().parent == place.runs.resolve():
        return folder / "report"
    if folder.resolve() == place.runs.resolve():
        return shared
    return shared / plain_name(folder.resolve().name)


def _summary(page: Path, draft: Path) -> str:
    """Say in a line what was written."""
    parts = [f"{page} ({(draft / page.name).stat().st_size / 1e6:.1f} MB)"]
    for part in ("table", "figure"):
        if files := [path for path in (draft / f"{part}s").glob("*") if path.is_file()]:
            endings = ", ".join(sorted({path.suffix[1:] for path in files}))
            parts.append(f"{plural(len({path.stem for path in files}), part)} ({endings})")
    return ", ".join(parts)
