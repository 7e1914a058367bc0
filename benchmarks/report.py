"""A report beside a comparison of the same runs, both from the start of the command to its end.

The report is the whole of it: page, tables, and figures as PDF.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.harness import Figure, Session
from benchmarks.harness.commands import command, deltagclip, seconds_and_megabytes
from benchmarks.reading_runs import prepare

AGAINST = "deltagclip compare on them"


def measure(session: Session) -> Iterator[Figure]:
    runs, epochs = (20, 20) if session.quick else (200, 100)
    prepare(session.folder, runs, epochs)
    folder = str(session.folder / "runs")
    commands = {
        AGAINST: command(deltagclip("compare", "--runs", folder)),
        "report": command(deltagclip("report", "--runs", folder)),
    }
    times = session.turns(commands, 1 if session.quick else 3)
    what = f"deltagclip report on {runs} runs of {epochs} epochs"
    yield times.as_long(what, "report", AGAINST)
    _, memory = seconds_and_megabytes("report", "--runs", folder)
    yield Figure(f"{what}, memory at its peak", memory, unit="MB")
    size = (session.folder / "runs/report/report.html").stat().st_size / 1e6
    yield Figure(f"{what}, the page", size, unit="MB")
