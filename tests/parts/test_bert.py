"""BERT: what it computes, what is random in it, and pretrained networks that are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_data import rewrite_config, rewrite_weights, write_bert, write_emotion
from torch import Tensor

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts import models
from deltagclip_cli.parts.models.bert import PretrainedTokenizer, TextClassifier
from deltagclip_cli.spec.data_settings import Data
from deltagclip_cli.spec.schema import Model
from deltagclip_cli.training.loaded import fingerprint, load_dataset

TOKENS = torch.tensor([[2, 5, 6, 15, 3, 0, 0], [2, 5, 6, 18, 7, 8, 3]])


@pytest.fixture(scope="session")
def _written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("pretrained") / "bert")


@pytest.fixture
def folder(_written: Path, tmp_path: Path) -> Path:
    """A pretrained BERT of its own."""
    copy = tmp_path / "bert"
    copy.mkdir()
    for file in _written.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def build(folder: Path, classes: int = 6, *, longest: int = 20, seed: int = 0) -> TextClassifier:
    torch.manual_seed(seed)
    model = models.build(
        Model.model_validate({"name": "bert", "pretrained": str(folder)}), (longest,), classes
    )
    assert isinstance(model, TextClassifier)
    return model


def test_it_maps_tokens_to_logits_and_sends_a_gradient_to_every_parameter(folder: Path) -> None:
    model = build(folder, 7)
    logits = model(TOKENS)
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_it_computes_what_the_network_alone_computes(folder: Path) -> None:
    model = build(folder).eval()
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]])
    with torch.no_grad():
        expected = model.network(input_ids=TOKENS, attention_mask=mask).logits
        assert torch.equal(model(TOKENS), expected)


def test_padding_changes_nothing(folder: Path) -> None:
    rewrite_weights(folder, lambda state: {key: value * 20 for key, value in state.items()})
    model = build(folder).eval()
    with torch.no_grad():
        padded, alone = model(TOKENS)[:1], model(TOKENS[:1, :5])
        torch.testing.assert_close(padded, alone)
        model.padding = -1
        assert (model(TOKENS)[:1] - alone).abs().max() > 1e-3


def test_everything_but_the_classifier_is_the_pretrained_network(folder: Path) -> None:
    from safetensors.torch import load_file

    stored = load_file(folder / "model.safetensors")
    state = build(folder).state_dict()
    new = {"network.classifier.weight", "network.classifier.bias"}
    assert state.keys() == {f"network.bert.{key}" for key in stored} | new
    assert all(torch.equal(value, state[f"network.bert.{key}"]) for key, value in stored.items())


def test_the_seed_decides_the_classifier_and_nothing_else(folder: Path) -> None:
    first, same, other = (build(folder, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, same[key]) for key, value in first.items())
    differing = {key for key, value in first.items() if not torch.equal(value, other[key])}
    assert differing == {"network.classifier.weight"}  # the bias starts at zero


def test_attention_is_torchs_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    attention = torch.nn.functional.scaled_dot_product_attention

    def noted(*arguments: Any, **options: Any) -> Tensor:
        calls.append(arguments)
        return attention(*arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
    build(folder)(TOKENS)
    assert len(calls) == 2  # one a layer


def test_dropout_is_that_of_the_configuration_and_rests_in_evaluation(folder: Path) -> None:
    model = build(folder)
    assert {part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)} == {0.1}
    assert all(part.training for part in model.modules())
    assert not torch.equal(model(TOKENS), model(TOKENS))
    model.eval()
    assert torch.equal(model(TOKENS), model(TOKENS))


def test_weights_in_half_precision_are_trained_in_full(folder: Path) -> None:
    rewrite_weights(folder, lambda state: {key: value.half() for key, value in state.items()})
    rewrite_config(folder, dtype="float16")
    assert {parameter.dtype for parameter in build(folder).parameters()} == {torch.float32}


@pytest.fixture
def ran(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Exists once code of the folder was run, which the person at the keyboard would allow."""
    mark = folder.parent / "ran"
    monkeypatch.setattr("builtins.input", lambda *words: "y")
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
    (folder / "code.py").write_text(code + "class Theirs: ...\n")
    return mark


