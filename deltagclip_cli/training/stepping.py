"""The optimizer and the schedule of a trial, stepped as they want: recognised, not configured."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from deltagclip_cli.core import UsageError, listed, nearest
from deltagclip_cli.parts.making import make, make_inner, wrong_kind
from deltagclip_cli.parts.schedules import build_schedule
from deltagclip_cli.training.continuation import leaves, load_plain, plain_state

if TYPE_CHECKING:
    from deltagclip_cli.spec.schema import Optimizer as OptimizerPart
    from deltagclip_cli.spec.trial import Trial

STATISTICS_BATCHES = 50
"""Training batches on which batch norms are measured at weights that were not trained at."""


def make_optimizer(
    trial: Trial, model: nn.Module, steps: int, rate: float | None = None
) -> Optimizer:
    """Make the optimizer of a trial.

    Args:
        model: whose parameters it trains, of which it gets those that need a gradient. One that
            names ``model`` gets it whole.
        steps: in an epoch.
        rate: a learning rate that was to be found out.

    Raises:
        UsageError: it refuses its options or fails, is no optimizer, or leaves parameters out.
    """
    part = trial.optimizer
    usual = _usual(part.options)
    if rate is not None:
        usual["lr"] = rate
    course = trial.course(steps)
    epochs = course.pass_of(course.steps)
    supplied = {"model": model, "epochs": epochs, "steps": course.steps}
    parameters = _in_groups(part, model)
    named = next(iter(inspect.signature(part.load()).parameters), None)
    positional: tuple[Any, ...] = (parameters,)
    if named in supplied:
        positional, supplied = (), {**supplied, "params": parameters}
    if part.inner is not None:
        holder, inner = part.inner
        positional = () if named == holder else positional
        inner = inner.model_copy(update={"options": _usual(inner.options)})
        usual[holder] = make_inner(part, holder, inner, parameters, supplied)
    if not any(getattr(each, "sparse", False) for each in model.modules()):  # as of embeddings
        usual |= _fused(part, parameters)
    optimizer = make(part.model_copy(update={"options": usual}), *positional, supplied=supplied)
    needed = ("step", "zero_grad", "state_dict", "load_state_dict", "param_groups")
    lacking = [name for name in needed if not hasattr(optimizer, name)]
    if isinstance(optimizer, type) or lacking:
        hint = f"That has no {listed(lacking)}" if lacking else "Let it make one of that class"
        raise wrong_kind(part, optimizer, "a torch.optim.Optimizer", hint)
    _check_groups(part, optimizer)
    given = {id(each) for group in optimizer.param_groups for each in group["params"]}
    left_out = [
        name
        for name, each in model.named_parameters()
        if each.requires_grad and id(each) not in given
    ]
    if left_out:
        raise UsageError(
            f"optimizer '{part.name}' leaves out {listed(left_out)}, so that nothing would "
            "train them.\n"
            "  Give them to it, or set their requires_grad to False where the model is made."
        )
    made: Optimizer = optimizer
    return made


def _fused(part: OptimizerPart, parameters: Sequence[Any]) -> dict[str, bool]:
    """Return ``fused``, if that is one kernel of torch's on a GPU and nobody has chosen otherwise.

    On a CPU it would change bits; and of what is not torch's, its author has chosen.
    """
    groups = [each if isinstance(each, dict) else {"params": [each]} for each in parameters]
    written = {"fused", "foreach", "differentiable"}
    is_open = written.isdisjoint(set(part.options).union(*groups))
    tensors = [tensor for group in groups for tensor in group["params"]]
    on_gpu = all(each.is_cuda and each.is_floating_point() for each in tensors)
    made = part.load()
    is_torchs = getattr(made, "__module__", "").startswith("torch.optim.")
    if not (is_open and on_gpu and is_torchs and "fused" in inspect.signature(made).parameters):
        return {}
    kernel = f"aten::_fused_{part.name}_"
    return {"fused": True} if _has_kernel(kernel, "CUDA") else {}


def _has_kernel(name: str, device: str) -> bool:
    """Look whether torch has a kernel for a kind of device."""
    try:
        return torch._C._dispatch_has_kernel_for_dispatch_key(name, device)
    except RuntimeError:  # there is no such operation
        return False


def _usual(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with tuples, which YAML has not, in the place of lists."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}


def _in_groups(part: OptimizerPart, model: nn.Module) -> list[Any]:
    """Return the parameters that need a gradient, in groups as torch has them if there are any."""
    named = {name: each for name, each in model.named_parameters() if each.requires_grad}
    if part.groups is None:
        return [*named.values()]
    found = []
    for label, names in members(part.groups, named).items():
        options = {**part.groups.get(label, {})}
        options |= options.pop("extra", {})  # which its source does not tell
        found.append({**_usual(options), "params": [named[name] for name in names]})
        found[-1].pop("match", None)
    return found


def members(groups: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names of the parameters in each group, those in none first, as of group ``""``.

    The others follow as the first parameter of each does in the network, however they are written.

    Raises:
        UsageError: a pattern matches no parameter, or two groups match one.
    """
    names, found = list(names), {"": list[str]()}
    for name in names:
        matching = {
            label: pattern
            for label, group in groups.items()
            for pattern in group["match"]
            if fnmatchcase(name, pattern)
        }
        if len(matching) > 1:
            said = listed([f"{pattern} of {label}" for label, pattern in matching.items()])
            raise UsageError(
                f"groups: the parameter {name} is in several groups: it matches {said}.\n"
                "  Write narrower patterns, so that each parameter is in one group at most."
            )
        found.setdefault(next(iter(matching), ""), []).append(name)
    for label, group in groups.items():
        for pattern in group["match"]:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UsageError(
                    f"groups: the pattern '{pattern}' of {label} matches no parameter that is "
                    f"trained.\n  There are {listed(names)}; * stands for any letters, dots too"
                    f"{nearest(pattern, names)}"
                )
    return {label: each for label, each in found.items() if each}


