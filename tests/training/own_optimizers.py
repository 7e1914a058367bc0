"""Optimizers as people write them: ordinary PyTorch, each with a habit of its own."""

import random
from collections import deque
from enum import Enum, IntEnum

import torch
from torch import nn
from torch.optim import LBFGS, SGD, Adam, Optimizer


class ScheduleFree(Optimizer):
    """Schedule-free SGD: trained at y, evaluated at the average x, both made of z."""

    def __init__(self, params, lr=0.1, beta=0.9):
        super().__init__(params, {"lr": lr, "beta": beta, "count": 0, "at_y": False})

    @torch.no_grad()
    def _go(self, at_y):
        for group in self.param_groups:
            weight = 1 - group["beta"] if at_y else 1 - 1 / group["beta"]
            for p in group["params"]:
                if group["at_y"] != at_y and "z" in self.state[p]:
                    p.lerp_(self.state[p]["z"], weight)
            group["at_y"] = at_y

    def train(self):
        self._go(True)

    def eval(self):
        self._go(False)

    @torch.no_grad()
    def step(self, closure=None):
        assert closure is None
        for group in self.param_groups:
            assert group["at_y"], "train() was not called"
            group["count"] += 1
            for p in group["params"]:
                z = self.state[p].setdefault("z", p.clone())
                p.lerp_(z, 1 / group["count"])
                p.sub_(p.grad, alpha=group["lr"] * (1 - group["beta"] * (1 - 1 / group["count"])))
                z.sub_(p.grad, alpha=group["lr"])


class SharpnessAware(Optimizer):
    """SAM, as most write it: gradients are there, and are wanted anew where the loss is highest."""

    def __init__(self, params, lr=0.1, rho=0.05):
        super().__init__(params, {"lr": lr, "rho": rho})

    @torch.no_grad()
    def step(self, closure=None):
        assert closure is not None, "it needs a closure"
        weights = [p for group in self.param_groups for p in group["params"]]
        kept = [p.clone() for p in weights]
        norm = torch.stack([p.grad.norm() for p in weights]).norm()
        for p in weights:
            p.data.add_(p.grad, alpha=float(self.param_groups[0]["rho"] / norm))
        closure()
        for p, value in zip(weights, kept, strict=True):
            p.copy_(value).sub_(p.grad, alpha=self.param_groups[0]["lr"])


class WrappingSharpnessAware(Optimizer):
    """SAM around another optimizer, whose state its own state_dict leaves out."""

    def __init__(self, params, lr=0.1, rho=0.05):
        super().__init__(params, {"rho": rho})
        self.base_optimizer = SGD(self.param_groups, lr=lr, momentum=0.9)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def step(self, closure=None):
        closure = torch.enable_grad()(closure)
        weights = self.param_groups[0]["params"]
        norm = torch.stack([p.grad.norm() for p in weights]).norm()
        for p in weights:
            self.state[p]["old"] = p.clone()
            p.add_(p.grad * (self.param_groups[0]["rho"] / norm))
        self.zero_grad()
        closure()
        for p in weights:
            p.data = self.state[p]["old"]
        self.base_optimizer.step()


class Both(Optimizer):
    """Two optimizers as one, each with a state of its own."""

    def __init__(self, params, lr=0.1):
        params = list(params)
        self.parts = [
            SGD([p for p in params if p.ndim > 1], lr=lr, momentum=0.9),
            Adam([p for p in params if p.ndim <= 1], lr=lr / 10),
        ]
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    def step(self, closure=None):
        for part in self.parts:
            part.step()


class Exact(Optimizer):
    """It adds up what it is given with more digits than the weights have."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            kept = self.state[p].setdefault("exact", torch.zeros_like(p, dtype=torch.float64))
            kept.add_(p.grad)
            p.sub_(kept.float(), alpha=self.param_groups[0]["lr"] / 10)


class Counting(Optimizer):
    """It counts its steps where no state_dict looks."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})
        self.count = 0

    @torch.no_grad()
    def step(self, closure=None):
        self.count += 1
        for p in self.param_groups[0]["params"]:
            p.sub_(p.grad, alpha=self.param_groups[0]["lr"] / self.count)


class Insistent(SharpnessAware):
    """The same, whose step says that it needs a closure."""

    def step(self, closure):
        super().step(closure)


class ClosureFirst(Optimizer):
    """The step of L-BFGS and its like: whatever there is, the closure is called first."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    def step(self, closure):
        self.zero_grad()
        closure()
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p.sub_(p.grad, alpha=self.param_groups[0]["lr"])


class WithoutClosure(SGD):
    """Its step takes nothing."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)

    def step(self):
        super().step()


class Labelled(SGD):
    """Its groups have a key that its source does not tell of."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)
        self.steps = [group["kind"] for group in self.param_groups]


class Deaf(Optimizer):
    """Its step must be given a closure, and never calls it."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure):
        for p in self.param_groups[0]["params"]:
            p.sub_(p.grad, alpha=self.param_groups[0]["lr"])


