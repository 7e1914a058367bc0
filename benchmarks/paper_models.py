"""The networks of the paper as its experiments train them, on made data of the real shapes.

Nothing is downloaded: images are noise, texts are made of a thousand words, and DistilBERT has
weights drawn at random. Numbers of samples, batches, augmentations and all settings are those of
``experiments.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import Trial, make_trial
from deltagclip_cli.training.sinks import Sink

EXPERIMENTS = Path(__file__).parents[1] / "experiments.yaml"
NAMES = {  # of the models, and the experiment that is measured in place of all that train one
    "ResNet-18": "resnet18-cifar10",
    "ViT-Tiny": "vit-tiny-cifar10",
    "ViT-Small": "vit-small-cifar10",
    "DistilBERT": "bert-emotion",
    "KAN": "kan-mnist",
    "VAE": "vae-fashion-mnist",
}
SAMPLES = {
    **dict.fromkeys(("ResNet-18", "ViT-Tiny", "ViT-Small"), (50_000, 10_000)),
    **dict.fromkeys(("KAN", "VAE"), (60_000, 10_000)),
    "DistilBERT": (16_000, 2_000),
}
"""Of each network, to be trained on and to be evaluated."""

LONG = "epochs=1000"
"""Lets a training of a few steps choose its program as a whole one does; whoever looks stops it."""

_LABELS = ("sadness", "joy", "love", "anger", "fear", "surprise")


@dataclass(frozen=True)
class PaperModels:
    """Trials of the paper's networks.

    Args:
        folder: for the data and the run folders.
        quick: a few samples in small batches, and a small DistilBERT.
    """

    folder: Path
    quick: bool

    def trial(
        self, name: str, *sets: str, steps: int | None = None, share: float | None = None
    ) -> Trial:
        """Return the first trial of the experiment that stands for a network.

        Args:
            sets: more settings, as the words of ``--set``.
            steps: in an epoch, and a tenth of that for the evaluation; None for all samples.
            share: of the samples that are trained on, and of those that are evaluated.
        """
        data = self._data(name)
        experiment = NAMES[name]
        usual = load_spec(EXPERIMENTS, [experiment]).experiments[experiment]
        batch = 4 if self.quick else usual.data.batch_size
        assert batch != "full", "the paper's are none of these"
        data += [f"data.batch_size={batch}"] * self.quick
        if self.quick and share is None:
            steps = min(steps or 4, 4)
        if steps is not None:
            data += [f"data.train_samples={batch * steps}"]
            data += [f"data.test_samples={batch * max(1, steps // 10)}"]
        if share is not None:
            train, test = (40, 40) if self.quick else SAMPLES[name]
            data += [f"data.train_samples={max(batch, round(share * train))}"]
            data += [f"data.test_samples={max(1, round(share * test))}"]
        made = load_spec(EXPERIMENTS, [experiment], [*data, *sets]).experiments[experiment]
        label = next(iter(made.optimizers))
        return make_trial(experiment, made, label, made.seeds[0])

    def train(
        self,
        trial: Trial,
        device: str,
        sinks: Sequence[Sink] = (),
        should_stop: Callable[[], bool] = lambda: False,
        runs: str = "runs",
    ) -> RunFolder:
        """Train as ``deltagclip train`` does, in a run folder below ``runs``, and return that."""
        from deltagclip_cli.training.worker import run_trial

        folder = RunFolder.of(self.folder / runs, trial)
        run_trial(
            folder,
            trial,
            data_dir=self.folder,
            device=device,
            download=False,
            sinks=sinks,
            should_stop=should_stop,
        )
        return folder

    def _data(self, name: str) -> list[str]:
        """Make the data of a network if they are not there, and return the settings for them."""
        if name == "DistilBERT":
            return [f"model.pretrained={self._distilbert}"] if self._texts else []
        file = self._colour if name in ("ResNet-18", "ViT-Tiny", "ViT-Small") else self._digits
        return ["data.name=npz", f"data.path={file.name}"]

    @cached_property
    def _colour(self) -> Path:
        return self._images("cifar10.npz", (3, 32, 32), *SAMPLES["ResNet-18"])

    @cached_property
    def _digits(self) -> Path:
        return self._images("mnist.npz", (1, 28, 28), *SAMPLES["KAN"])

    def _images(self, name: str, shape: tuple[int, ...], train: int, test: int) -> Path:
        generator = np.random.default_rng(0)
        arrays: dict[str, Any] = {}
        for split, samples in (("train", train), ("test", test)):
            samples = 40 if self.quick else samples
            size = samples * int(np.prod(shape))
            pixels = np.frombuffer(generator.bytes(size), dtype=np.uint8)
            arrays[f"x_{split}"] = pixels.reshape(samples, *shape)
            arrays[f"y_{split}"] = np.arange(samples) % 10
        file = self.folder / name
        np.savez(file, **arrays)
        return file

    @cached_property
    def _texts(self) -> Path:
        """Messages of 4 to 40 words, in the form of ``emotion``."""
        folder = self.folder / "emotion"
        folder.mkdir()
        for split, samples in zip(("train", "test"), SAMPLES["DistilBERT"], strict=True):
            lines = ["text;label_name"]
            for number in range(40 if self.quick else samples):
                words = (f"w{(7 * number + word) % 997}" for word in range(4 + number * 5 % 37))
                lines.append(f"{' '.join(words)};{_LABELS[number % 6]}")
            (folder / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder

    @cached_property
    def _distilbert(self) -> Path:
        import transformers

        small = {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2} if self.quick else {}
        folder = self.folder / "distilbert"
        transformers.utils.logging.disable_progress_bar()
        config = transformers.DistilBertConfig(**small)
        transformers.DistilBertModel(config).save_pretrained(folder)
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(997))]
        words += [f"x{number}" for number in range(config.vocab_size - len(words))]
        (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
        transformers.BertTokenizer.from_pretrained(folder).save_pretrained(folder)
        return folder
