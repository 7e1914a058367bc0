"""The conformance tests: sound optimizers pass them, and each finds what it is for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import broken
import pytest
import torch

from deltagclip_cli.conformance.conformance_test import Answer, ConformanceTest, Finding
from deltagclip_cli.conformance.every_test import TESTS
from deltagclip_cli.conformance.subject import Subject
from deltagclip_cli.spec.code import CodeFolder
from deltagclip_cli.spec.trial import Trial

BY_NAME = {test.name: test for test in TESTS}
TOGETHER = {"DDP", "FSDP2"}  # which fork, and so are tried by the command alone


def trial_of(name: str, **options: object) -> Trial:
    written = {
        "experiment": "check",
        "label": "checked",
        "seed": 0,
        "model": "mlp",
        "data": {"name": "synthetic", "batch_size": 8},
        "epochs": 1,
        "optimizer": {"name": name, **options},
    }
    return Trial.model_validate(written, context=CodeFolder(Path(__file__).parent))


def run(test: ConformanceTest, trial: Trial) -> Finding:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return test.run(Subject(trial))


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    kept = torch.backends.cudnn.benchmark
    yield
    torch.backends.cudnn.benchmark = kept


def test_for_every_verdict_there_is_an_optimizer_that_is_broken_so() -> None:
    assert {test.name for test in TESTS if test.judges} - {"waits"} == set(broken.CAUGHT)
    assert len(BY_NAME) == len(TESTS)
    for test in TESTS:
        assert test.claim.endswith(".") and test.harm.endswith("."), test.name


@pytest.mark.parametrize("name", [name for name in broken.CAUGHT if name not in TOGETHER])
def test_what_is_broken_is_found(name: str) -> None:
    found = run(BY_NAME[name], trial_of(f"broken.py:{broken.CAUGHT[name].__name__}"))
    assert found.answer is Answer.FAILED, found


@pytest.mark.parametrize("name", ["Sound", "Averaging"])
def test_what_is_sound_passes_all(name: str) -> None:
    findings = [
        run(test, trial_of(f"broken.py:{name}")) for test in TESTS if test.name not in TOGETHER
    ]
    assert [each for each in findings if each.answer is Answer.FAILED] == []
