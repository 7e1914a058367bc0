"""One ``sweep --search`` in a terminal: what is run and printed, and the exit code."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import ExitCode, RunFolderError, UsageError, claimed, plural
from deltagclip_cli.launch.launcher import StayingLauncher
from deltagclip_cli.plan.planned import Estimates
from deltagclip_cli.search.problem import Subject
from deltagclip_cli.search.views import ENDS, best_table, space_table, top_table
from deltagclip_cli.terminal.streams import print_json

if TYPE_CHECKING:
    from deltagclip_cli.search.leaderboard import Placed, Standing
    from deltagclip_cli.search.study import Study, Tried

JOURNAL = "search.journal"
LOCK = ".search.lock"


@dataclass(frozen=True)
class SearchSession:
    """How a search is run and shown.

    Args:
        sweep: how its trials are.
        subjects: the optimizers whose best settings are looked for.
        settings: how many each is to be tried with, those of earlier searches included.
    """

    sweep: StayingLauncher
    subjects: Sequence[Subject]
    settings: int

    def show(self) -> int:
        """Print the spaces and how many settings were tried, start nothing; the exit code.

        Raises:
            UsageError: Optuna is not installed, or a journal is not for this search.
        """
        _require_optuna()
        from deltagclip_cli.search.study import read_tried

        tried = [read_tried(each, self._journal(each.name)) for each in self.subjects]
        if self.sweep.request.as_json:
            self._print_json(tried)
            return ExitCode.OK
        for name in self._experiments:
            rows = [(s, t) for s, t in zip(self.subjects, tried, strict=True) if s.name == name]
            self.sweep.request.console.print(space_table(name, rows, self.settings))
        return ExitCode.OK

    def run(self) -> int:
        """Search, and return the exit code.

        Raises:
            UsageError: Optuna is not installed, or a journal is not for this search.
            ClaimedError: another process searches one of the experiments.
        """
        _require_optuna()
        from deltagclip_cli.search.search_queue import SearchQueue
        from deltagclip_cli.search.study import Study

        slots = len(self.sweep.runner.slots)
        with self._claimed():
            journals = self._open_journals()
            studies = [
                Study(each, self._journal(each.name), journals[each.name]) for each in self.subjects
            ]
            queue = SearchQueue(studies, self.sweep.request.runs, self.settings, slots)
            if not queue.is_over():
                most = queue.most_trials()
                on = plural(slots, "slot")
                self._announce(studies, f"at most {plural(len(most), 'trial')} on {on}")
                tried = [trial for each in self.subjects for trial in each.extremes()]
                self.sweep.launch(queue, most, Estimates(), tried)
            return self._conclude([study.tried() for study in studies])

    @property
    def _experiments(self) -> list[str]:
        return list(dict.fromkeys(each.name for each in self.subjects))

    def _journal(self, name: str) -> Path:
        return self.sweep.request.runs / name / JOURNAL

    def _open_journals(self) -> dict[str, Any]:
        from deltagclip_cli.search.journal import open_journal

        return {name: open_journal(self._journal(name)) for name in self._experiments}

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        with ExitStack() as claims:
            for name in self._experiments:
                folder = self.sweep.request.runs / name
                message = (
                    f"{folder}: another process searches this experiment.\n"
                    "  Wait until it has ended, or stop it: the search can be continued."
                )
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    claims.enter_context(claimed(folder / LOCK, message))
                except OSError as error:
                    raise RunFolderError(
                        f"{folder}: cannot be made or written: {error.strerror}.\n"
                        "  Free space or permissions there, or name another folder with --runs DIR."
                    ) from None
            yield

    def _announce(self, studies: Sequence[Study], most: str) -> None:
        for study in studies:
            name = f"{study.subject.name} · {study.subject.label}"
            self.sweep.say(f"{name}: {study.ended} of {plural(self.settings, 'setting')} ended")
        self.sweep.say(most)

    def _conclude(self, tried: Sequence[Sequence[Tried]]) -> int:
        from deltagclip_cli.search.leaderboard import take_stock

        standings = [
            take_stock(subject, each, self.sweep.request.runs)
            for subject, each in zip(self.subjects, tried, strict=True)
        ]
        if self.sweep.request.as_json:
            print_json({"searches": [_searched(each, self.settings) for each in standings]})
        elif not self.sweep.request.quiet:
            for name in self._experiments:
                self._print_standings(name, [s for s in standings if s.subject.name == name])
        return self._exit_code(standings)

    def _exit_code(self, standings: Sequence[Standing]) -> int:
        if self.sweep.stop.signal == signal.SIGINT:
            return ExitCode.INTERRUPTED
        if self.sweep.stop.signal is not None:
            return ExitCode.STOPPED
        counts = [each.counts for each in standings]
        if any(each["failed"] for each in counts) or not all(s.ranking for s in standings):
            return ExitCode.FAILED
        return ExitCode.STOPPED if self._left(standings) else ExitCode.OK

    def _left(self, standings: Sequence[Standing]) -> int:
        """How many settings are not drawn yet or not at their end."""
        return sum(
            each.counts["not finished"] + max(0, self.settings - len(each.settings))
            for each in standings
        )

    def _print_standings(self, name: str, standings: Sequence[Standing]) -> None:
        console = self.sweep.request.console
        console.print(best_table(name, standings))
        for each in standings:
            if each.ranking:
                console.print(top_table(each))
        for each in standings:
            if each.ranking:
                self.sweep.say(f"the best     {_train_command(each, self.sweep.request.words)}")
        self.sweep.say(f"tensorboard  {self.sweep.command_for('tensorboard', [name])}")
        if left := self._left(standings):
            self.sweep.say(f"not finished {left}: the same command goes on with them")

    def _print_json(self, tried: Sequence[Sequence[Tried]]) -> None:
        searches = [
            {
                **_head(subject, self.settings),
                "space": subject.premises["space"],
                "tried": [asdict(each) for each in settings],
            }
            for subject, settings in zip(self.subjects, tried, strict=True)
        ]
        print_json({"searches": searches})


def _require_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--search: Optuna, which chooses the settings, cannot be loaded ({error}).\n"
            "  Install it: pip install 'deltagclip_cli[search]'"
        ) from None


def _train_command(standing: Standing, options: Sequence[str]) -> str:
    """How to run the best setting, with all its digits."""
    subject, best = standing.subject, standing.ranking[0]
    words = ["deltagclip", "train", subject.name, "--optimizer", subject.label]
    words += ["--seed", str(subject.seeds[0]), *options]
    for option, value in best.options.items():
        text = json.dumps(value, ensure_ascii=False)
        words += ["--set", f"optimizers.{subject.label}.{option}={text}"]
    return shlex.join(words)


def _searched(standing: Standing, settings: int) -> dict[str, Any]:
    best = standing.ranking[0] if standing.ranking else None
    return {
        **_head(standing.subject, settings),
        "counts": {end: standing.counts[end] for end in ENDS},
        "best": _placed(best) if best else None,
        "tried": [_placed(each) for each in standing.settings],
    }


def _head(subject: Subject, settings: int) -> dict[str, Any]:
    return {
        "experiment": subject.name,
        "optimizer": subject.label,
        "metric": subject.search.metric,
        "direction": subject.search.direction,
        "settings": settings,
    }


def _placed(placed: Placed) -> dict[str, Any]:
    result = placed.result
    return {
        "number": placed.number,
        "options": placed.options,
        "outcome": placed.outcome,
        "mean": result.value if result else None,
        "standard_error": result.standard_error if result else None,
        "n": result.n if result else 0,
        "trials": [
            {
                "folder": str(each.folder.path),
                "seed": each.trial.seed,
                "state": each.state,
                "last": each.result["last"] if each.result else None,
            }
            for each in placed.planned
        ],
    }
