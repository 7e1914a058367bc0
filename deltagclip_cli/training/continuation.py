"""The promise that an optimizer goes on with the same bits, tried out before it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deltagclip_cli.core import UsageError
from deltagclip_cli.training.chance import seed_streams
from deltagclip_cli.training.stepping import Stepper, check_state, reloaded


def check_continuation(
    part: str,
    network: nn.Module,
    make: Callable[[], Optimizer],
    evaluate: Callable[[], Tensor],
    steps: int = 2,
    most_norm: float | None = None,
) -> None:
    """Refuse an optimizer that does not go on with the same bits from what a checkpoint holds.

    Args:
        part: what it is called in the message.
        network: whose weights it changes, and which is left as it is then.
        make: makes the optimizer.
        evaluate: computes the gradients, and returns the loss.
        steps: before the checkpoint, and after it.
        most_norm: of a gradient, as a :class:`Stepper` has it.
    """

    def begun() -> Stepper:
        stepper = Stepper(make(), most_norm)
        stepper.train()
        return stepper

    first, ends = _copied(network), []
    for stops in (False, True):
        network.load_state_dict(first)
        stepper = begun()
        for number in range(2 * steps):
            if number == steps:
                with stepper.evaluating():
                    pass
            if number == steps and stops:
                weights, state = _copied(network), stepper.state_dict()
                check_state(part, state["optimizer"])
                network.load_state_dict(first)
                stepper = begun()
                network.load_state_dict(weights)
                stepper.load_state_dict(reloaded(state))
            seed_streams(number)
            stepper.step(evaluate)
        ends.append(torch.cat([each.detach().flatten() for each in network.parameters()]))
    if bool(ends[0].isfinite().all()) and not torch.equal(*ends):
        raise UsageError(
            f"{part} does not go on where it was: its state_dict() leaves out something that steps "
            "depend on, so that an interrupted trial would end with other numbers.\n"
            "  Keep it in self.state or in self.param_groups."
        )


def _copied(network: nn.Module) -> dict[str, Any]:
    return {name: value.clone() for name, value in network.state_dict().items()}
