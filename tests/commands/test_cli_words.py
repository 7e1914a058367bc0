"""Words of the command line that mean something else: what was meant is said, plainly."""

from __future__ import annotations

import pytest
from invocation import Invoke

RAW = ("Input should", "Value error", "pydantic", "parse string", "Traceback")


def said(deltagclip: Invoke, *words: str) -> str:
    """What a command says of words that it refuses, on one line."""
    done = deltagclip(*words)
    assert done.exit_code == 2, done.output
    assert not any(raw in done.output for raw in RAW)
    return " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("train tiny --epochs 2", "did you mean '--set epochs=...'?"),
        ("train tiny --epochs=2", "did you mean '--set epochs=...'?"),
        ("sweep tiny --batch-size 64", "did you mean '--set data.batch_size=...'?"),
        ("train tiny --lr 0.1", "did you mean '--set optimizers.LABEL.lr=...'?"),
        ("train tiny --optimizer sgd --wd 0", "'--set optimizers.LABEL.weight_decay=...'?"),
        ("train tiny --model", "did you mean '--set model=...'?"),
        ("sweep tiny --seeds 1", "did you mean '--seed'?"),
        ("validate --spec x", "No such option: --spec. Write the file alone:"),
        ("train tiny --config x", "did you mean '--spec'?"),
        ("train tiny --gpu 0", "did you mean '--device'?"),
        ("compare tiny --jobs 2", "No such option: --jobs."),
        ("train tiny --quux", "No such option: --quux."),
    ],
)
def test_an_option_that_is_none_is_explained(deltagclip: Invoke, words: str, hint: str) -> None:
    assert hint in said(deltagclip, *words.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("list model", "'model' is none of experiments, models, datasets, tasks, optimizers,"),
        ("list model", "did you mean 'models'?"),
        ("compare --mode high", "'high' is none of max, min"),
        ("export", "Missing option '--to parquet|csv|wandb|mlflow|trackio'"),
        ("train tiny --seed x", "must be a valid integer (got 'x')"),
        ("train tiny --seed 1.5", "must be a valid integer (got '1.5')"),
        ("train tiny --seed -1", "must be greater than or equal to 0 (got '-1')"),
        ("sweep tiny --seed 0,1", "(got '0,1') - for several, repeat the option"),
        ("train tiny --seed 0-2", "(got '0-2') ╰"),
        ("sweep tiny --jobs 1,2", "must be a valid integer (got '1,2') ╰"),
        ("sweep tiny --jobs 0", "must be greater than or equal to 1 (got '0')"),
    ],
)
def test_a_value_that_is_wrong_is_told_in_plain_words(
    deltagclip: Invoke, words: str, message: str
) -> None:
    assert message in said(deltagclip, *words.split())


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("sweep tiny --optimizer sgd,delta-gclip", "'sgd' and 'delta-gclip', each as a word"),
        ("sweep tiny --launcher slrum", "did you mean 'slurm'?"),
        ("status tinny", "did you mean 'tiny'?"),
        ("train tiny --set model.hiden=3", "did you mean 'hidden'?"),
        ("train tiny --set model.hidden=3", "a list is written [3]"),
        ("train tiny --set task.loss=mse", "did you mean 'squared'?"),
        ("train tiny --set optimizers.sgd.learning_rate=1", "did you mean 'lr'?"),
        ("train tiny --set seeds=5", "5 seeds are [0, 1, 2, 3, 4]; this one alone is [5]"),
        ("train tiny --set batch_size=5", "did you mean 'data.batch_size'?"),
        ("train tiny --set lr=5", "did you mean 'optimizers.LABEL.lr'?"),
        ("train tiny --set data.name=CIFAR-10", "did you mean 'cifar10'?"),
    ],
)
def test_what_a_setting_is_called_elsewhere_is_known(
    deltagclip: Invoke, words: str, hint: str
) -> None:
    assert hint in said(deltagclip, *words.split(), "--spec", "spec.yaml")
