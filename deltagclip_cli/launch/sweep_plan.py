"""What every kind of sweep is told, and what all of them say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from deltagclip_cli.core import ExitCode, plural
from deltagclip_cli.plan.planned import Elsewhere, Estimates, Planned, longest_first, pending
from deltagclip_cli.runs.folder import State
from deltagclip_cli.runs.starts import THREADS, read_starts, threads_of
from deltagclip_cli.spec.load import Spec


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A wish for trials to be run.

    Args:
        spec: whose experiments these are.
        runs: where run folders go.
        data: where data sets lie.
        threads: of the CPU, for each trial; None for as many as usual.
        console: where everything for people goes.
        retry_failed: run failed trials again.
        force: run all trials again.
        ask: ask before results are replaced.
        as_json: print the answer as JSON on stdout.
        quiet: print warnings and errors only.
        options: of the command line, that other commands need to mean the same experiments.
    """

    spec: Spec
    runs: Path
    data: Path
    console: Console
    threads: int | None = None
    retry_failed: bool = False
    force: bool = False
    ask: bool = False
    as_json: bool = False
    quiet: bool = False
    options: Sequence[str] = ()

    def ordered(self, planned: Sequence[Planned]) -> tuple[list[Planned], Estimates]:
        """The trials to run, in their order, and what is known of their times."""
        todo = pending(planned, retry_failed=self.retry_failed, force=self.force)
        estimates = Estimates(planned if todo else ())
        return longest_first(todo, estimates), estimates

    def check_force(self, todo: Sequence[Planned]) -> None:
        """Say how many results are replaced, and ask whoever can answer.

        Raises:
            typer.Exit: the answer was no.
        """
        results = sum(each.result is not None for each in todo)
        if results:
            self.say(f"--force replaces {plural(results, 'result')}.")
            if self.ask and not typer.confirm("Go on?", err=self.as_json):
                raise typer.Exit(ExitCode.FAILED)

    def tell_of_threads(self, todo: Sequence[Planned]) -> None:
        """Say which trials go on with other threads than those that are begun now."""
        wanted = self.threads or THREADS
        begun = (each for each in todo if each.state is not State.NEW and not each.afresh)
        kept = [threads_of(read_starts(each.folder)) for each in begun]
        for threads, count in Counter(each for each in kept if each not in (None, wanted)).items():
            self.say(
                f"Begun with {plural(threads, 'thread')}, and going on with as many: {count} of "
                f"{plural(len(todo), 'trial')}. New ones get {wanted}, or --threads N."
            )

    def warn_of(self, elsewhere: Elsewhere) -> None:
        """Say why the queue of a cluster could not be asked, if it could not."""
        if elsewhere.problem:
            self.say(f"Slurm cannot be asked what is queued: {elsewhere.problem}")

    def say(self, line: str) -> None:
        """Print a line for people."""
        if not self.quiet:
            self.console.print(Text(line), soft_wrap=True)