def _check_groups(part: OptimizerPart, optimizer: Optimizer) -> None:
    """Refuse an option of a group that an optimizer does not keep in its groups."""
    in_all = set.intersection(*map(set, optimizer.param_groups))
    known = {"match", "extra", *in_all, *getattr(optimizer, "defaults", {})}
    for label, group in (part.groups or {}).items():
        for option in group.keys() - known:
            raise UsageError(
                f"groups: optimizer '{part.name}' has one {option} for all parameters, so that "
                f"{label} cannot have its own.\n  Leave it out there."
            )


class ScheduleDriver:
    """A learning-rate schedule, or none, that is told of every step, epoch and evaluation.

    ``ReduceLROnPlateau`` watches the training loss: a schedule must not look at the test set.
    """

    def __init__(self, schedule: LRScheduler | None, unit: str = "epoch") -> None:
        self._schedule = schedule
        self._unit = unit

    def after_step(self) -> None:
        """Take notice of a finished optimizer step."""
        if self._schedule is not None and self._unit == "step":
            self._schedule.step()

    def after_epoch(self) -> None:
        """Take notice of a finished pass over the data."""
        watches = isinstance(self._schedule, ReduceLROnPlateau)
        if self._schedule is not None and self._unit == "epoch" and not watches:
            self._schedule.step()

    def after_evaluation(self, train_loss: float) -> None:
        """Take notice of an evaluation, and of the mean training loss since the one before."""
        if isinstance(self._schedule, ReduceLROnPlateau):
            self._schedule.step(train_loss)

    def state_dict(self) -> dict[str, Any]:
        """The schedule's state; empty without one."""
        return {} if self._schedule is None else self._schedule.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` gave."""
        if self._schedule is not None:
            self._schedule.load_state_dict(state)


def make_schedule(trial: Trial, optimizer: Optimizer, steps: int) -> ScheduleDriver:
    """Make the schedule of a trial, of so many steps in an epoch."""
    schedule = trial.schedule
    if schedule is None:
        return ScheduleDriver(None)
    course = trial.course(steps)
    epochs = course.pass_of(course.steps)
    built = build_schedule(schedule, optimizer, epochs=epochs, steps=course.steps)
    return ScheduleDriver(built, schedule.unit or "epoch")


class Stepper:
    """Steps an optimizer, whose gradients are there already, with a closure if it needs one.

    It does if its ``step`` says so, or if its first one fails without. The closure computes the
    loss and the gradients anew, where the weights are then (SAM). One whose ``step`` says so may
    begin by asking for those that are there (LBFGS), which costs nothing.

    Args:
        most_norm: of a gradient, whole; a longer one is shortened to it before it is used.

    Attribute ``grad_norm`` is that of the gradient that the last step began with, as it was before
    it was shortened; None where none is.
    """

    def __init__(self, optimizer: Optimizer, most_norm: float | None = None) -> None:
        self.optimizer, self.most_norm = optimizer, most_norm
        self.grad_norm: Tensor | None = None
        self.weights = [p for group in optimizer.param_groups for p in group["params"]]
        taken = list(inspect.signature(type(optimizer).step).parameters.values())[1:]
        self._takes_closure = any(each.kind <= each.VAR_POSITIONAL for each in taken)
        self._insists = any(
            each.default is each.empty and each.kind < each.VAR_POSITIONAL for each in taken
        )
        # None until it has made a step without one, which nobody need try with torch's and ours
        is_known = type(optimizer).__module__.startswith(("torch.optim.", "deltagclip_cli.optim."))
        second = ("is_second_order", "compute_hutchinson_hessian")  # as timm and others say it
        self.create_graph = any(getattr(optimizer, each, False) for each in second)
        self.needs_closure: bool | None = self._insists or (False if is_known else None)

    def step(self, evaluate: Callable[[], Tensor]) -> None:
        """Make one step; ``evaluate`` computes the gradients, and returns the loss."""
        self.grad_norm = None
        if self.most_norm is not None:
            evaluate = partial(self._clipped, evaluate, self.most_norm)
        loss = evaluate()
        if self.needs_closure is None:
            self.needs_closure = not self._has_stepped()
            if not self.needs_closure:
                return
        if self.needs_closure:
            self.optimizer.step(self._closure(evaluate, loss))  # type: ignore[arg-type]
        else:
            self.optimizer.step()

    def _clipped(self, evaluate: Callable[[], Tensor], most_norm: float) -> Tensor:
        loss = evaluate()
        norm: Any = clip_grad_norm_(self.weights, most_norm).detach()
        if hasattr(norm, "full_tensor"):  # of weights that are spread over several processes
            norm = norm.full_tensor()
        self.grad_norm = norm if self.grad_norm is None else self.grad_norm
        return loss

    def _has_stepped(self) -> bool:
        """Make a step without a closure; False if it fails, with weights and gradients put back."""
        before = [(w.detach().clone(), w.grad, _copy(w.grad)) for w in self.weights]
        try:
            self.optimizer.step()
        except torch.OutOfMemoryError:
            raise
        except Exception:
            if not self._takes_closure:
                raise
        else:
            return True
        with torch.no_grad():
            for weight, (value, gradient, numbers) in zip(self.weights, before, strict=True):
                weight.copy_(value)
                weight.grad = None if gradient is None else gradient.copy_(numbers)
        return False

    def _closure(self, evaluate: Callable[[], Tensor], loss: Tensor) -> Callable[[], Tensor]:
        there: list[tuple[Tensor, Tensor, Tensor | None, int]] = []
        if self._insists:
            there = [(w, w.detach().clone(), w.grad, _version(w.grad)) for w in self.weights]

        def closure() -> Tensor:
            is_there = bool(there) and all(
                weight.grad is gradient
                and _version(gradient) == version
                and torch.equal(weight, value)
                for weight, value, gradient, version in there
            )
            there.clear()
            with torch.enable_grad():
                return loss if is_there else evaluate()

        return closure

    def state_dict(self) -> dict[str, Any]:
        """Return what a continuation needs, optimizers inside this one included.

        The state of many leaves theirs out.
        """
        state: dict[str, Any] = {"optimizer": plain_state(self.optimizer)}
        if generators := dict(_generators(self.optimizer)):
            state["generators"] = {k: each.get_state() for k, each in generators.items()}
        if inner := dict(_inner(self.optimizer)):
            kept = {id(leaf) for _, leaf in leaves(state)}
            for name, each in inner.items():
                tensors = [
                    leaf
                    for place, leaf in leaves([*each.state.values()])
                    if isinstance(leaf, Tensor) and not place.startswith("the keys")
                ]
                if any(id(leaf) not in kept for leaf in tensors):
                    state.setdefault("inner", {})[name] = plain_state(each)
        if self.needs_closure:
            state["needs_closure"] = True
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict` gave; groups that are shared stay so."""
        inner = dict(_inner(self.optimizer))
        shared = [
            (each, number, other)
            for each in inner.values()
            for number, group in enumerate(each.param_groups)
            for other, outer in enumerate(self.optimizer.param_groups)
            if group is outer
        ]
        load_plain(self.optimizer, state["optimizer"])
        for name, generator in _generators(self.optimizer):
            generator.set_state(state["generators"][name])
        for name, of_inner in state.get("inner", {}).items():
            load_plain(inner[name], of_inner)
        for each, number, other in shared:
            each.param_groups[number] = self.optimizer.param_groups[other]
        self.needs_closure = state.get("needs_closure", self.needs_closure)

    def rate(self) -> float | Tensor | None:
        """Return the learning rate of now, if there is one; a schedule may change it in place."""
        rate = self.optimizer.param_groups[0].get("lr")
        if isinstance(rate, Tensor):
            return rate.detach().clone() if rate.numel() == 1 else None
        return rate if isinstance(rate, (int, float)) else None

    @property
    def averages(self) -> bool:
        """True if the optimizer has weights for an evaluation, and others to be trained at."""
        return all(callable(getattr(self.optimizer, name, None)) for name in ("train", "eval"))

    def train(self) -> None:
        """Go to the weights to be trained at, which checkpoints hold."""
        if self.averages:
            self.optimizer.train()  # type: ignore[attr-defined]

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Go to the weights for an evaluation, and back."""
        if self.averages:
            self.optimizer.eval()  # type: ignore[attr-defined]
        yield
        self.train()


