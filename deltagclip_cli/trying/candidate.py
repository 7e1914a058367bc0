"""The optimizer that is tried, put into the experiments of the problems beside its rivals."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltagclip_cli.core import SpecError, UsageError, compact
from deltagclip_cli.spec.document import options_said
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.trying.protocol import RIVALS, SPEC, UNSAID_RATE
from deltagclip_cli.trying.tryout import Method

if TYPE_CHECKING:
    from deltagclip_cli.spec.load import Spec

_NO_LABEL = re.compile(r"[^A-Za-z0-9-]+")


@dataclass(frozen=True)
class Newcomer:
    """The optimizer that is tried: as it was named, and with the words that name it again."""

    name: str
    words: Sequence[str]  # of the command line, the name among them
    method: Method
    options: Mapping[str, Any]  # that were fixed
    remarks: Sequence[str] = ()  # on what is done otherwise than for others


def read_candidate(
    name: str, sets: Sequence[str], around: float | None, runs: Path, words: Sequence[str] = ()
) -> tuple[Spec, Newcomer]:
    """Return the experiments of the problems with an optimizer in them, and how it is tuned.

    Args:
        name: as a spec has it; files are looked up in the working folder.
        sets: ``KEY=VALUE`` words that fix options of it.
        around: the middle of the scan of learning rates; None for its default.
        words: other options of the command line that name the same trials.

    Raises:
        SpecError: there is no such optimizer, or an option is wrong or missing.
        UsageError: a learning rate is to be scanned of an optimizer that has none, or a fixed one.
    """
    label = _NO_LABEL.sub("-", name.rpartition(":")[2]).strip("-").lower() or "tried"
    label = f"tried-{label}" if label in RIVALS else label
    entered = _Entered(name, label, options_said(sets, "try"), runs)
    spec = entered.spec()
    middle = entered.middle(spec, around)
    again = [name, *(word for each in sets for word in ("--set", each)), *words]
    again += [] if around is None else ["--around", f"{around:g}"]
    method = Method(label, middle)
    return entered.spec(), Newcomer(name, again, method, entered.options, entered.remarks)


@dataclass
class _Entered:
    """An optimizer as it is entered into the experiments."""

    name: str
    label: str
    options: dict[str, Any]
    runs: Path
    remarks: list[str] = field(default_factory=list)
    _unsaid: dict[str, Any] = field(default_factory=dict)  # options without which it is not made

    def __post_init__(self) -> None:
        if "schedulefree" in compact(self.name) and "schedule" not in self.options:
            self._unsaid["schedule"] = None
            self.remarks.append(f"{self.label} is trained without a schedule, as its name says.")

    def spec(self) -> Spec:
        """Return the experiments; a learning rate that must be given is one for the time being."""
        try:
            return self._loaded()
        except SpecError as error:
            if "'lr' is missing" not in str(error):
                raise
            self._unsaid["lr"] = UNSAID_RATE
        return self._loaded()

    def _loaded(self) -> Spec:
        written = json.dumps({"name": self.name, **self._unsaid, **self.options})
        override = f"optimizers.{self.label}={written}"
        try:
            return load_spec(SPEC, sets=[override], runs=self.runs, folder=Path())
        except SpecError as error:
            message = reworded(str(error), self.name, self.label)
        missing = re.findall(r"'(\w+)' is missing", message)
        hint = " ".join(["deltagclip try", self.name, *(f"--set {each}=..." for each in missing)])
        raise SpecError(f"{message}\n  {hint}" if missing else message)

    def middle(self, spec: Spec, around: float | None) -> float | None:
        """Return the middle of the scan of its learning rate; None if that is not drawn."""
        optimizer = next(iter(spec.experiments.values())).optimizers[self.label]
        default = optimizer.options.get("lr")
        why = ""
        if "lr" not in optimizer.legal():
            self._unsaid["schedule"] = None
            why = f"{self.label} has no lr: nothing is drawn, and it has no schedule."
        elif "lr" in self.options:
            why = f"The lr of {self.label} was fixed: nothing is drawn."
        if why and around is not None:
            raise UsageError(f"--around {around:g}: nothing is to be scanned. {why}")
        if not why and around is not None:
            return around
        if not why and "lr" in self._unsaid:
            self.remarks.append(
                f"{self.label} has no default for lr: the scan is around {UNSAID_RATE:g}."
            )
        elif not why and not (isinstance(default, int | float) and default > 0):
            self._unsaid["schedule"] = None
            why = f"The lr of {self.label} is no number by default: nothing is drawn, and it has no"
            why += " schedule. --around LR draws."
        self.remarks += [why] if why else []
        return None if why else float(str(default))


def reworded(message: str, name: str, label: str) -> str:
    """Return what is wrong with an optimizer without the experiments that it was put into."""
    place = re.compile(
        rf"(?m)^(--set optimizers\.{label}=.*?|\S*problems\.yaml\S*): try-[a-z-]+"
        rf"( › optimizers › {label})?( › |: )"
    )
    faults = [place.sub(lambda found: f"{name}{found[3]}", each) for each in message.split("\n\n")]
    return "\n\n".join(dict.fromkeys(faults))
