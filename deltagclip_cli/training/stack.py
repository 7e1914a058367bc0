"""Stacked trials: members that train in one process, whose models compute as one.

Each member has its own trainer, optimizer, schedule, run folder and end, and runs as a greenlet
until it wants a gradient or an evaluation. Once all have asked, those that ask for the same compute
it together; the other places of the stack are filled, so that the bits of a member hang neither on
how many others there are, nor on where they are in their training.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import greenlet
import torch
from torch import Tensor, nn

from deltagclip_cli.core import DeltaGClipError, ExitCode, UsageError, stopped
from deltagclip_cli.parts.making import own_lines
from deltagclip_cli.runs.environment import read_starts, stack_of
from deltagclip_cli.spec.trial import stacks_with
from deltagclip_cli.training.assembly import find_device
from deltagclip_cli.training.member import Member, Wanted, detached
from deltagclip_cli.training.process import SPEAKER
from deltagclip_cli.training.stacked_weights import Answers, Applied, Occupied, Rows, StackedWeights

if TYPE_CHECKING:
    from deltagclip_cli.runs.folder import RunFolder
    from deltagclip_cli.spec.trial import Trial
    from deltagclip_cli.training.loaded import Loaded
    from deltagclip_cli.training.process import StopRequest
    from deltagclip_cli.training.sinks import Sink
    from deltagclip_cli.training.stacked_graphs import StackedGraphs

logger = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds that a member waits for others to catch up with it, before it goes on without them."""

_T = TypeVar("_T")


