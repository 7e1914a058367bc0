"""Networks of transformers by the names of their classes: found, checked and built."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny_data import write_bert

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts import models
from deltagclip_cli.spec.schema import Model

SIZES = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8}
BERT = {**SIZES, "intermediate_size": 16}
SMALL: dict[str, dict[str, Any]] = {
    "BertLMHeadModel": BERT,
    "GPT2LMHeadModel": {"n_layer": 1, "n_head": 2, "n_embd": 8, "n_positions": "$window"},
    "LlamaForCausalLM": {**BERT, "num_key_value_heads": 2},
    "BertForSequenceClassification": BERT,
    "GPT2ForSequenceClassification": {"n_layer": 1, "n_head": 2, "n_embd": 8},
    "ViTForImageClassification": {**BERT, "image_size": 8, "patch_size": 4},
}
TOKENS = torch.randint(1, 50, (2, 12), generator=torch.Generator().manual_seed(0))


def model_of(name: str, **options: Any) -> Model:
    return Model.model_validate({"name": f"transformers:{name}", **options})


@pytest.mark.slow
def test_options_are_those_of_the_configuration_and_nothing_is_imported() -> None:
    code = (
        "from deltagclip_cli.spec.schema import Model\n"
        "made = Model.model_validate({'name': 'transformers:GPT2LMHeadModel', 'n_layer': 3})\n"
        "import sys\n"
        "print(made.options['n_layer'], made.options['n_head'], 'vocab_size' in made.options,\n"
        "      made.references, {'torch', 'transformers'} & {*sys.modules})"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    target = "transformers.models.gpt2.configuration_gpt2:GPT2Config"
    assert said.stdout == f"3 12 False {(target,)} set()\n"


@pytest.mark.parametrize(
    ("name", "options", "fault"),
    [
        ("GPT2LMHeadModle", {}, "there is no model 'transformers:GPT2LMHeadModle'"),
        ("GPT2LMHeadModel", {"n_layers": 3}, "unknown option 'n_layers' for transformers:GPT2"),
        ("GPT2LMHeadModel", {"vocab_size": 3}, "unknown option 'vocab_size'"),
        ("GPT2LMHeadModel", {"n_layer": "three"}, "valid integer"),
        ("AutoModelForCausalLM", {}, "Field required"),
    ],
)
def test_what_is_misspelt_is_refused(name: str, options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        model_of(name, **options)


def fault_of(name: str) -> str:
    with pytest.raises(ValidationError) as caught:
        model_of(name)
    (fault,) = caught.value.errors()
    return str(fault["ctx"]["hint"])


def test_the_nearest_name_is_told_and_the_command_that_installs_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert fault_of("GPT2LMHeadModle").endswith("did you mean 'transformers:GPT2LMHeadModel'?")
    monkeypatch.setattr(models, "_configured", dict)
    assert "pip install 'deltagclip_cli[bert]'" in fault_of("GPT2LMHeadModel")


@pytest.mark.slow  # of transformers, whose import takes seconds
@pytest.mark.parametrize("name", [each for each in SMALL if "LM" in each])
def test_a_language_model_sees_no_token_that_it_predicts(name: str) -> None:
    model = models.build(model_of(name, **SMALL[name]), (12,), 50, (12,), 50).eval()
    changed = TOKENS.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % 50
    before, after = model(TOKENS), model(changed)
    assert before.shape == (2, 12, 50)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7], after[:, 7])


@pytest.mark.slow
@pytest.mark.parametrize("name", [each for each in SMALL if "Sequence" in each])
def test_padding_changes_nothing(name: str) -> None:
    padded = TOKENS.clone()
    padded[:, 9:] = 0
    model = models.build(model_of(name, **SMALL[name]), (12,), 3, (), 50, 0).eval()
    assert model(padded).shape == (2, 3)
    torch.testing.assert_close(model(padded), model(padded[:, :9]))


@pytest.mark.slow
def test_images_are_read_too() -> None:
    model = models.build(
        model_of("ViTForImageClassification", **SMALL["ViTForImageClassification"]), (3, 8, 8), 4
    )
    assert model(torch.rand(2, 3, 8, 8)).shape == (2, 4)


@pytest.mark.slow
def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match=r"reads tokens, but the data have .* \(3, 8, 8\)"):
        models.build(model_of("GPT2LMHeadModel"), (3, 8, 8), 4)
    with pytest.raises(UsageError, match="must be divisible by num_heads"):
        models.build(model_of("GPT2LMHeadModel", n_head=5, n_embd=8), (12,), 50, (12,), 50)


@pytest.mark.slow
def test_a_pretrained_language_model_knows_the_tokens_of_its_folder(tmp_path: Path) -> None:
    import transformers

    folder = write_bert(tmp_path / "gpt2")  # for its tokenizer
    known = len((folder / "vocab.txt").read_text().split())
    config = transformers.GPT2Config(
        vocab_size=known, n_layer=1, n_head=2, n_embd=8, pad_token_id=0
    )
    network = transformers.GPT2LMHeadModel(config)
    network.save_pretrained(folder)
    named = model_of("AutoModelForCausalLM", pretrained=str(folder))
    model = models.build(named, (12,), known, (12,), known).eval()
    expected = network.eval()(input_ids=TOKENS % known).logits
    torch.testing.assert_close(model(TOKENS % known), expected)
    with pytest.raises(UsageError, match=f"knows {known} tokens, but the data have 1,000"):
        models.build(named, (12,), 1000, (12,), 1000)
