"""``train``, in a notebook or another program of Python, and what it has trained."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.api.argument_types import checked
from deltagclip_cli.api.one_trial import choose_trial
from deltagclip_cli.core import (
    DATA,
    EPOCH_SECONDS,
    EVALUATED,
    TRAINED_METRICS,
    ExitCode,
    SpecError,
    UsageError,
    short,
    shown_metrics,
)

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import nn

    from deltagclip_cli.api.all_runs import Runs
    from deltagclip_cli.runs.folder import RunFolder, State

_TRAINING = threading.Lock()


@checked
def train(
    spec: str | Path | Mapping[str, Any] = "experiments.yaml",
    experiment: str | None = None,
    *,
    optimizer: str | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    runs: str | Path = "runs",
    data: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    same_code: bool = False,
    select_on_test: bool = False,
    force: bool = False,
    quiet: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train one trial in this process, and show its progress where this was called.

    ::

        trained = train("experiments.yaml", "quickstart", optimizer="adam", settings={"epochs": 50})
        trained.last["train/loss"]

    A trial that was stopped goes on from its checkpoint, with the same numbers; a finished one is
    not run again. torch's settings and all streams of random numbers are afterwards as they were.

    Args:
        spec: a file of experiments, or what one holds as a dictionary. ``FILE.py:NAME`` is looked
            up beside the file, or in the working folder; what a notebook itself defines cannot be
            named, as the identity of a trial covers its code: write it into a file.
        experiment: one of the spec; needed if it has several.
        optimizer: the label of one of its optimizers; by default the first.
        seed: of the trial; by default the first of the experiment.
        settings: what to change in the spec, by dotted names: ``{"optimizers.adam.lr": 1e-4}``.
        runs: the runs folder.
        data: where data sets lie; by default ``$DELTAGCLIP_DATA``, else
            ``~/.cache/deltagclip/data``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: of the CPU; by default 1. A trial that was begun keeps its own.
        same_code: edits of one's own parts change no number, so finished trials count as before.
        select_on_test: let an early end be decided by the test set, without a validation split.
        force: delete what is there and start again.
        quiet: show nothing but warnings.
        should_stop: asked after every step; when it says yes, the trial stops with a checkpoint.

    Raises:
        SpecError: the spec has faults; the message lists all of them.
        UsageError: the data, the device or the run folder cannot be used; or another thread trains.
        TrialError: the trial failed; ``error.txt`` in its folder has the traceback.
        KeyboardInterrupt: Ctrl-C, or a notebook's interrupt, came. The trial has stopped after a
            step, with a checkpoint. A second one stops at once, and leaves the last checkpoint.
        SystemExit: a signal asked this process to end, which it does with code 75, and likewise
            with a checkpoint. In threads other than the main one, no signal is heard.
    """
    from deltagclip_cli.runs.environment import MOST_THREADS
    from deltagclip_cli.terminal.console import make_console, waiting
    from deltagclip_cli.training.process import StopRequest

    _check_number("seed", seed, 0, 2**31 - 1)
    _check_number("threads", threads, 1, MOST_THREADS)
    chosen = choose_trial(
        Path(spec) if isinstance(spec, str | Path) else spec,
        experiment,
        optimizer=optimizer,
        seed=seed,
        overrides=[_override(name, value) for name, value in (settings or {}).items()],
        runs=Path(runs),
        vouches=same_code,
        select_on_test=select_on_test,
    )
    console, stop = make_console(), StopRequest()
    remarks = list(chosen.remarks)
    if chosen.has_ended and not force:
        remarks.append(f"{chosen.folder.path} has ended already; force=True begins it again.")
    for sentence in () if quiet else remarks:
        console.print(sentence, soft_wrap=True)
    folder_of_data = Path(data or os.environ.get("DELTAGCLIP_DATA") or DATA).expanduser()
    if force or not chosen.has_ended:
        with waiting(console, "loading torch", quiet=quiet):
            from deltagclip_cli.training.assembly import find_device
            from deltagclip_cli.training.exactness import torch_left_as_it_was

            _check_gradients()
        with _only_one_at_a_time(), torch_left_as_it_was(find_device(device)):
            chosen.run(
                data=folder_of_data,
                device=device,
                threads=threads,
                force=force,
                console=console,
                quiet=quiet,
                stop=stop,
                should_stop=should_stop,
            )
    if stop.signal == signal.SIGINT:
        raise KeyboardInterrupt(f"{chosen.folder.path} is {chosen.folder.state}")
    if stop():
        raise SystemExit(int(ExitCode.STOPPED))
    return Trained(chosen.folder, folder_of_data)