class Stack:
    """So many places, and the members that have some of them.

    Args:
        places: of the whole stack, whoever is there.
        device: that computes.
    """

    def __init__(self, places: int, device: torch.device) -> None:
        self.places, self.device = places, device
        self.main = greenlet.getcurrent()
        self._weights: dict[tuple[int, int], StackedWeights] = {}  # by layers and roles
        self._graphs: StackedGraphs | None = None
        self.loaded: Loaded | None = None  # the data that members share

    def members(self, trials: Sequence[tuple[Trial, RunFolder, bool]]) -> list[Member]:
        """Return the members that trials are, each in the place that it had if it was begun before.

        Bits may hang on the place, where the sizes of a network are odd. A new one has the place of
        its seed, if nobody else has it; those that had the same lie in layers. The last of each
        trial is whether it begins afresh.
        """
        had = [
            None if afresh else stack_of(read_starts(folder), self.places)
            for _, folder, afresh in trials
        ]
        taken = {each[0] for each in had if each is not None}
        members: list[Member] = []
        for (trial, _, _), known in zip(trials, had, strict=True):
            place, at_once = (None, self.places) if known is None else known
            if place is None:
                wished = trial.seed % self.places
                free = [each for each in range(self.places) if each not in taken]
                place = wished if wished in free or not free else free[0]
                taken.add(place)
            layer = sum(each.place == place for each in members)
            members.append(Member(self, place, layer, at_once))
        return members

    def adopt(self, member: Member, role: int, model: nn.Module) -> None:
        """Put a model of a member into its place among those with the same role."""
        layer = (member.layer, role)
        if layer not in self._weights:
            with torch.inference_mode(False):  # it is an evaluation that first asks for averages
                self._weights[layer] = StackedWeights(model, self.places)
        self._weights[layer].adopt(member.place, model)
        model.register_state_dict_post_hook(detached)  # type: ignore[no-untyped-call]

    def keep(self, member: Member, role: int, applied: Applied) -> None:
        """See to it that the weights of a member are in the stack."""
        weights = self._weights[member.layer, role]
        if not weights.has(member.place, applied.weights):
            weights.adopt(member.place, applied.model)

    def run(self, jobs: Sequence[tuple[Member, Callable[[], _T]]]) -> list[_T | Exception]:
        """Do all jobs, each of a member, and return what they return or raise, in their order."""
        outcomes: list[_T | Exception] = [RuntimeError("it was not run")] * len(jobs)

        def live(number: int, job: Callable[[], _T]) -> None:
            SPEAKER.set(jobs[number][0])
            try:
                outcomes[number] = job()
            except Exception as error:
                outcomes[number] = error

        alive = {
            member: greenlet.greenlet(partial(live, number, job))
            for number, (member, job) in enumerate(jobs)
        }

        def go_on(member: Member, answer: Any = None) -> None:
            member.request = None
            with member.streams.installed():
                # What a greenlet is first given are its arguments.
                alive[member].switch(*(() if not alive[member] else (answer,)))
            if alive[member].dead:
                del alive[member]

        try:
            for member in list(alive):
                go_on(member)
            while alive:
                for member, answer in self._answers(list(alive)):
                    go_on(member, answer)
        finally:
            for member, left in alive.items():  # this process was interrupted
                with member.streams.installed():
                    left.throw()
        return outcomes

    def _answers(self, members: Sequence[Member]) -> Iterator[tuple[Member, Any]]:
        """Compute for those furthest behind, and for whoever asks for the same."""
        by_key: dict[Any, dict[int, Member]] = {}
        for member in members:
            key = (_wanted(member).kind, member.layer, member.at_once, member.streams.threads)
            by_key.setdefault(key, {})[member.place] = member
        groups = sorted(
            by_key.values(), key=lambda group: min(each.step for each in group.values())
        )
        now = time.monotonic()
        for number, group in enumerate(groups):
            waiting = max(now - _wanted(member).asked_at for member in group.values())
            if not number or waiting > PATIENCE:
                yield from self._computed(group)

    def _computed(self, group: Mapping[int, Member]) -> list[tuple[Member, Any]]:
        """Return the answers to members of one group; each has its own error, if there is one."""
        while True:
            some = next(iter(group.values()))
            weights = self._weights[some.layer, _wanted(some).role]
            before = weights.versions
            try:
                return self._attempt(weights, group)
            except torch.OutOfMemoryError as error:
                reason: Exception = error
                if before == weights.versions and self._halved(group):
                    continue
            except Exception as error:
                reason = error
            if len(group) == 1:
                return [(some, _explained(reason, _wanted(some).applied.model))]
            alone = ({place: member} for place, member in group.items())
            return [answer for each in alone for answer in self._computed(each)]

    def _halved(self, group: Mapping[int, Member]) -> bool:
        """Let fewer members compute at once; False if it is one already."""
        at_once = next(iter(group.values())).at_once
        if at_once == 1:
            return False
        if self._graphs is not None:
            self._graphs.release()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half = -(-at_once // 2)
        logger.warning(
            "The memory is full: of the stack's %d places, %d are computed at once from now on.",
            self.places,
            half,
        )
        for member in group.values():
            member.at_once = half
            member.record(member.conditions)
        return True

    def _attempt(
        self, weights: StackedWeights, group: Mapping[int, Member]
    ) -> list[tuple[Member, Any]]:
        some = next(iter(group.values()))
        asked = _wanted(some)
        rows = {
            place: Occupied(
                _wanted(each).applied,
                _wanted(each).inputs,
                _wanted(each).targets,
                1.0 if _wanted(each).weight is None else _wanted(each).weight or 0.0,
                each.streams.generator,
            )
            for place, each in group.items()
        }
        torch.set_num_threads(some.streams.threads)
        starts = sorted({place // some.at_once * some.at_once for place in group})
        bounds = [(start, min(start + some.at_once, self.places)) for start in starts]
        with (
            torch.autocast(self.device.type, dtype=asked.autocast)
            if asked.autocast is not None
            else nullcontext()
        ):
            if asked.weight is None:
                with torch.inference_mode():
                    found = [weights.evaluate(rows, *each) for each in bounds]
                sums = {place: told for each in found for place, told in each.items()}
                return [(member, sums[place]) for place, member in group.items()]
            made = self._differentiated(weights, rows, bounds, group)
        answers = []
        for place, (objective, told, gradients) in (each for part in made for each in part.items()):
            _give(rows[place].applied.weights, gradients)
            answers.append((group[place], (objective, told)))
        return answers

    def _differentiated(
        self,
        weights: StackedWeights,
        rows: Rows,
        bounds: Sequence[tuple[int, int]],
        group: Mapping[int, Member],
    ) -> list[Answers]:
        """Return the gradients of a group, from a graph where that is worth one."""
        captured = any(each.is_captured for each in group.values())
        if not captured or bounds != [(0, self.places)]:
            return [weights.differentiate(rows, *each) for each in bounds]
        if self._graphs is None:
            from deltagclip_cli.training.stacked_graphs import StackedGraphs  # with a compiler

            self._graphs = StackedGraphs(self.places, self.device)
        some = next(iter(group.values()))
        return [self._graphs.differentiate(weights, rows, (some.layer, *_wanted(some).kind))]


def _give(weights: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    """Add gradients to those that weights have, or let them be theirs."""
    there, more = [], []
    for parameter, gradient in zip(weights, gradients, strict=True):
        if gradient is None:
            continue
        if parameter.grad is None:
            parameter.grad = gradient
        else:
            there.append(parameter.grad)
            more.append(gradient)
    if there:
        torch._foreach_add_(there, more)


def _wanted(member: Member) -> Wanted:
    assert member.request is not None, "a member that lives has asked for something"
    return member.request


def _explained(error: Exception, model: nn.Module) -> Exception:
    """Return an error in the words of a spec, if it is that a model cannot be stacked."""
    said = str(error)
    if isinstance(error, DeltaGClipError) or not ("vmap" in said or "batching rule" in said):
        return error
    reason = "a step hangs on values that differ between members"
    if "random" in said:
        reason = "it draws random numbers by an operation of which a stack knows no member's stream"
    elif "inplace" in said or "in-place" in said:
        reason = "it writes what differs between members into a tensor that they share"
    elif "data-dependent" not in said and ".item()" not in said:
        reason = stopped(error)
    explained = UsageError(
        f"stack: {type(model).__name__} cannot be stacked, for {reason}{own_lines(error)}.\n"
        "  Leave stack out; on a GPU, several trials can train side by side: --trials-per-gpu N."
    )
    explained.__cause__ = error
    return explained


def alone(
    trial: Trial, folder: RunFolder, device: torch.device, job: Callable[..., _T], *, afresh: bool
) -> _T:
    """Do the job of one ``member`` in a stack that nobody else is in."""
    stack = Stack(trial.stack or 1, device)
    (member,) = stack.members([(trial, folder, afresh)])
    (outcome,) = stack.run([(member, partial(job, member=member))])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def run_stack(
    folders: Sequence[RunFolder],
    *,
    data_dir: Path,
    device: str,
    threads: int | None = None,
    force: Collection[RunFolder] = (),
    download: bool = True,
    part: int = 1,
    stop: StopRequest,
    give_up: Callable[[RunFolder], bool] = lambda folder: False,
    sinks: Callable[[RunFolder], Sequence[Sink]] = lambda folder: (),
) -> dict[RunFolder, ExitCode]:
    """Run the trials that folders were made for, as members of one stack; for launchers.

    Each ends as it would with :func:`worker.work`: its folder tells how, and one that fails leaves
    the others alone. An error of a member is logged, and its exit code is returned.

    Args:
        folders: of trials that stack with each other, as many as there are places at most.
        force: of them, those that are begun again though they have a result.
        part: stop each once one in so many of its evaluations is made, if not 1.
        give_up: asked after every step of a member; when it says yes, that member stops.
        sinks: what is told of a member beside the sinks of the table.

    Raises:
        UsageError: the device cannot be used, or they do not stack with each other.
    """
    from deltagclip_cli.training.worker import work  # which needs this module for some trials

    where = find_device(device)
    codes: dict[RunFolder, ExitCode] = {}
    trials: dict[RunFolder, Trial] = {}
    for folder in folders:
        with _told(codes, folder):
            trials[folder] = folder.trial_to_run()
    if not trials:
        return codes
    keys = {stacks_with(trial) for trial in trials.values()}
    places = next(iter(trials.values())).stack
    if len(keys) > 1 or places is None or len(trials) > places:
        raise UsageError(
            f"{len(trials)} trials cannot be members of one stack: they are more than its places, "
            "or differ in more than optimizer, schedule, length and seed.\n"
            "  Start a worker for each."
        )

    def work_on(folder: RunFolder, member: Member) -> None:
        with _told(codes, folder):
            codes[folder] = work(
                folder,
                data_dir=data_dir,
                device=device,
                threads=threads,
                force=folder in force,
                download=download,
                part=part,
                stop=stop,
                give_up=partial(give_up, folder),
                sinks=sinks(folder),
                member=member,
            )

    stack = Stack(places, where)
    members = stack.members([(trials[each], each, each in force) for each in trials])
    with stop.listening():
        stack.run(
            [
                (member, partial(work_on, folder, member))
                for folder, member in zip(trials, members, strict=True)
            ]
        )
    return codes


@contextmanager
def _told(codes: dict[RunFolder, ExitCode], folder: RunFolder) -> Iterator[None]:
    """Log the error that ends a member, whose folder has it as well."""
    try:
        yield
    except DeltaGClipError as error:
        codes[folder] = ExitCode(error.exit_code)
        logger.error("%s", error)
    except Exception as error:
        codes[folder] = ExitCode.FAILED
        logger.exception("%s: %s", folder.path, error)
