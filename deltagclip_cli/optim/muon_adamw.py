"""Muon for the matrices of a network, AdamW for all else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast, overload

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.optimizer import ParamsT

_OF_MUON = (
    "lr", "weight_decay", "momentum", "nesterov", "ns_coefficients", "eps", "ns_steps",
    "adjust_lr_fn",
)  # fmt: skip


class MuonAdamW(Optimizer):
    """Muon for every parameter with two dimensions, AdamW for biases, norms and convolutions.

    torch's own Muon takes matrices only, and most networks have other parameters. Its updates are
    scaled to the size of AdamW's (``adjust_lr_fn="match_rms_adamw"``), so that one learning rate
    and one weight decay serve both.

    Args:
        params: tensors, at least one of them a matrix; or groups, with options of their own.
        lr: η of both.
        weight_decay: decoupled, of both (default 0.1, torch's of Muon).
        momentum: of Muon.
        nesterov: of Muon.
        betas: of AdamW.
        eps: of AdamW.

    Raises:
        ValueError: no parameter is a matrix, or an option is out of its range.
        RuntimeError: this version of torch has no Muon, which came with 2.9.

    Source: Jordan et al. (2024), "Muon"; Liu et al. (2025), arXiv 2502.16982, for the scale;
    Loshchilov and Hutter (2019) for AdamW. Differs from the first: embeddings and the last layer
    are matrices too, and nobody tells an optimizer which these are.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise RuntimeError(f"Muon came with torch 2.9, and this is {torch.__version__}")
        self._usual = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "betas": betas,
            "eps": eps,
        }
        self._parts: list[Optimizer] = []
        super().__init__(params, {})
        if not any(isinstance(part, torch.optim.Muon) for part in self._parts):
            raise ValueError("Muon is for matrices, and the model has none; use adamw")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add the matrices of a group, and its other parameters, each as a group."""
        given = param_group["params"]
        params = [given] if isinstance(given, Tensor) else list(given)
        for part in _parts({**self._usual, **param_group}, params):
            super().add_param_group(part.param_groups[0])
            self._parts.append(part)
        self._share()

    def _share(self) -> None:
        """Let both work on the groups and the state of this one, which schedules and files see."""
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_parts": self._parts, "_usual": self._usual}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what ``state_dict`` gave."""
        super().load_state_dict(state_dict)
        self._share()

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move the weights once; gives the closure's loss, which is evaluated once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            if isinstance(part, torch.optim.Muon):
                _step(part)
            else:
                part.step()
        return loss


def _step(muon: torch.optim.Muon) -> None:
    """Make a step of Muon; of matrices that are spread over several processes, with each whole.

    Products of parts are added up in bfloat16, which has other digits than those of the whole.
    """
    (group,) = muon.param_groups
    if not any(hasattr(each, "full_tensor") for each in group["params"]):
        muon.step()  # type: ignore[no-untyped-call]
        return
    from torch.distributed.tensor import DTensor, distribute_tensor

    options = {name: value for name, value in group.items() if name in _OF_MUON}
    for matrix in group["params"]:
        gradient = cast(Any, matrix.grad)
        if gradient is None:
            continue
        assert isinstance(matrix, DTensor), "FSDP2 divides all of them"
        whole = torch.nn.Parameter(matrix.full_tensor().detach())
        whole.grad = gradient.full_tensor()
        alone = torch.optim.Muon([whole], **options)
        state: dict[str, Any] = muon.state[matrix]
        momentum = state.get("momentum_buffer")
        if momentum is not None:
            alone.state[whole] = {"momentum_buffer": momentum.full_tensor()}
        alone.step()  # type: ignore[no-untyped-call]

        def divided(tensor: Tensor, like: DTensor = matrix) -> Tensor:
            return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)

        with torch.no_grad():
            matrix.copy_(divided(whole.detach()))
        state["momentum_buffer"] = divided(alone.state[whole]["momentum_buffer"])


def _parts(options: Mapping[str, Any], params: Sequence[Any]) -> Iterator[Optimizer]:
    """Yield Muon for the matrices of a group, and AdamW for its other parameters.

    Args:
        params: tensors, or pairs of a name and a tensor.
    """
    dimensions = [(each[1] if isinstance(each, tuple) else each).ndim for each in params]
    matrices = [each for each, number in zip(params, dimensions, strict=True) if number == 2]
    others = [each for each, number in zip(params, dimensions, strict=True) if number != 2]
    lr, weight_decay = options["lr"], options["weight_decay"]
    if matrices:
        yield torch.optim.Muon(
            matrices,
            lr=lr,
            weight_decay=weight_decay,
            momentum=options["momentum"],
            nesterov=options["nesterov"],
            adjust_lr_fn="match_rms_adamw",
        )
    if others:
        yield AdamW(others, lr, options["betas"], options["eps"], weight_decay)
