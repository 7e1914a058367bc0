"""The loop: rounds of steps, an evaluation and a checkpoint after each, a way to stop and go on.

Checkpoints hold tensors and plain values only, so that they load without running any code.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deltagclip_cli.core import RunFolderError, derive_seed
from deltagclip_cli.parts.tasks import with_derived
from deltagclip_cli.training.chance import (
    other_streams,
    restore_streams,
    seed_streams,
    streams_kept,
)
from deltagclip_cli.training.continuation import check_state
from deltagclip_cli.training.meter import (
    AveragedWeights,
    Means,
    Meter,
    RegimeCounter,
    fractions,
    observer,
)
from deltagclip_cli.training.patience import Patience
from deltagclip_cli.training.program import Eager, ProgramMaker, StepBatches
from deltagclip_cli.training.stepping import STATISTICS_BATCHES, Stepper, renewed_statistics

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.training.assembly import Parts
    from deltagclip_cli.training.sinks import Recording


class Ending(StrEnum):
    """The ways in which a training comes to its end."""

    FINISHED = "finished"
    DIVERGED = "diverged"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Divergence:
    """The first loss that was not finite: the epoch and the optimizer step, both from 1."""

    epoch: int
    step: int
    where: str


class Trainer:
    """Trains the parts of a trial from wherever the last checkpoint left it.

    Where ``should_stop``, asked after every step, says yes, a checkpoint is written and
    :meth:`train` returns. What ``make_program`` returns carries out each step.
    """

    def __init__(
        self,
        trial: Trial,
        parts: Parts,
        recording: Recording,
        should_stop: Callable[[], bool],
        make_program: ProgramMaker = Eager,
    ) -> None:
        self.trial, self.parts = trial, parts
        self.recording, self.should_stop = recording, should_stop
        self.stepper = Stepper(parts.optimizer, trial.optimizer.clip_grad_norm)
        self.observer = observer(parts.optimizer, is_clipped=self.stepper.most_norm is not None)
        self.program = make_program(trial, parts, self.stepper, self.observer)
        self.stepper.train()
        ema, model = trial.ema, parts.model
        self.average = None if ema is None else AveragedWeights(model, ema, parts.ranks.copied)
        self.course = trial.course(len(parts.steps))
        self.step = 0  # optimizer steps so far
        self.regime_totals = torch.zeros(3, dtype=torch.int64)
        self.divergence: Divergence | None = None
        early = trial.early_stopping
        self.patience = None if early is None else Patience(early)
        self._saved_at = time.monotonic()
        self._saved_step: int | None = None
        self._batches: Iterator[StepBatches] | None = None  # those of the pass to come
        self._unrecorded: deque[tuple[int, Means]] = deque()  # the steps that are to be told of
        self._begin_pass()
        self._begin_round()

    @property
    def epoch(self) -> int:
        """Finished passes over the data."""
        return self.step // self.course.in_pass

    @property
    def batch(self) -> int:
        """Finished batches of the pass after them."""
        return self.step % self.course.in_pass

    @property
    def is_over(self) -> bool:
        """True after the last step, or once a metric has become no better for long enough."""
        is_stuck = self.patience is not None and self.patience.is_over
        return is_stuck or self.step == self.course.steps

    def train(self) -> Ending:
        """Train to the end, to the first loss that is not finite, or until asked to stop."""
        try:
            return self._train_rounds()
        except Exception as error:
            self.parts.ranks.rescue(self, error)
            raise

    def _train_rounds(self) -> Ending:
        while not self.is_over:
            measured: dict[str, float] = {}
            for probe in self.parts.probes:  # before the clock starts: it is no part of training
                measured |= probe.before(self.epoch)
            started, samples = time.perf_counter(), sum(self._sizes[self._in_round :])
            self._started = started - self._seconds_before
            if not self._train_round():
                return Ending.STOPPED
            metrics = self._train_metrics(self._read())
            for name, share in fractions(self.regimes.counts()).items():
                metrics[f"optim/{name}"] = share
            metrics["perf/samples_per_second"] = samples / (time.perf_counter() - started)
            diverged_at = self.meter.first_not_finite()
            if diverged_at is None:
                metrics |= self.evaluate()
            metrics["perf/epoch_seconds"] = time.perf_counter() - self._started
            metrics |= measured
            for probe in self.parts.probes:
                metrics |= probe.after(metrics)
            self._finish_round(metrics, diverged_at)
            if self.divergence:
                return Ending.DIVERGED
            if not self.is_over and not self._go_on():
                return Ending.STOPPED
        return Ending.FINISHED

    def _train_round(self) -> bool:
        """Make the steps of the round that are still to do; False if asked to stop among them."""
        self.parts.model.train()
        ranks = self.parts.ranks
        while True:
            ranks.begin_step(self)
            sums, observed = self.program.step(self._next_batches(), self._in_round)
            ranks.end_step()
            if self.average is not None:
                self.average.update(self.parts.model, is_first=self.step == 0)
            self.meter.add(sums, observed)
            self._learning_rate = self.stepper.rate()
            self.parts.schedule.after_step()
            self.step += 1
            done, every = self._in_round, self.trial.log_every
            if every and done % every == 0:
                self._unrecorded.append((self.step, self._read(done - every)))
                self._record_steps()
            self.recording.batch(self.step, self._sizes[done - 1])
            if done == len(self._sizes):
                self._record_steps(wait=True)
                return True
            if not self.batch:
                self.parts.schedule.after_epoch()
                self._begin_pass()
            if not self._go_on():
                return False

    def _record_steps(self, *, wait: bool = False) -> None:
        """Record steps whose metrics have come from the device, or all of them."""
        while self._unrecorded and (wait or self._unrecorded[0][1].are_there()):
            step, measured = self._unrecorded.popleft()
            self.recording.step(self.course.pass_of(step), step, self._train_metrics(measured))

    @property
    def can_be_saved(self) -> bool:
        """False from the last step of a round until its evaluation is recorded."""
        return self._in_round < len(self._sizes)

    @property
    def _in_round(self) -> int:
        """Finished steps of this round."""
        return self.step - self._round_start

    def _next_batches(self) -> StepBatches:
        if self._batches is None:
            steps = self.parts.steps
            self._batches = steps.iterate(self._order(self.epoch), self.augment, start=self.batch)
        return next(self._batches)

    def _go_on(self) -> bool:
        """Save if it is time; False if asked to stop."""
        is_time = time.monotonic() - self._saved_at > 60 * self.trial.checkpoint.minutes
        stops, saves = self.parts.ranks.agree(self.should_stop(), is_time)
        if stops or saves:
            self.save()
        return not stops

    def _order(self, number: int) -> Tensor | None:
        """Draw the order of samples in a pass: the same for every optimizer, on every device."""
        if len(self.parts.steps) == 1:
            return None
        generator = torch.Generator()
        generator.manual_seed(derive_seed(self.trial.seed, "order", number))
        return torch.randperm(self.parts.steps.samples, generator=generator)

    def evaluate(self) -> dict[str, float]:
        """``test/...`` and ``validation/...`` metrics: means over all samples of these sets.

        Those of the weights that are averaged besides are ``test_ema/...`` and so on. Batch norms
        are measured anew at weights that were not trained at: these, and those that some optimizers
        have for an evaluation.
        """
        with self.evaluated() as model:
            metrics = self._evaluate(model)
        if self.average is not None:
            with self.evaluated(averaged=True) as model:
                metrics |= self._evaluate(model, "_ema")
        return metrics

    @contextmanager
    def evaluated(self, *, averaged: bool = False) -> Iterator[nn.Module]:
        """Yield the model as it is evaluated, or the one whose weights are averaged besides."""
        with ExitStack() as stack:
            stack.enter_context(streams_kept(self.parts.device))
            model = self.parts.model
            if averaged:
                assert self.average is not None
                model = self.average.module
            else:
                stack.enter_context(self.stepper.evaluating())
            if averaged or self.stepper.averages:
                stack.enter_context(
                    renewed_statistics(model, partial(self._train_without_steps, model))
                )
            yield model

    @torch.inference_mode()
    def _evaluate(self, model: nn.Module, suffix: str = "") -> dict[str, float]:
        model.eval()
        measured: dict[str, float] = {}
        for split, batches in self.parts.evaluated.items():
            seed_streams(self.trial.seed, "evaluation")
            meter = Meter(batches.sizes)
            for batch in batches.iterate(None, None):
                meter.add(self.program.measure(model, batch), {})
            means = with_derived(self.parts.task, meter.means().of_samples())
            measured |= {f"{split}{suffix}/{name}": value for name, value in means.items()}
        return measured

    def _train_without_steps(self, model: nn.Module) -> None:
        """Put training batches of the pass through a model, drawn apart from all else."""
        number = self.course.pass_of(self.step) - 1
        seed_streams(self.trial.seed, "statistics", number)
        generator = torch.Generator(self.parts.device)
        generator.manual_seed(derive_seed(self.trial.seed, "statistics", number))
        batches = self.parts.train.iterate(self._order(number), generator)
        self._batches = None  # which data of one's own cannot be iterated beside
        for batch in islice(batches, STATISTICS_BATCHES):
            self.program.measure(model, batch)

    def _read(self, start: int = 0) -> Means:
        """Begin to read what this round's steps from ``start`` on were like."""
        rate = self._learning_rate
        return self.meter.means(start, {} if rate is None else {"lr": rate})

    def _train_metrics(self, read: Means) -> dict[str, float]:
        """``train/...`` and ``optim/...`` metrics of some steps."""
        means = with_derived(self.parts.task, read.of_samples())
        return {
            **{f"train/{name}": value for name, value in means.items()},
            **{f"optim/{name}": value for name, value in read.of_steps().items()},
        }

    def _finish_round(self, metrics: dict[str, float], diverged_at: int | None) -> None:
        pass_of = self.course.pass_of
        if diverged_at is not None:
            at = self._round_start + diverged_at + 1
            self.divergence = Divergence(pass_of(at), at, "training")
        elif not math.isfinite(metrics["test/loss"]):
            self.divergence = Divergence(pass_of(self.step), self.step, "evaluation")
        counts = self.regimes.counts()
        if counts is not None:
            self.regime_totals += counts
        if not self.batch:
            self._begin_pass()
        self._begin_round()
        self.recording.epoch(self.course.passes(self.step), self.step, metrics)
        if self.divergence is None:
            self.parts.schedule.after_evaluation(metrics["train/loss"])
            if not self.batch:
                self.parts.schedule.after_epoch()
            if self.patience is not None:
                self.patience.look(metrics, self.course.passes(self.step), self.step)
            rounds = self.course.rounds(self.step)
            if self.is_over or rounds % self.trial.checkpoint.epochs == 0:
                self.save()

    def _begin_pass(self) -> None:
        """Draw everything random in a pass from the seed and the number of the pass."""
        seed_streams(self.trial.seed, "noise", self.epoch)
        self._streams_begun = other_streams()
        self.augment = torch.Generator(self.parts.device)
        self.augment.manual_seed(derive_seed(self.trial.seed, "augment", self.epoch))
        self._batches = None

    def _begin_round(self) -> None:
        self._round_start = self.course.round_start(self.step)
        sizes, steps = self.parts.steps.sizes, self.course.in_pass
        numbers = range(self._round_start, self.course.round_end(self.step))
        self._sizes = [sizes[number % steps] for number in numbers]
        self._seconds_before = 0.0  # spent on this round before a restart
        self._learning_rate = self.stepper.rate()
        self.meter: Meter = Meter(self._sizes)
        self.regimes = RegimeCounter(self.observer)

    def save(self) -> None:
        """Write a checkpoint, behind the metrics that it counts on; once a step is enough."""
        if self._saved_step == self.step:
            return
        self._record_steps(wait=True)
        state = self.state_dict()
        if self._saved_step is None:  # of this start: what one checkpoint holds, the others do
            self._check(state)
        self.recording.save(state)
        self._saved_at, self._saved_step = time.monotonic(), self.step

    def _check(self, state: Mapping[str, Any]) -> None:
        """Refuse parts whose state cannot be kept."""
        names = {"model": self.trial.model.name, "optimizer": self.trial.optimizer.name}
        if self.trial.schedule is not None:
            names["schedule"] = self.trial.schedule.name
        for part, name in names.items():
            check_state(f"{part} '{name}'", state[part])

    def state_dict(self) -> dict[str, Any]:
        """Return all that a continuation needs for the same bits: tensors and plain values."""
        average = self.average
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            **self.recording.count(),
            "model": self.parts.model.state_dict(),
            **self.stepper.state_dict(),
            "average": None if average is None else average.module.state_dict(),
            **({} if self.patience is None else {"patience": self.patience.state_dict()}),
            "schedule": self.parts.schedule.state_dict(),
            "meter": self.meter.state_dict(),
            "regimes": self.regimes.state(),
            "regime_totals": self.regime_totals,
            "probes": [probe.state_dict() for probe in self.parts.probes],
            "random": self.streams(),
            "device": self.parts.device.type,
            "data": self.parts.fingerprint,
            "seconds": time.perf_counter() - self._started if self._in_round else 0.0,
        }

    def streams(self) -> dict[str, Any]:
        """Return the states of all streams of random numbers that may have been drawn from."""
        random = {"cpu": torch.get_rng_state(), "augment": self.augment.get_state()}
        if self.parts.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.parts.device)
        if (others := other_streams()) != self._streams_begun:
            random |= others
        return random

    def go_on_with(self, random: Mapping[str, Any]) -> None:
        """Go on from where streams were."""
        torch.set_rng_state(random["cpu"])
        self.augment.set_state(random["augment"])
        restore_streams(random if "python" in random else self._streams_begun)
        if self.parts.device.type == "cuda":
            torch.cuda.set_rng_state(random["cuda"], self.parts.device)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict` gave, on the same data and kind of device."""
        self._check_continuation(state)
        self.parts.model.load_state_dict(state["model"])
        self.stepper.load_state_dict(state)
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        self.parts.schedule.load_state_dict(state["schedule"])
        if self.patience is not None:
            self.patience.load_state_dict(state["patience"])
        self.step = state["step"]
        self._begin_pass()
        self._begin_round()
        self._seconds_before = state["seconds"]
        self.meter.load_state_dict(state["meter"])
        self.regimes = RegimeCounter(self.observer, state["regimes"])
        self.regime_totals = state["regime_totals"]
        told = state.get("probes", [])  # none if it was trained without them so far
        for probe, each in zip(self.parts.probes, told, strict=False):
            probe.load_state_dict(each)
        if self.batch:  # the beginning of a pass follows from the seed
            self.go_on_with(state["random"])

    def _check_continuation(self, state: Mapping[str, Any]) -> None:
        if state["data"] != self.parts.fingerprint:
            raise RunFolderError(
                f"the data have changed since this trial was begun ({state['data']} then, "
                f"{self.parts.fingerprint} now).\n  Restore them, or start again with --force."
            )
        if state["batch"] and state["device"] != self.parts.device.type:
            raise RunFolderError(
                f"this trial was interrupted in the middle of an epoch on {state['device']}.\n"
                f"  Continue with --device {state['device']}, or start again with --force."
            )
