"""What people call things elsewhere is known, and only as a hint at what is legal."""

from __future__ import annotations

import pytest

from deltagclip_cli.core import nearest, nearest_word
from deltagclip_cli.spec.data_settings import Data
from deltagclip_cli.spec.schema import Experiment, Model, Optimizer, Schedule, setting_named

OPTIONS = ["lr", "betas", "eps", "weight_decay", "momentum", "gamma", "delta", "schedule"]
SETTINGS = list(Experiment.model_fields)
METRICS = ["train/loss", "test/loss", "test/accuracy", "val/mse"]


@pytest.mark.parametrize(
    ("words", "legal", "meant"),
    [
        ("learning_rate learning-rate LearningRate LR eta", OPTIONS, "lr"),
        ("wd weight-decay weightdecay l2", OPTIONS, "weight_decay"),
        ("beta1 beta2", OPTIONS, "betas"),
        ("mom", OPTIONS, "momentum"),
        ("epsilon", OPTIONS, "eps"),
        ("max_norm clip_norm threshold", OPTIONS, "gamma"),
        ("batchsize batch-size bs", Data.common(), "batch_size"),
        ("n_epochs max-epochs num_epochs epoch epoches", SETTINGS, "epochs"),
        ("max_steps num_steps iterations max_iters step", SETTINGS, "steps"),
        ("eval_every eval-interval val_check_interval", SETTINGS, "evaluate_every"),
        ("ema_decay model_ema polyak swa", SETTINGS, "ema"),
        ("seed n_seeds sedes", SETTINGS, "seeds"),
        ("scheduler lr_scheduler", SETTINGS, "schedule"),
        ("dataset", SETTINGS, "data"),
        ("optimizer optim", SETTINGS, "optimizers"),
        ("network arch", SETTINGS, "model"),
        ("mse l2 MSELoss mean_squared_error sqared", ["cross_entropy", "squared"], "squared"),
        ("ce crossentropy cross-entropy nll", ["cross_entropy", "squared"], "cross_entropy"),
        ("cifar-10 CIFAR10 Cifar_10", Data.table().all(), "cifar10"),
        ("CIFAR-100", Data.table().all(), "cifar100"),
        ("fashionmnist FashionMNIST fashion-mnist fmnist", Data.table().all(), "fashion_mnist"),
        ("resnet-18 ResNet18 resnet", Model.table().all(), "resnet18"),
        ("resnet50 ResNet-50", Model.table().all(), "torchvision:resnet50"),
        ("vit-tiny ViT-Tiny vit", Model.table().all(), "vit_tiny"),
        ("adam-w Adam_W", Optimizer.table().all(), "adamw"),
        ("gradient_descent", Optimizer.table().all(), "sgd"),
        ("cosine_annealing", Schedule.table().all(), "cosine"),
        ("acc accuracy test-acc top1", METRICS, "test/accuracy"),
        ("val_mse", METRICS, "val/mse"),
        ("loss", METRICS, "test/loss"),
        ("bfloat16", ["fp32", "tf32", "bf16", "fp64"], "bf16"),
        ("float32 FP32 float", ["fp32", "tf32", "bf16", "fp64"], "fp32"),
    ],
)
def test_a_word_of_other_programs_is_understood(words: str, legal: list[str], meant: str) -> None:
    assert {word: nearest_word(word, legal) for word in words.split()} == dict.fromkeys(
        words.split(), meant
    )


def test_what_is_like_nothing_is_left_alone() -> None:
    assert nearest("quux", OPTIONS) == ""
    assert nearest("x" * 1_000_000, OPTIONS) == ""
    assert nearest_word("", []) is None


def test_several_words_in_one_are_told_apart() -> None:
    near = nearest("adam,sgd", ["adam", "sgd"])
    assert near == " - did you mean 'adam' and 'sgd', each as a word of its own?"


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("epochs", "epochs"),
        ("batch-size", "data.batch_size"),
        ("learning_rate", "optimizers.LABEL.lr"),
        ("wd", "optimizers.LABEL.weight_decay"),
        ("loss", "task.loss"),
        ("warmup", "schedule.warmup"),
        ("width", "model.width"),
        ("nonsense", None),
    ],
)
def test_a_setting_is_found_in_its_section(word: str, key: str | None) -> None:
    assert setting_named(word) == key