class Consuming(Optimizer):
    """Its step leaves no gradients behind."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            p.sub_(p.grad, alpha=self.param_groups[0]["lr"])
            p.grad = None


def with_tensor_rate(params, lr=0.01):
    """Its learning rate is a tensor."""
    return Adam(params, lr=torch.tensor(lr), foreach=False)


class WithoutRate(Optimizer):
    """It has no learning rate: each step is as long as its number says."""

    def __init__(self, params):
        super().__init__(params, {"steps": 0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["steps"] += 1
            for p in group["params"]:
                p.sub_(p.grad, alpha=0.2 / group["steps"] ** 0.5)


def by_layers(model, epochs, steps, lr=0.1):
    """It makes the groups itself, of the model."""
    assert steps == epochs * 4
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return SGD([{"params": weights}, {"params": others, "lr": lr / 2}], lr=lr, momentum=0.9)


def of_matrices(params, lr=0.1):
    """It forgets biases."""
    return SGD([p for p in params if p.ndim > 1], lr=lr)


class Delayed(SGD):
    """It steps with the mean of the last three gradients, which it has in a queue."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)

    def kept(self, p):
        return self.state[p].setdefault("queue", deque(maxlen=3))

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            queue = self.kept(p)
            queue.append(p.grad.clone())
            p.grad = sum(queue) / len(queue)
        super().step()


class Kind(Enum):
    """Of a memory."""

    SHORT = 3


class Memory:
    """Gradients, in an object."""

    def __init__(self, kind):
        self.kind, self.inner = kind, None
        self.gradients = deque(maxlen=kind.value)

    def __len__(self):
        return len(self.gradients)

    def append(self, gradient):
        self.gradients.append(gradient.double())

    def __getitem__(self, place):
        return self.gradients[place].float()


class Remembering(Delayed):
    """It has them in an object."""

    def kept(self, p):
        if "memory" not in self.state[p]:
            self.state[p]["memory"] = [Memory(Kind.SHORT)]
            self.state[p]["memory"][0].inner = Memory(Kind.SHORT)
        return self.state[p]["memory"][0]


class Memo:
    """Something that is more than its attributes."""

    __slots__ = ("numbers",)


class Unloadable(SGD):
    """It keeps what no checkpoint can hold."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)

    def step(self, closure=None):
        super().step(closure)
        for p in self.param_groups[0]["params"]:
            self.state[p]["memo"] = Memo()


def nothing(params, lr=0.1):
    """It forgets to return the optimizer."""
    SGD(params, lr=lr)


class Ungrouped:
    """It has all that an optimizer has but for groups."""

    step = zero_grad = state_dict = load_state_dict = None

    def __init__(self, params, lr=0.1):
        self.params = params


def a_class(params, lr=0.1):
    """It returns the class, not an optimizer."""
    return SGD


def without_key(params, lr=0.1):
    """It has a mistake in it."""
    return SGD(params, lr={"rate": lr}["lr"])


def once(params, lr=0.1):
    """L-BFGS with one evaluation in a step."""
    return LBFGS(params, lr=lr, max_iter=1)


class Reaching(SGD):
    """It changes what it was not given: a buffer of the model."""

    def __init__(self, params, model, lr=0.1):
        super().__init__(params, lr=lr)
        self.model = model

    @torch.no_grad()
    def step(self, closure=None):
        super().step(closure)
        for buffer in self.model.buffers():
            buffer.add_(1)


class Broken(SGD):
    """A step with a mistake in it."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)

    def step(self, closure=None):
        self.param_groups[0]["momentun"] += 1


class Chancy(SGD):
    """It draws from the generators of Python and of torch."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            p.grad.add_(torch.randn_like(p), alpha=0.01 * random.random())
        super().step()


class Wrapped:
    """It is no torch.optim.Optimizer, and has all that one needs."""

    def __init__(self, params, lr=0.1):
        self.inner = SGD(params, lr=lr, momentum=0.9)
        self.param_groups = self.inner.param_groups
        self.zero_grad = self.inner.zero_grad
        self.state_dict = self.inner.state_dict
        self.load_state_dict = self.inner.load_state_dict

    def step(self):
        self.inner.step()


class Normed(nn.Sequential):
    """A model with a batch norm and dropout."""

    def __init__(self, shape, classes):
        inputs = torch.Size(shape).numel()
        super().__init__(
            nn.Flatten(),
            nn.Linear(inputs, 16),
            nn.BatchNorm1d(16),
            nn.Dropout(0.1),
            nn.Linear(16, classes),
        )


class Around:
    """It steps with another optimizer that it is given, every second time twice as far."""

    def __init__(self, optimizer, k: int = 2):
        self.optimizer, self.k = optimizer, k
        self.param_groups = optimizer.param_groups
        self.zero_grad = optimizer.zero_grad
        self.state_dict = optimizer.state_dict
        self.load_state_dict = optimizer.load_state_dict

    def step(self):
        self.optimizer.step()


class MakingSharpnessAware(WrappingSharpnessAware):
    """SAM around an optimizer of a class that it is given, with options for that."""

    def __init__(self, params, base_optimizer, rho=0.05, **options):
        Optimizer.__init__(self, params, {"rho": rho, **options})
        self.base_optimizer = base_optimizer(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups


class SecondOrder(Optimizer):
    """It measures curvature by gradients of the gradient, with a stream of chance of its own."""

    is_second_order = True

    def __init__(self, params, lr=0.05):
        super().__init__(params, {"lr": lr})
        self.generator = torch.Generator().manual_seed(7)

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                draws = torch.randn(p.shape, generator=self.generator)
                (curved,) = torch.autograd.grad((p.grad * draws).sum(), p, retain_graph=True)
                p.data.sub_(p.grad.detach() / (1 + (curved * draws).abs()), alpha=group["lr"])


class Way(IntEnum):
    DOWN = 1
    UP = -1


class InWords(SGD):
    """It keeps a member of an enumeration in its groups."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr, momentum=0.9)
        for group in self.param_groups:
            group["way"] = Way.DOWN

    def step(self, closure=None):
        assert all(isinstance(group["way"], Way) for group in self.param_groups)
        return super().step()