def _inner(optimizer: Any, place: str = "") -> Iterator[tuple[str, Optimizer]]:
    """Yield the optimizers that one holds, alone or in a list, with their places in it."""
    for name, value in vars(optimizer).items():
        for number, each in enumerate(value if isinstance(value, (list, tuple)) else [value]):
            if isinstance(each, Optimizer):
                yield f"{place}{name}.{number}", each
                yield from _inner(each, f"{place}{name}.{number}.")


def _generators(optimizer: Any) -> Iterator[tuple[str, torch.Generator]]:
    """Yield the streams of random numbers that an optimizer keeps beside its state."""
    for name, value in vars(optimizer).items():
        if isinstance(value, torch.Generator):
            yield name, value


def _copy(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else gradient.clone()


def _version(gradient: Tensor | None) -> int:
    return 0 if gradient is None else gradient._version


@contextmanager
def renewed_statistics(model: nn.Module, apply: Callable[[], None]) -> Iterator[None]:
    """Measure the batch norms of a model anew; afterwards all its buffers are as they were.

    Args:
        apply: puts training batches through the model.
    """
    norms = [each for each in model.modules() if isinstance(each, _BatchNorm)]
    norms = [each for each in norms if each.running_mean is not None]
    if not norms:
        yield
        return
    momenta = [norm.momentum for norm in norms]
    kept = [
        (module._buffers, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # which is the mean of all batches
    model.train()
    with torch.no_grad():
        apply()
    yield
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    with torch.no_grad():
        for buffers, name, buffer, value in kept:
            buffers[name] = buffer.copy_(value)
