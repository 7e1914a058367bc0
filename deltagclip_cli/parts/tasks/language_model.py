"""Language modelling."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.tasks import Loss, logits_of

_ROUNDING = 1e-3  # relative, of logits in half precision too


class LanguageModel:
    """Predict the next token, from all that come before it in its window.

    The loss of a sample is the mean over its tokens of the cross-entropy in nats, and the objective
    their mean over the batch. ``perplexity`` is exp of the mean loss.
    """

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Loss:
        """Apply the model to tokens ``(B, L)``; its logits ``(B, L, V)`` tell those that follow."""
        outputs = logits_of(model(inputs))
        wanted = targets.shape if targets.dtype == torch.int64 else ()
        if not isinstance(outputs, Tensor) or outputs.ndim != 3 or outputs.shape[:2] != wanted:
            got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise UsageError(
                "task language_model needs logits (B, L, vocabulary) for the tokens (B, L) that "
                f"follow: {type(model).__name__} returns {got}, and the targets are "
                f"{tuple(targets.shape)}.\n"
                "  Choose the model gpt, or one of transformers with LM in its name, and data of "
                "tokens."
            )
        # Half precision would lose digits of the loss.
        logits = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        objective = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return Loss(objective, {"loss": objective.detach() * len(targets)})

    @torch.inference_mode()
    def check(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
        """Refuse a model, in evaluation mode, whose logits hang on tokens that come after theirs.

        It would be given what it is to predict. One that gives other logits each time is let pass.
        """
        least, largest = inputs.min(), inputs.max()
        changed = inputs.clone()
        changed[:, -1] = torch.where(inputs[:, -1] == least, largest, least)
        if inputs.shape[1] < 2 or least == largest:
            return
        first, again, other = (
            logits_of(model(each))[:, :-1].float() for each in (inputs, inputs, changed)
        )
        size = float(first.abs().max()) or 1.0
        same = float((first - again).abs().max()) <= _ROUNDING * size
        if same and float((first - other).abs().max()) > _ROUNDING * size:
            raise UsageError(
                f"task language_model: {type(model).__name__} sees the tokens that it is to "
                "predict: what it says of the next token changes with tokens that come after it.\n"
                "  Let each token attend to those before it alone, such as by is_causal=True."
            )

    def derived(self, means: dict[str, float]) -> dict[str, float]:
        """Return the perplexity."""
        try:
            return {"perplexity": math.exp(means["loss"])}
        except OverflowError:
            return {"perplexity": math.inf}
