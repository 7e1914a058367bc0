"""A sound optimizer, and for every conformance test one that is broken in the way that it finds.

Each class is named in ``CAUGHT`` by the test that must fail on it.
"""

from __future__ import annotations

import ctypes
import os
import time
from decimal import Decimal
from typing import ClassVar

import torch
from torch.optim import Optimizer


class Sound(Optimizer):
    """Gradient descent with momentum, which passes every test."""

    def __init__(
        self,
        params,
        lr: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ):
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "fused": fused,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.follow(p, p.grad, group)
        return loss

    def follow(self, p, g, group):
        if g.is_sparse:
            raise RuntimeError("no sparse gradients")
        self.move(p, self.momentum(p, -g if group["maximize"] else g, group), group["lr"], group)

    def momentum(self, p, g, group):
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].mul_(group["momentum"]).add_(g + group["weight_decay"] * p)
        return state["momentum"]

    def move(self, p, m, lr, group):
        p.sub_(lr * m)


class Averaging(Sound):
    """Has a mean of the weights, to which eval() goes and from which train() comes back."""

    def __init__(self, params, lr: float = 0.01):
        super().__init__(params, lr)
        for group in self.param_groups:
            group["training"] = True

    def move(self, p, m, lr, group):
        super().move(p, m, lr, group)
        mean = self.state[p].setdefault("mean", p.clone())
        mean.lerp_(p, 0.5)

    @torch.no_grad()
    def change(self, training):
        for group in self.param_groups:
            if group["training"] != training:
                self.swap(group)
                group["training"] = training

    def swap(self, group):
        for p in group["params"]:
            if "mean" in self.state[p]:
                p.data, self.state[p]["mean"].data = self.state[p]["mean"].clone(), p.data.clone()

    def train(self):
        self.change(True)

    def eval(self):
        self.change(False)


class Warms(Sound):
    """Gathers statistics first, for three steps of each weight."""

    def move(self, p, m, lr, group):
        steps = self.state[p]["steps"] = self.state[p].get("steps", 0) + 1
        if steps > 3:
            super().move(p, m, lr, group)


# Use


class NoStep(Sound):
    def move(self, p, m, lr, group):
        raise ZeroDivisionError("no step")


class NoLoss(Sound):
    def step(self, closure=None):
        super().step(closure)


class OnlyWithClosure(Sound):
    def step(self, closure=None):
        return None if closure is None else super().step(closure)


class GradientsAddUp(Sound):
    def zero_grad(self, set_to_none: bool = True):
        pass


class ScalesItself(Sound):
    """Says that it takes the scale off, and does not."""

    _step_supports_amp_scaling = True

    def step(self, closure=None, grad_scaler=None):
        return super().step(closure)


class OtherwiseCompiled(Sound):
    def move(self, p, m, lr, group):
        p.sub_((2 if torch.compiler.is_compiling() else 1) * lr * m)


class StepOfItsOwn(Sound):
    def __init__(self, params, lr: float = 0.01):
        super().__init__(params, lr)
        self.step = self.step.__wrapped__.__get__(self)


class Nameless(Sound):
    def __repr__(self):
        return "an optimizer"


class NewMemory(Sound):
    def move(self, p, m, lr, group):
        p.data = p.data - lr * m


class KeepsTheGraph(Sound):
    def move(self, p, m, lr, group):
        with torch.enable_grad():
            self.state[p]["penalty"] = (p * p).sum()
        super().move(p, m, lr, group)


class ForeachTwice(Sound):
    def move(self, p, m, lr, group):
        p.sub_((2 if group["foreach"] else 1) * lr * m)


class FusedTwice(Sound):
    def move(self, p, m, lr, group):
        p.sub_((2 if group["fused"] else 1) * lr * m)


class DownAllTheSame(Sound):
    def follow(self, p, g, group):
        self.move(p, self.momentum(p, g, group), group["lr"], group)


class NoisyRanks(Sound):
    def move(self, p, m, lr, group):
        p.sub_(lr * (m + torch.randn_like(m)))


class NormOfTheShard(Sound):
    def move(self, p, m, lr, group):
        norm = m.to_local().norm() if hasattr(m, "to_local") else m.norm()
        p.sub_(lr * m * (1 / (1 + norm.item())))


# State


class KeepsADecimal(Sound):
    def __init__(self, params, lr: float = 0.01):
        super().__init__(params, lr)
        self.param_groups[0]["exact"] = Decimal("0.1")


class ForgetsItsSteps(Sound):
    def move(self, p, m, lr, group):
        super().move(p, m, lr, group)
        self.state[p]["steps"] = self.state[p].get("steps", 0) + 1

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        for each in self.state.values():
            each["steps"] = 0