@contextmanager
def _only_one_at_a_time() -> Iterator[None]:
    """Refuse a training beside another: streams of random numbers are those of a process."""
    if not _TRAINING.acquire(blocking=False):
        raise UsageError(
            "This process trains already, and two at once would draw from the same random numbers."
            "\n  Train one after the other, or in processes of their own, as deltagclip sweep does."
        )
    try:
        yield
    finally:
        _TRAINING.release()


def _check_gradients() -> None:
    """Refuse a process in which torch computes no gradients, as in some forks.

    A fork of one that looked here first computes them, unless torch has threads for GPUs.
    """
    import torch

    try:
        torch.autograd.backward(torch.ones((), requires_grad=True))
    except RuntimeError as error:
        raise UsageError(
            f"torch can compute no gradients in this process: {str(error).rstrip('.')}.\n"
            '  Start it with multiprocessing.get_context("spawn"), or call train before it forks.'
        ) from None


def _check_number(name: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        raise UsageError(f"{name}={value!r}: expected a whole number from {least} to {most}.")


def _override(name: str, value: Any) -> str:
    """Return the ``KEY=VALUE`` of a setting; JSON is YAML."""
    try:
        return f"{name}={json.dumps(value, allow_nan=False)}"
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"settings: {name}={value!r} is nothing a spec can hold: {error}."
        ) from None


@dataclass(frozen=True)
class Trained:
    """A trial that :func:`train` has trained, or had trained before, by its run folder."""

    run_folder: RunFolder
    data: Path  # where its data set lies

    @property
    def folder(self) -> Path:
        """The folder with all its files."""
        return self.run_folder.path

    @property
    def state(self) -> State:
        """``finished``, ``diverged``, or ``interrupted`` where ``should_stop`` said so."""
        return self.run_folder.state

    @property
    def result(self) -> dict[str, Any] | None:
        """The content of ``result.json``; None before the end."""
        return self.run_folder.result()

    @property
    def last(self) -> dict[str, float | None]:
        """The last value of each metric by its name, None for one that was not finite."""
        records = [record for record in self.run_folder.metrics() if EPOCH_SECONDS in record]
        last = records[-1] if records else {}
        return {name: value for name, value in last.items() if "/" in name}

    @property
    def runs(self) -> Runs:
        """The run as :class:`Runs`, with ``results()`` and ``metrics()`` of this one alone."""
        from deltagclip_cli.api.all_runs import Runs

        return Runs(self.folder)

    def model(self, *, averaged: bool = False) -> nn.Module:
        """Return the network as it was evaluated last, on the CPU and in evaluation mode.

        Its weights are those of the end, or of where ``should_stop`` said so; with optimizers that
        have others for an evaluation, such as schedule-free ones, those.
        Its inputs are scaled as those of the trial were, by ``data.normalize``.

        Args:
            averaged: those that ``ema`` averages, of ``test_ema/…``.

        Raises:
            UsageError: there are none: the trial has diverged or has no ``ema``, or its checkpoints
                were removed.
        """
        from deltagclip_cli.training.trained_network import trained_network

        return trained_network(self.run_folder, self.data, averaged=averaged)

    def metrics(self) -> DataFrame:
        """Return a frame with a row for each record of the training, as ``Runs.metrics()`` has."""
        return self.runs.metrics()

    def __repr__(self) -> str:
        words = "".join(f"  {name} {shown}\n" for name, shown in self._shown())
        return f"<Trained {self.folder}: {self.state}>\n{words}".rstrip()

    def _repr_html_(self) -> str:
        cells = "".join(f"<tr><th>{escape(n)}</th><td>{v}</td></tr>" for n, v in self._shown())
        return f"<p>{escape(f'{self.folder}: {self.state}')}</p><table>{cells}</table>"

    def _shown(self) -> Iterator[tuple[str, str]]:
        last = self.last
        for name in shown_metrics(last, TRAINED_METRICS, "train", *EVALUATED):
            value = last[name]
            yield name, "not finite" if value is None else short(value)