def change(file: Path, **settings: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


_OWN_CODE = {f"Auto{kind}": "code.Theirs" for kind in ("Config", "ModelForSequenceClassification")}
_OWN_TOKENIZER = {"AutoTokenizer": ["code.Theirs", "code.Theirs"]}


def test_code_that_a_known_network_brings_is_not_run(folder: Path, ran: Path) -> None:
    change(folder / "config.json", auto_map=_OWN_CODE)
    change(folder / "tokenizer_config.json", auto_map=_OWN_TOKENIZER)
    assert build(folder)(TOKENS).shape == (2, 6)
    tokenizer = PretrainedTokenizer(str(folder), download=False)
    assert len(tokenizer.encode(["i feel sad"], 8)) == 1
    assert not ran.exists()


def test_a_network_that_is_its_own_code_is_refused_and_not_run(folder: Path, ran: Path) -> None:
    change(folder / "config.json", model_type="theirs", auto_map=_OWN_CODE)
    with pytest.raises(UsageError, match=r"the configuration of the .* is code, which is not run"):
        build(folder)
    assert not ran.exists()


def test_weights_that_are_code_are_not_run(folder: Path, ran: Path) -> None:
    (folder / "model.safetensors").unlink()
    code = f"import pathlib; pathlib.Path({str(ran)!r}).touch()"
    torch.save({"weight": Run(code)}, folder / "pytorch_model.bin")
    with pytest.raises(UsageError, match="weights of the pretrained network cannot be read"):
        build(folder)
    assert not ran.exists()


class Run:
    """Runs code when it is read from a pickle."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.code,)


@pytest.mark.parametrize("kind", ["BertForPreTraining", "BertForSequenceClassification"])
def test_heads_of_pretraining_do_not_matter_and_a_classifier_that_fits_is_kept(
    kind: str, tmp_path: Path
) -> None:
    folder = write_bert(tmp_path / "bert", kind, num_labels=6)
    first, other = (build(folder, seed=seed).state_dict() for seed in (0, 1))
    same = torch.equal(first["network.classifier.weight"], other["network.classifier.weight"])
    assert same is (kind == "BertForSequenceClassification")


def test_distilbert_as_it_is_published_needs_a_classifier_of_two_layers(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 32, "dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2}
    config = transformers.DistilBertConfig(**sizes, max_position_embeddings=32)
    transformers.DistilBertForMaskedLM(config).save_pretrained(folder)
    first, other = (build(folder, seed=seed).state_dict() for seed in (0, 1))
    differing = {key for key, value in first.items() if not torch.equal(value, other[key])}
    assert differing == {"network.classifier.weight", "network.pre_classifier.weight"}
    assert build(folder)(TOKENS).shape == (2, 6)


def test_nothing_of_the_library_is_printed(
    folder: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    build(folder)(TOKENS)
    PretrainedTokenizer(str(folder), download=False).encode(["i feel glad " * 20], 8)
    assert capfd.readouterr() == ("", "")
    assert list(recwarn) == []


# What is refused


def without(part: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {key: value for key, value in state.items() if part not in key}


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("pooler.dense.bias", "bert.pooler.dense.bias"),
        ("layer.1.output", "bert.encoder.layer.1.output.LayerNorm.bias and 3 more"),
    ],
)
def test_missing_weights_are_named(part: str, key: str, folder: Path) -> None:
    rewrite_weights(folder, without(part))
    words = f"{folder}: the weights are not those of the network in config.json; missing {key}.\n"
    with pytest.raises(UsageError, match=re.escape(words)):
        build(folder)


@pytest.mark.parametrize("kind", ["BertModel", "BertForSequenceClassification"])
def test_weights_that_the_network_has_no_place_for_are_named(kind: str, tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "bert", kind, num_labels=6)
    rewrite_config(folder, num_hidden_layers=1)
    with pytest.raises(UsageError, match=r"; not in it (bert.)?encoder.layer.1.* and 15 more"):
        build(folder)


def test_weights_of_other_shapes_are_named(folder: Path) -> None:
    rewrite_config(folder, intermediate_size=64)
    words = r"config.json; of another shape bert.encoder.layer.0.intermediate.dense.bias and"
    with pytest.raises(UsageError, match=words):
        build(folder)


def test_a_classifier_for_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "bert", "BertForSequenceClassification", num_labels=2)
    with pytest.raises(UsageError, match=r"has a classifier for 2 classes already, but .* have 6"):
        build(folder)


def test_longer_texts_than_the_network_reads_are_refused(folder: Path) -> None:
    assert build(folder, longest=32)
    with pytest.raises(UsageError, match=r"at most 32 tokens, .* 33.\n  Set max_length .* to 32"):
        build(folder, longest=33)


@pytest.mark.parametrize(
    ("name", "part"), [("config.json", "configuration"), ("model.safetensors", "weights")]
)
def test_a_torn_file_is_said_to_be_unreadable(name: str, part: str, folder: Path) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match=f"{folder}: the {part} of the pretrained network cannot"):
        build(folder)


# Tokens


def tokenizer(folder: Path) -> PretrainedTokenizer:
    return PretrainedTokenizer(str(folder), download=False)


def test_texts_are_marked_cut_off_and_filled_up(folder: Path) -> None:
    tokens = tokenizer(folder).encode(["I feel sad", "", "i feel glad and so very scared"], 6)
    assert tokens.tolist() == [
        [2, 5, 6, 16, 3, 0],
        [2, 3, 0, 0, 0, 0],
        [2, 5, 6, 19, 9, 3],
    ]
    assert tokens.dtype == torch.int32


def test_the_identity_of_a_tokenizer_hangs_on_its_vocabulary_and_not_on_the_weights(
    folder: Path,
) -> None:
    first = tokenizer(folder).identity
    rewrite_weights(folder, lambda state: {key: value + 1 for key, value in state.items()})
    assert tokenizer(folder).identity == first
    vocabulary = json.loads((folder / "tokenizer.json").read_text())
    vocabulary["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary))
    assert tokenizer(folder).identity != first


def test_a_tokenizer_of_another_network_is_refused(folder: Path) -> None:
    rewrite_config(folder, vocab_size=10)
    with pytest.raises(UsageError, match=r"do not belong together: .* vocab_size 10"):
        tokenizer(folder).encode(["i feel glad"], 10)


def test_a_tokenizer_with_other_padding_is_refused(folder: Path) -> None:
    rewrite_config(folder, pad_token_id=1)
    with pytest.raises(UsageError, match=r"padding is 0, but config.json has .*pad_token_id 1"):
        tokenizer(folder).encode(["i feel glad"], 10)


def test_a_network_without_padding_is_refused(folder: Path) -> None:
    rewrite_config(folder, pad_token_id=None)
    with pytest.raises(UsageError, match="has no pad_token_id"):
        tokenizer(folder)


def test_a_torn_tokenizer_is_said_to_be_unreadable(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UsageError, match=f"{folder}: the tokenizer of the pretrained network"):
        tokenizer(folder).encode(["i feel glad"], 10)


# Data and models that do not fit


def data(name: str) -> Data:
    return Data.model_validate({"name": name, "batch_size": "full"})


def test_a_model_of_texts_makes_tokens_of_the_data(folder: Path, tmp_path: Path) -> None:
    root = write_emotion(tmp_path)
    model = Model.model_validate({"name": "bert", "pretrained": str(folder)})
    made = load_dataset(data("emotion"), root, model=model)
    assert made.train.inputs[0, :5].tolist() == [2, 5, 6, 15, 3]
    first = fingerprint(made)
    text = (root / "emotion/test.txt").read_text()
    (root / "emotion/test.txt").write_text(text.replace("merry", "happy", 1))
    assert fingerprint(load_dataset(data("emotion"), root, model=model)) != first


def test_texts_are_refused_by_a_model_that_reads_none(tmp_path: Path) -> None:
    model = Model.model_validate({"name": "mlp"})
    with pytest.raises(UsageError, match=r"data emotion holds texts, .*\n  Choose the model bert"):
        load_dataset(data("emotion"), write_emotion(tmp_path), model=model)


def test_images_are_refused_by_a_model_of_texts(folder: Path, tmp_path: Path) -> None:
    model = Model.model_validate({"name": "bert", "pretrained": str(folder)})
    with pytest.raises(UsageError, match=r"reads texts, but data synthetic .*\(3, 32, 32\)"):
        load_dataset(data("synthetic"), tmp_path, model=model)