class MomentumElsewhere(Sound):
    def __init__(self, params, lr: float = 0.01):
        super().__init__(params, lr)
        self.kept = {}

    def momentum(self, p, g, group):
        self.kept[p] = 0.9 * self.kept.get(p, 0.0) + g + group["weight_decay"] * p
        return self.kept[p]


class LoadsOnlyWhatIsThere(Sound):
    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        for p in self.param_groups[0]["params"]:
            self.state[p]["momentum"].requires_grad_(False)


class KeepsItsRate(Sound):
    def load_state_dict(self, state_dict):
        rates = [group["lr"] for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, lr in zip(self.param_groups, rates, strict=True):
            group["lr"] = lr


class SinglePrecisionState(Sound):
    def momentum(self, p, g, group):
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p, dtype=torch.float32)
        state["momentum"].mul_(group["momentum"]).add_(g.float())
        return state["momentum"].to(p.dtype)


class CountsByName(Sound):
    def step(self, closure=None):
        self.state["steps"] = {"number": self.state.get("steps", {"number": 0})["number"] + 1}
        return super().step(closure)


class CopyIsItself(Sound):
    def __deepcopy__(self, memo):
        return self


class Unpicklable(Sound):
    def __getstate__(self):
        return {**super().__getstate__(), "decay": lambda step: 0.9**step}


class NeedsARate(Sound):
    def move(self, p, m, lr, group):
        super().move(p, m, lr * (lr / lr), group)


class ThereAndNotBack(Averaging):
    def change(self, training):
        for group in self.param_groups:
            with torch.no_grad():
                self.swap(group)


class ModeNotSaved(Averaging):
    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["training"] = True


# Learning rate


class RateOfTheBeginning(Sound):
    def move(self, p, m, lr, group):
        super().move(p, m, self.defaults["lr"], group)


class NeverStandsStill(Sound):
    def move(self, p, m, lr, group):
        super().move(p, m, lr or 0.01, group)


class HalvesATensor(Sound):
    def move(self, p, m, lr, group):
        lr *= 0.5
        super().move(p, m, lr, group)


class SetsItsOwnRate(Sound):
    def step(self, closure=None):
        said = super().step(closure)
        for group in self.param_groups:
            group["lr"] = 0.999 * group["lr"]
        return said


# Parameter groups


class FirstRateForAll(Sound):
    def move(self, p, m, lr, group):
        super().move(p, m, self.param_groups[0]["lr"], group)


class FirstDecayForAll(Sound):
    def momentum(self, p, g, group):
        return super().momentum(
            p, g, {**group, "weight_decay": self.param_groups[0]["weight_decay"]}
        )


class CountsGroups(Sound):
    def move(self, p, m, lr, group):
        super().move(p, m, lr / len(self.param_groups), group)


class OnlyThoseOfTheBeginning(Sound):
    def __init__(self, params, lr: float = 0.01):
        super().__init__(params, lr)
        self.first = {id(p) for group in self.param_groups for p in group["params"]}

    def move(self, p, m, lr, group):
        if id(p) in self.first:
            super().move(p, m, lr, group)


class WalksTwice(Sound):
    def __init__(self, params, lr: float = 0.01):
        self.number = sum(1 for _ in params)
        super().__init__(params, lr)


class LosesTheLastName(Sound):
    def __init__(self, params, lr: float = 0.01):
        params = list(params)
        super().__init__(params[:-1] if isinstance(params[0], tuple) else params, lr)


class TakesAnything(Sound):
    def __init__(self, params, lr: float = 0.01):
        super().__init__(list(params) or [torch.zeros(1, requires_grad=True)], lr)


class NormOfTheLast(Sound):
    def move(self, p, m, lr, group):
        self.last = getattr(self, "last", 1.0) * 0.5 + float(m.abs().sum())
        super().move(p, m, lr / (1 + self.last), group)


# Gradients


class DecaysTheUnused(Sound):
    @torch.no_grad()
    def step(self, closure=None):
        said = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["lr"])
        return said


class StateAtOnce(Sound):
    @torch.no_grad()
    def step(self, closure=None):
        if not self.state:
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self.state[p]["momentum"] = torch.zeros_like(p)
        return super().step(closure)

    def momentum(self, p, g, group):
        self.state[p]["momentum"].mul_(group["momentum"]).add_(g + group["weight_decay"] * p)
        return self.state[p]["momentum"]


class NeedsAGradient(Sound):
    @torch.no_grad()
    def step(self, closure=None):
        every = [p.grad for group in self.param_groups for p in group["params"]]
        torch.stack([g.abs().sum() for g in every if g is not None])
        return super().step(closure)


class DividesByTheNorm(Sound):
    def momentum(self, p, g, group):
        return super().momentum(p, g / g.norm(), group)


class GoesOnWithTheFrozen(Sound):
    @torch.no_grad()
    def step(self, closure=None):
        said = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None and p in self.state:
                    self.move(p, self.state[p]["momentum"], group["lr"], group)
        return said


