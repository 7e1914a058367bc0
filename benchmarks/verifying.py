"""``deltagclip verify`` on the report of many runs, from the start of the command to its end.

Every run folder is read anew, each file summed, and every number of the page worked out.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.harness import Figure, Session
from benchmarks.harness.commands import command, deltagclip, seconds_and_megabytes
from benchmarks.reading_runs import prepare

AGAINST = "deltagclip report on them, without figures"


def measure(session: Session) -> Iterator[Figure]:
    runs, epochs = (50, 20) if session.quick else (1_000, 100)
    prepare(session.folder, runs, epochs)
    folder = str(session.folder / "runs")
    report = command(deltagclip("report", "--runs", folder, "--format", "none"))
    report()
    verify = command(deltagclip("verify", f"{folder}/report"))
    times = session.turns({AGAINST: report, "verify": verify}, 1 if session.quick else 3)
    what = f"deltagclip verify, {runs:,} runs of {epochs} epochs"
    yield Figure(what, median(times["verify"]), unit="s")
    yield times.as_long(f"{what}, beside their report", "verify", AGAINST)
    _, memory = seconds_and_megabytes("verify", f"{folder}/report")
    yield Figure(f"{what}, memory at its peak", memory, unit="MB")
