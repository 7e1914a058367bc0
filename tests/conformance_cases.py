"""Optimizers as the conformance tests get them, and the tests run in this process."""

from __future__ import annotations

import warnings
from pathlib import Path

from deltagclip_cli.conformance.conformance_test import Answer, ConformanceTest, Finding
from deltagclip_cli.conformance.every_test import TESTS
from deltagclip_cli.conformance.subject import Subject
from deltagclip_cli.spec.code import CodeFolder
from deltagclip_cli.spec.trial import Trial

FORKING = {"DDP", "FSDP2"}  # tests that start processes, which only 'check' does
SLOW = {"torch.compile"}


def trial_of(name: str, **options: object) -> Trial:
    """Return a trial with an optimizer, whose files are those in ``tests/conformance``."""
    written = {
        "experiment": "check",
        "label": "checked",
        "seed": 0,
        "model": "mlp",
        "data": {"name": "synthetic", "batch_size": 8},
        "epochs": 1,
        "optimizer": {"name": name, **options},
    }
    folder = CodeFolder(Path(__file__).parent / "conformance")
    return Trial.model_validate(written, context=folder)


def run(test: ConformanceTest, subject: Subject) -> Finding:
    """Run a test, whatever the optimizer warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return test.run(subject)


def failures(trial: Trial, without: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return what was seen in the tests that failed, by their names."""
    subject = Subject(trial)
    findings = [run(test, subject) for test in TESTS if test.name not in {*FORKING, *without}]
    assert sum(each.answer is Answer.PASSED for each in findings) > 30
    return {each.name: each.seen for each in findings if each.answer is Answer.FAILED}
