"""One test of an optimizer: its words, how it is run, and what comes out. No torch is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import DeltaGClipError, shortened

if TYPE_CHECKING:
    from deltagclip_cli.conformance.subject import Subject


class Answer(StrEnum):
    """The ways in which a test can come out; *shown* is a figure without a verdict."""

    PASSED = "passed"
    FAILED = "failed"
    SHOWN = "shown"
    INAPPLICABLE = "does not apply"


@dataclass(frozen=True)
class Finding:
    """The outcome of a test.

    Args:
        group, name: of the test.
        claim: what must hold.
        harm: why users are hurt otherwise.
        seen: the smallest case of a failure, a figure, or the reason why a test does not apply.
        seconds: that it took.
    """

    group: str
    name: str
    claim: str
    harm: str
    answer: Answer
    seen: str = ""
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**asdict(self), "answer": self.answer.value}


class Broken(AssertionError):
    """The claim of a test does not hold; the message says what was seen."""


class InapplicableError(Exception):
    """A test says nothing of this optimizer; the message is the reason."""


@dataclass(frozen=True)
class ConformanceTest:
    """A claim of optimizers, and the function that finds out whether it holds.

    Args:
        group: the part of the table that it stands in.
        name: in few words.
        claim: what must hold, in a sentence.
        harm: why users are hurt otherwise, in a sentence or two.
        function: raises :class:`Broken`, or :class:`InapplicableError`; returns what is worth
            telling besides, or None.
        seconds: after which it is ended and has failed.
        judges: False if it shows a figure and gives no verdict.
        compiles: whether what the optimizer compiles itself is compiled; else it runs as written.
    """

    group: str
    name: str
    claim: str
    harm: str
    function: Callable[[Subject], str | None]
    seconds: float
    judges: bool
    compiles: bool

    def finding(self, answer: Answer, seen: str = "", seconds: float = 0.0) -> Finding:
        """Return what the test came to, with its words."""
        words = (self.group, self.name, self.claim, self.harm)
        return Finding(*words, answer, shortened(" ".join(seen.split()), _MOST_LETTERS), seconds)

    def run(self, subject: Subject) -> Finding:
        """Run it in this process; what the optimizer itself raises is a failure."""
        try:
            seen = self.function(subject)
        except InapplicableError as error:
            return self.finding(Answer.INAPPLICABLE, str(error))
        except Broken as error:
            return self.finding(Answer.FAILED, str(error))
        except Exception as error:
            return self.finding(Answer.FAILED, raised_by(error))
        return self.finding(Answer.PASSED if self.judges else Answer.SHOWN, seen or "")


def conformance_test(
    group: str,
    name: str,
    *,
    seconds: float = 20.0,
    judges: bool = True,
    compiles: bool = False,
) -> Callable[[Callable[[Subject], str | None]], ConformanceTest]:
    """Make a test of a function, whose docstring is the claim and, a paragraph later, the harm."""

    def made(function: Callable[[Subject], str | None]) -> ConformanceTest:
        paragraphs = (inspect.getdoc(function) or "").partition("\n\n")[::2]
        claim, harm = (" ".join(each.split()) for each in paragraphs)
        return ConformanceTest(group, name, claim, harm, function, seconds, judges, compiles)

    return made


_MOST_LETTERS = 400  # of what was seen
_OURS = [f"/deltagclip_cli/{room}/" for room in ("conformance", "training", "source", "parts")]


def raised_by(error: BaseException) -> str:
    """Say what was raised and where, the innermost place that is neither ours nor torch's first."""
    if isinstance(error, DeltaGClipError):
        return str(error)
    lines = str(error).strip().splitlines()
    words = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append((trace.tb_frame.f_code, trace.tb_lineno))
        trace = trace.tb_next
    foreign = [each for each in places if not any(part in each[0].co_filename for part in _OURS)]
    theirs = [each for each in foreign if "/torch/" not in each[0].co_filename]
    for code, line in (theirs or foreign)[-1:]:
        return f"{words} ({'/'.join(code.co_filename.split('/')[-2:])}:{line}, in {code.co_name})"
    return words
