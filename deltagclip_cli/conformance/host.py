"""Conformance tests in processes of their own, for an optimizer may crash, hang or end them.

One process loads torch and the optimizer, and each test runs in a fork of it. Torch is loaded there
alone; whoever asks for the tests has none of it.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess, SpawnProcess
from typing import TYPE_CHECKING, Any

from deltagclip_cli.conformance.conformance_test import Answer, ConformanceTest, Finding
from deltagclip_cli.core import DeltaGClipError, TrialError, UsageError, nearest, plural

if TYPE_CHECKING:
    from deltagclip_cli.spec.trial import Trial

_IMPORT_SECONDS = 60
_FEW_SECONDS = 3.0  # for a test, once several have not ended
_SEVERAL = 2
_LOADED = [  # which the first step, or the first test that needs it, would load in each process
    "torch._dynamo",
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.fsdp",
]


def examine(
    trial: Trial, names: Sequence[str] = (), seconds: float | None = None
) -> Iterator[Finding | int]:
    """Yield how many tests there are, and then what each has come to.

    The first is whether it makes a step; if it does not, the others are left out.

    Args:
        trial: whose optimizer is tested.
        names: of the tests; all if empty.
        seconds: after which a test is ended and has failed; by default it says so itself.

    Raises:
        UsageError: the optimizer cannot be imported, or there is no test of a name.
        TrialError: the process that imports it was killed, or has ended itself.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    host = context.Process(target=_host, args=(trial, names, seconds, sender))
    host.start()
    sender.close()
    try:
        while True:
            try:
                said = receiver.recv()
            except EOFError:
                raise TrialError(_ended(host)) from None
            if isinstance(said, str):
                raise UsageError(said)
            if said is None:
                return
            yield said
    finally:
        receiver.close()
        host.terminate()
        host.join()


def _ended(host: SpawnProcess) -> str:
    host.join()
    end = _end(host.exitcode)
    if host.exitcode == -signal.SIGALRM:
        end = f"was not done after {_IMPORT_SECONDS} seconds"
    return (
        f"the process that imports the optimizer {end}.\n"
        "  Import it in a Python of its own to see why."
    )


def _end(code: int | None) -> str:
    """Say how a process has ended."""
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended itself with code {code}"


def _host(trial: Trial, names: Sequence[str], patience: float | None, answers: Connection) -> None:
    """Load all that is needed, and run one test after another in a fork."""
    os.setsid()  # a Ctrl-C is for whoever asks, who ends this process
    running: list[ForkProcess] = []
    signal.signal(signal.SIGTERM, lambda *_: _leave(running))
    _be_quiet()
    for name in _LOADED:
        importlib.import_module(name)
    import torch

    from deltagclip_cli.conformance.every_test import TESTS
    from deltagclip_cli.conformance.numerics import global_state

    torch.set_num_threads(1)
    before = global_state()
    signal.alarm(_IMPORT_SECONDS)
    message = _unknown(names, [test.name for test in TESTS]) or _refusal_of_import(trial)
    signal.alarm(0)
    if message:
        answers.send(message)
        return
    chosen = [test for test in TESTS if not names or test.name in (TESTS[0].name, *names)]
    answers.send(len(chosen))
    known: dict[str, Any] = {}
    late = 0
    for test in chosen:
        if test is not TESTS[0] and "refusal" not in known:
            break
        seconds = patience or (test.seconds if late < _SEVERAL else _FEW_SECONDS)
        finding, found = _run(test, trial, before, known, seconds, running)
        late += finding.answer is Answer.FAILED and finding.seconds >= seconds
        if not known:
            _load(found.get("loaded", ()))
        known = found or known
        answers.send(finding)
    answers.send(None)


def _unknown(names: Sequence[str], known: Sequence[str]) -> str:
    """Return the message that there is no test of some name; empty if there is."""
    for name in names:
        if name not in known:
            return f"there is no test '{name}'.\n  tests: {', '.join(known)}{nearest(name, known)}"
    return ""


def _leave(running: list[ForkProcess]) -> None:
    for each in running:
        _kill(each)
    os._exit(0)


def _kill(process: ForkProcess) -> None:
    """Kill a process and those that it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.kill()


def _be_quiet() -> None:
    """Send to nobody what an optimizer prints."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def _refusal_of_import(trial: Trial) -> str:
    """Import the optimizer; return why that fails, or nothing."""
    from deltagclip_cli.parts.making import own_lines

    name = trial.optimizer.name
    try:
        trial.optimizer.load()
    except DeltaGClipError as error:
        return str(error)
    except (Exception, SystemExit) as error:
        where = own_lines(error)
        return f"optimizer '{name}' cannot be imported: {type(error).__name__}: {error}{where}"
    return ""


def _load(names: Iterable[str]) -> None:
    """Load what the first step has loaded of torch, for the others not to load it each."""
    for name in names:
        if name.partition(".")[0] in ("torch", "functorch", "networkx"):
            with suppress(ImportError):
                importlib.import_module(name)


def _run(
    test: ConformanceTest,
    trial: Trial,
    before: dict[str, Any],
    known: dict[str, Any],
    seconds: float,
    running: list[ForkProcess],
) -> tuple[Finding, dict[str, Any]]:
    """Run a test in a fork; return what it came to, and what it found out for the others."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_test, args=(test, trial, before, known, seconds, sender))
    start = time.monotonic()
    process.start()
    running.append(process)
    sender.close()
    parent = multiprocessing.parent_process()
    assert parent is not None, "the process that asks for the tests has started this one"
    finding, found = None, {}
    ready = wait([receiver, parent.sentinel], timeout=seconds)
    if parent.sentinel in ready:
        _leave(running)
    if ready:
        with suppress(EOFError):
            finding, found = receiver.recv()
    took = time.monotonic() - start
    if finding is None and not ready:
        words = f"it is not done after {plural(round(seconds), 'second')}"
        # A compiler that takes long is no fault, and neither is a figure that nobody waits for.
        answer = Answer.FAILED if test.judges and not test.compiles else Answer.INAPPLICABLE
        finding = test.finding(answer, words, took)
    elif finding is None:
        process.join()
        words = f"the process of the test {_end(process.exitcode)}"
        finding = test.finding(Answer.FAILED, words, took)
    _kill(process)
    process.join()
    running.remove(process)
    receiver.close()
    return finding, found


def _test(
    test: ConformanceTest,
    trial: Trial,
    before: dict[str, Any],
    known: dict[str, Any],
    seconds: float,
    answer: Connection,
) -> None:
    """Run a test in this process, which has nothing else to do."""
    import warnings
    from dataclasses import replace

    import torch

    from deltagclip_cli.conformance.subject import Subject

    os.setpgrp()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.alarm(round(seconds) + 5)  # for who has started this may be no more
    warnings.simplefilter("ignore")
    if not test.compiles:  # nor does what the optimizer compiles itself: that takes minutes
        torch.compiler.set_stance("force_eager")
    subject = Subject(trial, before)
    subject.known.update(known)
    there = set(sys.modules)
    start = time.monotonic()
    finding = test.run(subject)
    finding = replace(finding, seconds=time.monotonic() - start)
    subject.known["loaded"] = sorted(set(sys.modules) - there)
    answer.send((finding, subject.known))
