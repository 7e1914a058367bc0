"""δ-GClip and GClip as ``torch.optim`` optimizers."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT, _use_grad_for_differentiable

from deltagclip_cli.optim.update import (
    Gradients,
    accumulation_dtype,
    apply_update,
    blocks,
    collect,
    gather_norms,
    norms_over_shards,
    step_sizes,
    tensor_norms,
)

__all__ = ["DeltaGClip", "GClip"]

_NormScope = Literal["global", "group", "parameter"]


class DeltaGClip(Optimizer):
    r"""Gradient descent with regularized gradient clipping, δ-GClip.

    With gradient g, weights w and h the size of this step::

        h = η · min(1, max(δ, γ / ‖g‖))
        w ← w − h · (g + λ w)

    so that h stays between ηδ and η. A step is *plain* when h = η (‖g‖ ≤ γ), *floored* when h = ηδ
    (γ/‖g‖ ≤ δ < 1), and *clipped* in between (h = ηγ/‖g‖). δ = 0 is :class:`GClip`, δ ≥ 1 is
    gradient descent, all of whose steps are plain. The norm is that of the raw gradient; weight
    decay comes after it.

    Args:
        params: parameters or named parameters, or dicts that define parameter groups. Each group
            may have its own ``lr``, ``gamma``, ``delta`` and ``weight_decay``.
        lr: η, the largest step size; a float, or a tensor with one element.
        gamma: γ, the gradient norm above which steps are shortened; in units of the gradient.
        delta: δ, the least fraction of ``lr`` that a step is shortened to.
        weight_decay: λ, L2 penalty (default: 0).
        norm_scope: the tensors that ‖g‖ is taken over and that share a step size: ``"global"``,
            one norm over all parameter groups; ``"group"``, one for each group; ``"parameter"``,
            one for each tensor, the variant δ-GClip-c (default: ``"global"``).
        maximize: go uphill (default: False).
        foreach: update all tensors of a kind by a few operations over lists.
        fused: update all tensors of a kind in one kernel. With both ``foreach`` and ``fused`` left
            unset, tensors on a CPU are updated one by one if there is no weight decay; else each
            takes the fused kernel where it is legal, else foreach on an accelerator, else a loop;
            setting either to False asks for the loop. Under ``torch.compile`` fused means foreach,
            which the compiler fuses itself.
        capturable: keep ``lr`` as a tensor on the parameters' device, so that a captured CUDA
            graph follows the learning-rate schedule. Capture again after ``load_state_dict``
            (default: False).
        differentiable: let autograd see the step, the norm included (default: False).

    Attributes ``grad_norm``, ``step_size`` and ``regime_counts`` tell of the steps made, as tensors
    on the parameters' device; reading their values is what waits for the device, ``step`` never
    does. They are None before the first step and not part of ``state_dict``. A *block* is what
    shares a step size: a parameter group, or with scope ``"parameter"`` a tensor; blocks without a
    gradient are left out. Steps of size 0 (``lr = 0``) or NaN are in none of the three counts.

    Raises:
        ValueError: a hyper-parameter is negative, NaN or infinite, or ``norm_scope`` is unknown.
        RuntimeError: ``foreach``, ``fused`` and ``differentiable`` exclude each other; in ``step``,
            a gradient is sparse, or ``fused=True`` and a tensor does not allow it.

    Example:
        >>> import torch
        >>> from deltagclip_cli.optim import DeltaGClip
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = DeltaGClip(model.parameters(), lr=0.5, gamma=1.0, delta=1e-3)
        >>> model(torch.ones(8, 3)).square().mean().backward()
        >>> optimizer.step()
        >>> int(optimizer.regime_counts.sum())
        1

    Source:
        Tucat, Mukherjee, Sen, Sun, Rivasplata, *Regularized Gradient Clipping Provably Trains Wide
        and Deep Neural Networks*, TMLR 2025, arXiv 2404.08624, Algorithm δ-GClip.

    Note:
        Differs from the authors' code: one norm over all parameter groups (theirs: one a group);
        parameters without a gradient are skipped (theirs: an error); ``step`` returns the closure's
        loss (theirs: the norm); gradients are never written to (theirs: weight decay is added
        into ``p.grad``); where ‖g‖ = 0 weight decay still applies, with h = η (theirs: it does
        not); the host never waits for the device (theirs: at every step).

    Note:
        A NaN gradient makes the weights of its blocks NaN, and an infinite one makes their step
        floored, as nothing else is known of it. ``torch.amp.GradScaler`` skips such steps.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        gamma: float,
        delta: float,
        weight_decay: float = 0,
        *,
        norm_scope: Literal["global", "group", "parameter"] = "global",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "gamma": gamma,
            "delta": delta,
            "weight_decay": weight_decay,
            "norm_scope": norm_scope,
            "maximize": maximize,
            "foreach": foreach,
            "fused": fused,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        _check_options(defaults)
        # In a dict, because torch.compile drops attributes that step() sets on an optimizer.
        self._observed: dict[str, Tensor] = {}
        super().__init__(params, defaults)

    @property
    def grad_norm(self) -> Tensor | None:
        """‖g‖ at the last step that had a gradient: 0-dim, or one value a block (n,)."""
        return self._observed.get("grad_norm")

    @property
    def step_size(self) -> Tensor | None:
        """The step size h of every block (n,) at that step."""
        return self._observed.get("step_size")

    @property
    def regime_counts(self) -> Tensor | None:
        """The numbers of plain, clipped and floored steps so far (3,), one a block and step."""
        return self._observed.get("regime_counts")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with defaults for the options it leaves out."""
        if isinstance(param_group, dict):
            _check_options({**self.defaults, **param_group})
            scope = self.defaults["norm_scope"]
            if param_group.get("norm_scope", scope) not in (None, scope):
                raise ValueError(
                    f"norm_scope belongs to the whole optimizer, where it is {scope!r}, "
                    f"but a parameter group has: {param_group['norm_scope']!r}"
                )
        super().add_param_group(param_group)
        _place_lr(self.param_groups[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_observed": self._observed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("_observed", {})
        for group in self.param_groups:
            for name, value in self.defaults.items():  # what an older version had not
                group.setdefault(name, value)
            _place_lr(group)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @_use_grad_for_differentiable
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step.

        Args:
            closure: evaluates the model again, with gradients, and returns the loss.

        Returns:
            The closure's loss, or None without a closure.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        found = [collect(group) for group in self.param_groups]
        found = [gradients for gradients in found if gradients.grads]
        if not found:
            return loss
        if found[0].params[0].device.type != "cpu":  # it asks the driver, which takes its time
            # Older versions of torch have only the second, newer ones deprecate it.
            check = getattr(self, "_accelerator_graph_capture_health_check", None)
            (check or self._cuda_graph_capture_health_check)()
        norms, observed = self._norms(found)
        sized = [
            step_sizes(norm, lr=group["lr"], gamma=group["gamma"], delta=group["delta"])
            for (group, *_), norm in zip(found, norms, strict=True)
        ]
        # Before the weights are touched, which leaves nothing of torch's own code in the caches.
        self._observe(observed, *map(_joined, zip(*sized, strict=True)))
        for (group, params, grads, _), (h, _) in zip(found, sized, strict=True):
            for block, block_grads, block_h in blocks(params, grads, h):
                apply_update(
                    block,
                    block_grads,
                    block_h,
                    weight_decay=group["weight_decay"],
                    maximize=group["maximize"],
                    foreach=group["foreach"],
                    fused=group["fused"],
                    differentiable=group["differentiable"],
                )
        return loss

    def _norms(self, found: list[Gradients]) -> tuple[list[Tensor], Tensor]:
        """The norms that each group's step sizes follow from, and what ``grad_norm`` shows."""
        grads = [grad for group in found for grad in group.grads]
        layouts = [layout for group in found for layout in group.layouts]
        norms = tensor_norms(grads, differentiable=self.defaults["differentiable"])
        if any(layouts):
            norms = norms_over_shards(norms, layouts)
        each = gather_norms(norms)
        scope = found[0].group["norm_scope"]
        if scope == "global":
            total = torch.linalg.vector_norm(each)
            return [total.reshape(1)] * len(found), total
        by_group = list(torch.split(each, [len(group.grads) for group in found]))
        if scope == "group":
            by_group = [torch.linalg.vector_norm(part).reshape(1) for part in by_group]
        return by_group, torch.cat(by_group)

    def _observe(self, grad_norm: Tensor, step_size: Tensor, regime: Tensor) -> None:
        counts = self._observed.get("regime_counts")
        if counts is None:
            counts = torch.zeros(3, dtype=torch.int64, device=regime.device)
        counts = self._observed["regime_counts"] = counts.to(regime.device)
        # Not by index_add_, which waits for a GPU under torch.use_deterministic_algorithms.
        kinds = torch.arange(3, device=regime.device)
        moved = step_size.detach() > 0
        # In place, for a captured graph reads and writes the same memory at every replay.
        counts += ((regime[:, None] == kinds) & moved[:, None]).sum(dim=0)
        self._observed["grad_norm"] = grad_norm.detach()
        self._observed["step_size"] = step_size.detach()


