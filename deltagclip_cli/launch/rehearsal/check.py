"""Has the parts of trials built, most often in another process, and tells what refuses them."""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Any

from deltagclip_cli.core import SpecError
from deltagclip_cli.launch.forkserver import Call, ForkServer, KilledError
from deltagclip_cli.launch.rehearsal.choice import few
from deltagclip_cli.launch.rehearsal.refusals import Refusal, Stage, fault_of, faults_of
from deltagclip_cli.spec.load import Spec
from deltagclip_cli.spec.trial import Trial

_PATIENCE_SECONDS = 60.0  # with the parts of one trial
_LOADING_SECONDS = 300.0  # for torch, on a machine that is busy
_MOST_BYTES = 8 * 2**30  # that building them may take: hardly any are needed


def check_parts(
    spec: Spec,
    trials: Iterable[Trial],
    stage_of: Callable[[Trial], Stage],
    data_dir: Path,
    call: Call | None = None,
) -> None:
    """Build the parts of trials once, without their data.

    Args:
        spec: where they were written.
        trials: to build the parts of.
        stage_of: says where a trial is to be trained.
        data_dir: where data sets lie.
        call: calls a function in another process; None builds them in this one.

    Raises:
        SpecError: something refuses them, or cannot be built; with all places in the spec.
    """
    staged: dict[Stage, list[Trial]] = defaultdict(list)
    for trial in few(trials):
        staged[stage_of(trial)].append(trial)
    faults: dict[str, str] = {}
    for stage, chosen in staged.items():
        faults |= _faults(spec, chosen, stage, data_dir, call)
    if faults:
        raise SpecError("\n\n".join(faults.values()))


def call_with_torch(
    function: Callable[..., Any], *arguments: object, should_stop: Callable[[], bool]
) -> Any:
    """Call a function in a process of its own, which loads torch first.

    Raises:
        UsageError: it failed.
        TrialError: it was killed, each time, or no process can be started.
    """
    server = ForkServer()
    server.open()
    return server.call(function, *arguments, should_stop=should_stop)


def _faults(
    spec: Spec, trials: Sequence[Trial], stage: Stage, data_dir: Path, call: Call | None
) -> dict[str, str]:
    """The faults of trials that are all trained at one stage."""
    if call is None:
        return faults_of(spec, trials, _rehearse(trials, stage, data_dir, lambda number: None))
    clock = _Clock()
    try:
        found = call(_rehearse_apart, trials, stage, data_dir, clock.trial, should_stop=clock)
    except KilledError:
        return fault_of(spec, trials[max(0, clock.trial.value)], "was killed")
    if clock.has_expired:
        words = f"was not done within {_PATIENCE_SECONDS:.0f} s"
        return fault_of(spec, trials[max(0, clock.trial.value)], words)
    return faults_of(spec, trials, found or ())


class _Clock:
    """Says when the parts of one trial have taken too long.

    Attributes:
        trial: the number of the one whose turn it is, which the other process writes; -1 as long as
            it loads torch.
    """

    def __init__(self) -> None:
        self.trial = RawValue("i", -1)
        self.has_expired = False
        self._last = self.trial.value
        self._since = time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        if self.trial.value != self._last:
            self._last, self._since = self.trial.value, now
        patience = _PATIENCE_SECONDS if self._last >= 0 else _LOADING_SECONDS
        self.has_expired |= now - self._since > patience
        return self.has_expired


def _rehearse_apart(
    trials: Sequence[Trial], stage: Stage, data_dir: Path, trial: Any
) -> list[Refusal]:
    def begun(number: int) -> None:
        trial.value = number

    if stage.device == "cpu" or not stage.here:  # drivers of GPUs map more than they use
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES, most))
    return _rehearse(trials, stage, data_dir, begun)


def _rehearse(
    trials: Sequence[Trial], stage: Stage, data_dir: Path, begun: Callable[[int], None]
) -> list[Refusal]:
    from deltagclip_cli.launch.rehearsal.parts import rehearse

    return rehearse(trials, stage, data_dir, begun)
