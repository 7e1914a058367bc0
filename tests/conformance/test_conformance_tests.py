"""The conformance tests: sound optimizers pass them, and each finds what it is for."""

from __future__ import annotations

from collections.abc import Iterator

import broken
import pytest
import torch
from conformance_cases import FORKING, SLOW, failures, run, trial_of

from deltagclip_cli.conformance.conformance_test import Answer
from deltagclip_cli.conformance.every_test import TESTS
from deltagclip_cli.conformance.learning_rates import SCHEDULES
from deltagclip_cli.conformance.subject import Subject

BY_NAME = {test.name: test for test in TESTS}
TRIED_HERE = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
    for name in broken.CAUGHT
    if name not in FORKING  # those are in tests/commands
]

# Of torch's optimizers, and why each is right. When torch is better, the test below tells.
KNOWN = {
    "nadam": {"dtype of state"},  # mu_product is rounded to bf16 when it is loaded
    "asgd": {"dtype of state"},  # eta is
    "adafactor": {"an empty one"},  # divides by the number of weights
    # __getstate__ leaves _params out; -H·g moves what has no gradient; flattens with view(-1)
    "lbfgs": {"deepcopy", "pickle", "frozen", "strides"},
    "rprop": {"read at every step", "a rate of 0"},  # reads lr at its first step alone
}
SOUND = ("adadelta", "adagrad", "adam", "adamax", "adamw", "muon", "radam", "rmsprop", "sgd")


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    kept = torch.backends.cudnn.benchmark
    yield
    torch.backends.cudnn.benchmark = kept


def test_for_every_verdict_there_is_an_optimizer_that_is_broken_so() -> None:
    assert {test.name for test in TESTS if test.judges} - {"waits"} == set(broken.CAUGHT)
    assert len(BY_NAME) == len(TESTS) > 60
    for test in TESTS:
        assert test.claim.endswith(".") and test.harm.endswith("."), test.name


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED_HERE)
def test_what_is_broken_is_found(name: str) -> None:
    subject = Subject(trial_of(f"broken.py:{broken.CAUGHT[name].__name__}"))
    found = run(BY_NAME[name], subject)
    assert found.answer is Answer.FAILED and found.seen


@pytest.mark.parametrize("name", ["Sound", "Averaging"])
def test_what_is_sound_passes_all(name: str) -> None:
    assert failures(trial_of(f"broken.py:{name}"), frozenset(SLOW)) == {}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="an older torch has other faults")
@pytest.mark.parametrize("name", [*SOUND, *KNOWN])
def test_of_torchs_optimizers_only_known_faults_are_found(name: str) -> None:
    assert set(failures(trial_of(name))) == KNOWN.get(name, set())


def test_the_list_of_schedules_is_complete() -> None:
    built_of_others = {"LRScheduler", "ChainedScheduler", "SequentialLR"}
    assert set(SCHEDULES) | built_of_others == set(torch.optim.lr_scheduler.__all__)


def test_the_first_step_may_move_nothing() -> None:
    """As of RAdam without a rate in its first five."""
    subject = Subject(trial_of("broken.py:Warms"))
    assert subject.idle == 3 and list(subject.steps(2)) == [0, 1, 2, 3, 4]
    assert failures(trial_of("broken.py:Warms"), frozenset(SLOW)) == {}