class WritesToGradients(Sound):
    def momentum(self, p, g, group):
        return super().momentum(p, g.mul_(0.5), group)


class IgnoresTheSparse(Sound):
    def follow(self, p, g, group):
        if not g.is_sparse:
            super().follow(p, g, group)


class UpToTwoDimensions(Sound):
    def move(self, p, m, lr, group):
        if p.dim() in (3, 5):
            raise ValueError("too many dimensions")
        super().move(p, m, lr, group)


class NeedsADimension(Sound):
    def move(self, p, m, lr, group):
        super().move(p, m, lr * p.size(0) / p.size(0), group)


class TakesTheLargest(Sound):
    def move(self, p, m, lr, group):
        super().move(p, m, lr / (1 + m.abs().max()), group)


class ViewsInARow(Sound):
    def move(self, p, m, lr, group):
        p.view(-1).sub_(lr * m.reshape(-1))


# Numbers


class GoesUp(Sound):
    def move(self, p, m, lr, group):
        super().move(p, m, -lr, group)


class SharedState(Sound):
    steps: ClassVar[list[int]] = [0]

    def move(self, p, m, lr, group):
        self.steps[0] += 1
        super().move(p, m, lr / self.steps[0], group)


class WidensHalves(Sound):
    def move(self, p, m, lr, group):
        if p.dtype == torch.bfloat16:
            p.data = p.data.float()
        super().move(p, m, lr, group)


class RealPartsAlone(Sound):
    def move(self, p, m, lr, group):
        super().move(p, m.real if m.is_complex() else m, lr, group)


class SeedsTheWorld(Sound):
    def step(self, closure=None):
        torch.manual_seed(0)
        return super().step(closure)


class TunesCudnn(Sound):
    def __init__(self, params, lr: float = 0.01):
        torch.backends.cudnn.benchmark = True
        super().__init__(params, lr)


# Processes


class _WhenSaved(Sound):
    def state_dict(self):
        self.happens()
        return super().state_dict()


class EndsItsProcess(_WhenSaved):
    def happens(self):
        os._exit(7)


class ReadsNoMemory(_WhenSaved):
    def happens(self):
        ctypes.string_at(0)


class NeverEnds(_WhenSaved):
    def happens(self):
        while True:
            time.sleep(1)


CAUGHT = {
    "a step": NoStep,
    "a closure": NoLoss,
    "no closure": OnlyWithClosure,
    "zero_grad": GradientsAddUp,
    "GradScaler": ScalesItself,
    "torch.compile": OtherwiseCompiled,
    "hooks": StepOfItsOwn,
    "repr": Nameless,
    "in place": NewMemory,
    "no graph kept": KeepsTheGraph,
    "foreach": ForeachTwice,
    "fused": FusedTwice,
    "maximize": DownAllTheSame,
    "DDP": NoisyRanks,
    "FSDP2": NormOfTheShard,
    "plain values": KeepsADecimal,
    "round trip": ForgetsItsSteps,
    "resume": MomentumElsewhere,
    "before a step": LoadsOnlyWhatIsThere,
    "options of groups": KeepsItsRate,
    "dtype of state": SinglePrecisionState,
    "keys of state": CountsByName,
    "deepcopy": CopyIsItself,
    "pickle": Unpicklable,
    "distributed checkpoint": NeedsARate,
    "train and eval": ThereAndNotBack,
    "saved in eval": ModeNotSaved,
    "read at every step": RateOfTheBeginning,
    "a rate of 0": NeverStandsStill,
    "a tensor": HalvesATensor,
    "every LRScheduler": SetsItsOwnRate,
    "a schedule resumed": KeepsItsRate,
    "a rate for each": FirstRateForAll,
    "a decay for each": FirstDecayForAll,
    "split in two": CountsGroups,
    "added later": OnlyThoseOfTheBeginning,
    "a generator": WalksTwice,
    "named parameters": LosesTheLastName,
    "wrong parameters": TakesAnything,
    "order of parameters": NormOfTheLast,
    "one without": DecaysTheUnused,
    "one that comes late": StateAtOnce,
    "none at all": NeedsAGradient,
    "zeros": DividesByTheNorm,
    "frozen": GoesOnWithTheFrozen,
    "left as they are": WritesToGradients,
    "sparse": IgnoresTheSparse,
    "all dimensions": UpToTwoDimensions,
    "a single number": NeedsADimension,
    "an empty one": TakesTheLargest,
    "strides": ViewsInARow,
    "descends": GoesUp,
    "the same twice": SharedState,
    "fp64": SinglePrecisionState,
    "bf16": WidensHalves,
    "complex": RealPartsAlone,
    "random numbers": SeedsTheWorld,
    "what is global": TunesCudnn,
}
"""By the test that must fail on it, an optimizer that is broken in that way."""
