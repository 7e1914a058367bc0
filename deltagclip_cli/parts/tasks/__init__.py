"""Tasks: what is computed from a batch, and what of it is differentiated and reported.

A task is made as ``Task(**options)`` and called as ``task(model, inputs, targets)``; it returns a
:class:`Loss`. One of a user's own is called likewise, with its options, and may return less.
A method ``derived(means)`` makes of the means over samples what is none itself, by its name: such
as a perplexity, exp of the mean loss.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import Catalogue

if TYPE_CHECKING:
    from torch import Tensor

TABLE = Catalogue(
    "task",
    {
        "autoencode": "deltagclip_cli.parts.tasks.autoencode:Autoencode",
        "classify": "deltagclip_cli.parts.tasks.classify:Classify",
        "language_model": "deltagclip_cli.parts.tasks.language_model:LanguageModel",
        "regress": "deltagclip_cli.parts.tasks.regress:Regress",
        "supervised": "deltagclip_cli.parts.tasks.supervised:Supervised",
    },
    arguments=3,
    supplied=frozenset({"target_scale"}),
    bounds={
        "classify.top_k": {"ge": 2},
        "classify.label_smoothing": {"ge": 0, "lt": 1},
    },
)

METRICS = {
    "autoencode": {
        "reconstruction": "the squared error, summed over the entries of a sample",
        "divergence": "the Kullback-Leibler divergence of a sample's code from N(0, 1)",
    },
    "classify": {
        "accuracy": "the share of samples whose likeliest class is right; `accuracy_topK` with"
        " `top_k: K`, of those whose class is among the K likeliest",
    },
    "language_model": {"perplexity": "exp of the loss, whose unit is nats a token"},
    "regress": {
        "mae": "the mean absolute error, of a single target in its own unit",
        "rmse": "the root of the mean squared error, of a single target in its own unit",
        "r2": "the share of the variance of a split's targets that is explained",
    },
}
"""What our tasks measure besides the loss, and what that is."""

LOSSES = (
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy",
    "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "mse_loss", "multi_margin_loss",
    "multilabel_margin_loss", "multilabel_soft_margin_loss", "nll_loss", "poisson_nll_loss",
    "smooth_l1_loss", "soft_margin_loss",
)  # fmt: skip
"""The losses of torch.nn.functional that compare outputs with targets, sample by sample."""

LOSS_TABLE = Catalogue(
    "loss",
    {name: f"torch.nn.functional:{name}" for name in LOSSES},
    # Weights are tensors, which a spec cannot write.
    supplied=frozenset(
        {"input", "target", "weight", "pos_weight", "size_average", "reduce", "reduction"}
    ),
    arguments=2,
)

METRIC_TABLE = replace(
    LOSS_TABLE,
    kind="metric",
    supplied=LOSS_TABLE.supplied | {"outputs", "targets"},
    entries={
        "accuracy": "deltagclip_cli.parts.tasks.supervised:accuracy",
        **LOSS_TABLE.entries,
    },
)


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of a batch as it is differentiated, and what is reported."""

    objective: Tensor  # scalar, with a graph; what the optimizer minimises
    # scalars without a graph, each a sum over the batch's samples, so that dividing by the number
    # of samples weighs every sample the same. Always ``"loss"``; a classifier adds ``"accuracy"``,
    # the number of right answers.
    sums: dict[str, Tensor]


def logits_of(outputs: Any) -> Any:
    """Return the logits of what a model returns, as those of transformers have them."""
    return getattr(outputs, "logits", outputs)


def with_derived(task: object, means: dict[str, float]) -> dict[str, float]:
    """Return means over samples, and what a task that has ``derived`` makes of them.

    A mean that was needed for that alone is left out: by None in its place.
    """
    derived = getattr(task, "derived", None)
    if derived is None:
        return means
    made = {**means, **derived(means)}
    return {name: value for name, value in made.items() if value is not None}