class GClip(DeltaGClip):
    """Gradient descent with gradient clipping, GClip: δ-GClip with δ = 0.

    ``h = η · min(1, γ / ‖g‖)``. Arguments, attributes and errors are those of
    :class:`DeltaGClip`, without ``delta``.

    Example:
        >>> import torch
        >>> from deltagclip_cli.optim import GClip
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> optimizer = GClip([weight], lr=1.0, gamma=1.0)
        >>> weight.square().sum().backward()
        >>> optimizer.step()
        >>> [round(w, 6) for w in weight.tolist()]
        [2.4, 3.2]
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        gamma: float,
        weight_decay: float = 0,
        *,
        norm_scope: Literal["global", "group", "parameter"] = "global",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr,
            gamma,
            0,
            weight_decay,
            norm_scope=norm_scope,
            maximize=maximize,
            foreach=foreach,
            fused=fused,
            capturable=capturable,
            differentiable=differentiable,
        )


def _check_options(options: dict[str, Any]) -> None:
    """Refuse what δ-GClip cannot work with, by name and value."""
    lr = options["lr"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"A tensor lr should have one element but has shape {tuple(lr.shape)}")
    for name in ("lr", "gamma", "delta", "weight_decay"):
        value = options[name]
        if isinstance(value, Tensor):
            value = value.detach().item()
        above_zero = name == "gamma"
        if not (value > 0 if above_zero else value >= 0) or not math.isfinite(value):
            limit = "> 0" if above_zero else ">= 0"
            raise ValueError(f"{name} should be {limit} and finite but is: {value}")
    scopes = get_args(_NormScope)
    if options["norm_scope"] not in scopes:
        raise ValueError(f"norm_scope should be one of {scopes} but is: {options['norm_scope']!r}")
    exclusive = [name for name in ("foreach", "fused", "differentiable") if options[name]]
    if len(exclusive) > 1:
        raise RuntimeError(f"{' and '.join(exclusive)} cannot be True together")


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat([*parts])


def _place_lr(group: dict[str, Any]) -> None:
    """Keep the rate of a capturable group where a captured graph can read it."""
    if group["capturable"] and group["params"]:
        first = group["params"][0]
        dtype = accumulation_dtype(first.dtype.to_real())
        group["lr"] = torch.as_tensor(group["lr"], dtype=dtype, device=first.device)
