"""One ``train`` in a terminal: what is printed when, and which exit code comes of it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from rich.console import Console
from rich.text import Text

from deltagclip_cli.core import (
    ClaimedError,
    DeltaGClipError,
    ExitCode,
    RunFolderError,
    is_disk_full,
)
from deltagclip_cli.launch.rehearsal.check import check_parts
from deltagclip_cli.launch.rehearsal.refusals import Stage
from deltagclip_cli.runs.folder import RunFolder, State
from deltagclip_cli.runs.hold import HeldFolder, hold, tidy
from deltagclip_cli.spec.load import Spec
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.terminal.console import shown_messages, waiting
from deltagclip_cli.terminal.streams import print_json
from deltagclip_cli.terminal.summary import print_summary
from deltagclip_cli.training.logs import left_to_others
from deltagclip_cli.training.stopping import StopRequest

if TYPE_CHECKING:
    from deltagclip_cli.runs.heartbeat import Start
    from deltagclip_cli.training.trainer import Ending, Watcher


@dataclass(frozen=True)
class Session:
    """How trials are run and shown in this process.

    Args:
        runs: where run folders go.
        data: where data sets lie.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        console: where everything for people goes.
        as_json: print the result as JSON on stdout.
        quiet: print warnings and errors only.
        threads: of the CPU, for trials that were never begun; None for as many as usual.
        download: fetch data that are missing.
        stop: remembers the signal that ended it.
        spec: where the trials were written that :meth:`train` runs, which then checks their parts.
    """

    runs: Path
    data: Path
    device: str
    console: Console
    as_json: bool = False
    quiet: bool = False
    threads: int | None = None
    download: bool = True
    stop: StopRequest = field(default_factory=StopRequest)
    spec: Spec | None = None

    def show(self, trial: Trial) -> None:
        """Print the resolved trial, its folder and its state, and start nothing."""
        folder = RunFolder.of(self.runs, trial)
        resolved = trial.model_dump(mode="json")
        if self.as_json:
            print_json({"folder": str(folder.path), "state": folder.state, "trial": resolved})
            return
        text = yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True)
        shown = Text(f"# {folder.path} ({folder.state})\n{text}")
        self.console.print(shown, soft_wrap=True, end="")

    def train(self, trial: Trial, *, force: bool = False) -> int:
        """Run a trial unless it has a result, and return the exit code."""
        folder = RunFolder.of(self.runs, trial)
        state = folder.state
        if not force and state in (State.FINISHED, State.DIVERGED):
            folder.check(trial)
            tidy(folder)
            self._say(f"{folder.path} is {state} already; --force runs it again.")
            return self._conclude(trial, folder)
        if self.spec is not None:
            stage = Stage(self.device)
            with waiting(self.console, "loading torch and trying the parts out", quiet=self.quiet):
                check_parts(self.spec, [trial], lambda trial: stage, self.data)
        return self._run(trial, folder, force=force)

    def work(
        self, folder: RunFolder, give_up: Callable[[], bool] | None = None, *, force: bool = False
    ) -> int:
        """Run the trial that a folder was made for, and return the exit code.

        Args:
            folder: of the trial.
            give_up: asked after every step; when it says yes, the trial stops with a checkpoint.
            force: run it although it has a result.
        """
        trial = folder.trial_to_run()  # before a lock is made in what is no run folder
        try:
            with left_to_others(folder.log_file), hold(folder) as held:
                return self._work(trial, held, give_up, force)
        except ClaimedError as error:
            error.exit_code = ExitCode.CLAIMED  # for the launcher: it is no fault of the trial
            raise

    def _work(
        self, trial: Trial, held: HeldFolder, give_up: Callable[[], bool] | None, force: bool
    ) -> int:
        folder = held.folder
        result = folder.result()
        if not force and result is not None:
            if result.get("identity") != trial.identity:
                raise RunFolderError(
                    f"{folder.result_file}: the result of another trial.\n"
                    "  Move or delete the run folder."
                )
            held.remove_leavings()
            return self._conclude(trial, folder)
        held.forget_reasons()
        try:
            return self._run(trial, folder, held, force=force, give_up=give_up)
        except ClaimedError:
            raise
        except DeltaGClipError as error:
            # Before the training begins nobody writes it down. After that a file is there, even if
            # the disk was too full to say more in it, or to make it.
            if not (folder.error_file.exists() or folder.stopped_file.exists()):
                if is_disk_full(error):
                    held.record_stop("the disk is full")
                else:
                    held.record_failure(error, str(error))
            raise

    def _run(
        self,
        trial: Trial,
        folder: RunFolder,
        held: HeldFolder | None = None,
        *,
        force: bool = False,
        give_up: Callable[[], bool] | None = None,
    ) -> int:
        self._say(f"{trial.experiment} · {trial.label} · seed {trial.seed} → {folder.path}")
        with shown_messages(self.console, quiet=self.quiet), self.stop.listening():
            stopped = self._train(trial, folder, held, force, give_up) == "stopped"
        if stopped:
            self._say(f"Stopped with a checkpoint in {folder.path}. The same command continues.")
            interrupted = self.stop.signal == signal.SIGINT
            return ExitCode.INTERRUPTED if interrupted else ExitCode.STOPPED
        return self._conclude(trial, folder)

    def _train(
        self,
        trial: Trial,
        folder: RunFolder,
        held: HeldFolder | None,
        force: bool,
        give_up: Callable[[], bool] | None,
    ) -> Ending:
        from deltagclip_cli.terminal.progress import ProgressWatcher

        def should_stop() -> bool:
            return self.stop() or (give_up is not None and give_up())

        def run(watch: Callable[[Start], list[Watcher]]) -> Ending:
            from deltagclip_cli.training.worker import run_trial  # which loads torch

            return run_trial(
                folder,
                trial,
                data_dir=self.data,
                device=self.device,
                threads=self.threads,
                download=self.download,
                held=held,
                force=force,
                watch=watch,
                should_stop=should_stop,
            )

        if self.quiet or not self.console.is_terminal:
            return run(lambda start: [])
        with ProgressWatcher(self.console) as watcher:
            return run(lambda start: [watcher.begin(start)])

    def _conclude(self, trial: Trial, folder: RunFolder) -> int:
        result = folder.result()
        assert result is not None, "the result was written before this is called"
        if self.as_json:
            print_json({"folder": str(folder.path), **result})
        elif not self.quiet:
            print_summary(self.console, trial, folder, result, self.runs)
        return ExitCode.FAILED if result["status"] == State.DIVERGED else ExitCode.OK

    def _say(self, line: str) -> None:
        if not self.quiet:
            self.console.print(Text(line), soft_wrap=True)
