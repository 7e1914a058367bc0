"""One trial of a spec, as ``deltagclip train`` and Python programs choose and train it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import SpecError, nearest

if TYPE_CHECKING:
    from rich.console import Console

    from deltagclip_cli.runs.folder import RunFolder
    from deltagclip_cli.spec.load import Spec
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.training.process import StopRequest
    from deltagclip_cli.training.trainer import Ending


@dataclass(frozen=True)
class ChosenTrial:
    """One trial of a spec, and the folder that it has or will have."""

    spec: Spec
    trial: Trial
    folder: RunFolder
    remarks: Sequence[str]  # on edits of its code since trials were finished

    @property
    def has_ended(self) -> bool:
        """It has come to its end, or diverged; RunFolderError if the folder is another trial's."""
        if self.folder.result() is None:
            return False
        self.folder.check(self.trial)
        return True

    def run(
        self,
        *,
        data: Path,
        device: str,
        threads: int | None,
        force: bool,
        console: Console,
        quiet: bool,
        stop: StopRequest,
        should_stop: Callable[[], bool] = lambda: False,
        every: int | None = None,
    ) -> Ending:
        """Train it, or go on with it, and show that; at its end its result is in its folder."""
        from deltagclip_cli.launch.rehearsal import Stage, check_parts
        from deltagclip_cli.terminal.console import shown_progress, waiting
        from deltagclip_cli.terminal.messages import shown_messages
        from deltagclip_cli.training.process import check_started_alone

        data = data.expanduser()
        check_started_alone()
        if self.trial.ranks > 1:
            from deltagclip_cli.launch.launcher import check_devices
            from deltagclip_cli.launch.local import find_slots

            slots = find_slots(1 if device == "cpu" else None, None, 1)
            check_devices(self.spec, [self.trial], slots)
        with waiting(console, "loading torch and trying the parts out", quiet=quiet):
            check_parts(self.spec, [self.trial], lambda trial: Stage(device), data)
        with (
            shown_messages(console, quiet=quiet, every=every),
            stop.listening(),
            shown_progress(console, quiet=quiet) as sinks,
        ):
            from deltagclip_cli.training.worker import run_trial  # which loads torch

            return run_trial(
                self.folder,
                self.trial,
                data_dir=data,
                device=device,
                threads=threads,
                force=force,
                sinks=sinks,
                should_stop=lambda: stop() or should_stop(),
            )


def choose_trial(
    spec: Path | Mapping[str, Any],
    experiment: str | None,
    *,
    optimizer: str | None,
    seed: int | None,
    overrides: Sequence[str],
    runs: Path,
    vouches: bool,
    select_on_test: bool,
) -> ChosenTrial:
    """Read a spec and choose one trial of it, as written under ``optimizers``, whatever the grid.

    Args:
        experiment: None for the only one.
        optimizer: its label; None for the first.
        seed: None for the first.
        overrides: ``KEY=VALUE`` words that are laid over the spec.
        vouches: record that edits of the code of its parts change no number.
    """
    from deltagclip_cli.plan.edits import find_edits, vouch_for
    from deltagclip_cli.results.compare.choosing import check_ends
    from deltagclip_cli.runs.folder import RunFolder
    from deltagclip_cli.spec.document import document_of
    from deltagclip_cli.spec.load import load_spec

    source = spec if isinstance(spec, Path) else document_of(spec)
    only = [] if experiment is None else [experiment]
    read = load_spec(source, only, overrides, runs=runs)
    trial = _named(read, optimizer, seed)
    if trial.early_stopping is not None:
        check_ends(read.experiments, select_on_test=select_on_test)
    edits = find_edits([trial], runs) if trial.code else []
    remarks = [str(edit) for edit in edits]
    if vouches and edits:
        remarks = vouch_for(edits)
        read = load_spec(source, only, overrides, runs=runs)
        trial = _named(read, optimizer, seed)
    return ChosenTrial(read, trial, RunFolder.of(runs, trial), remarks)


def _named(spec: Spec, label: str | None, seed: int | None) -> Trial:
    from deltagclip_cli.spec.trial import make_trial

    if len(spec.experiments) > 1:
        names = ", ".join(spec.experiments)
        raise SpecError(f"{spec.name}: say which of its experiments.\n  experiments: {names}")
    ((name, experiment),) = spec.experiments.items()
    labels = list(experiment.optimizers)
    if label is not None and label not in labels:
        raise SpecError(
            f"--optimizer {label}: {name} has no such optimizer.\n"
            f"  optimizers: {', '.join(labels)}{nearest(label, labels)}"
        )
    return make_trial(
        name, experiment, label or labels[0], experiment.seeds[0] if seed is None else seed
    )
