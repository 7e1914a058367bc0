"""The small decoder, and the task that trains it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.models.gpt import gpt
from deltagclip_cli.parts.tasks import with_derived
from deltagclip_cli.parts.tasks.language_model import LanguageModel

TOKENS = torch.randint(0, 7, (5, 9), generator=torch.Generator().manual_seed(0))
INPUTS, TARGETS = TOKENS[:, :-1], TOKENS[:, 1:]


def small(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return gpt((8,), 7, 7, layers=2, heads=2, width=8, dropout=dropout)


def test_a_token_sees_those_before_it_alone() -> None:
    model, changed = small(), INPUTS.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 7
    before, after = model(INPUTS), model(changed)
    assert before.shape == (5, 8, 7)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5], after[:, 5])


def test_embeddings_are_the_last_layer_and_nothing_is_there_twice() -> None:
    model = small()
    count = 7 * 8 + 8 * 8 + 2 * (12 * 8 * 8 + 2 * 8) + 8
    assert sum(each.numel() for each in model.parameters()) == count
    assert gpt((8,), 7, 7, layers=1, heads=1, width=4)(INPUTS[:, :3]).shape == (5, 3, 7)


def test_it_begins_near_chance() -> None:
    loss = LanguageModel()(small(), INPUTS, TARGETS).sums["loss"] / 5
    assert abs(float(loss) - math.log(7)) < 0.1


def test_dropout_is_off_in_an_evaluation() -> None:
    model = small(dropout=0.5)
    assert not torch.equal(model(INPUTS), model(INPUTS))
    model.eval()
    assert torch.equal(model(INPUTS), model(INPUTS))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(UsageError, match="heads: 4"):
        gpt((8,), 7, 7, heads=5, width=384)
    with pytest.raises(UsageError, match="reads tokens"):
        gpt((8,), 7)


def test_the_loss_is_the_mean_over_tokens_and_its_exp_the_perplexity() -> None:
    model, task = small().double(), LanguageModel()
    outcome = task(model, INPUTS, TARGETS)
    logs = model(INPUTS).log_softmax(-1).gather(2, TARGETS[..., None]).squeeze(2)
    expected = -logs.mean(dim=1)  # of each sample
    torch.testing.assert_close(outcome.objective, expected.mean())
    torch.testing.assert_close(outcome.sums["loss"], expected.sum())
    assert with_derived(task, {"loss": 2.0}) == {"loss": 2.0, "perplexity": math.exp(2)}
    assert task.derived({"loss": 1e6}) == {"perplexity": math.inf}


def test_outputs_of_transformers_are_asked_for_their_logits() -> None:
    class Output:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small()

        def forward(self, tokens: Tensor) -> Output:
            return Output(self.inner(tokens))

    outcome = LanguageModel()(Network(), INPUTS, TARGETS)
    expected = functional.cross_entropy(small()(INPUTS).flatten(0, 1), TARGETS.flatten())
    torch.testing.assert_close(outcome.objective, expected)


@pytest.mark.parametrize("targets", [TARGETS[:, 0], TARGETS.float()])
def test_targets_must_be_the_tokens_that_follow(targets: Tensor) -> None:
    with pytest.raises(UsageError, match=r"needs logits \(B, L, vocabulary\)"):
        LanguageModel()(small(), INPUTS, targets)


class Seeing(nn.Module):
    """Attends to all tokens, those that it is to predict among them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        values: Tensor = self.embedding(tokens)
        return values + values.mean(dim=1, keepdim=True)


def test_a_model_that_sees_what_it_predicts_is_refused() -> None:
    with pytest.raises(UsageError, match="Seeing sees the tokens that it is to predict"):
        LanguageModel().check(Seeing(), INPUTS, TARGETS)
    LanguageModel().check(small().eval(), INPUTS, TARGETS)
    LanguageModel().check(small(dropout=0.5), INPUTS, TARGETS)  # other logits each time
