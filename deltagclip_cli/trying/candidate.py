"""The optimizer that is tried, put into the experiments of the problems beside its rivals."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deltagclip_cli.core import SpecError, UsageError, compact
from deltagclip_cli.spec.document import parse_override
from deltagclip_cli.spec.load import Spec, load_spec
from deltagclip_cli.trying.answer import Candidate
from deltagclip_cli.trying.protocol import RIVALS, SPEC, UNSAID_RATE
from deltagclip_cli.trying.study import Method

_NO_LABEL = re.compile(r"[^A-Za-z0-9-]+")


def read_candidate(
    name: str, sets: Sequence[str], around: float | None, runs: Path, words: Sequence[str] = ()
) -> tuple[Spec, Candidate]:
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
    options = _options(sets)
    remarks: list[str] = []
    if "schedulefree" in compact(name) and "schedule" not in options:
        options["schedule"] = None
        remarks.append(f"{label} is trained without a schedule, as its name says.")
    is_fixed, is_required = "lr" in options, False
    try:
        spec = _load(name, label, options, runs)
    except SpecError as error:
        if "'lr' is missing" not in str(error):
            raise
        is_required = True
        spec = _load(name, label, {**options, "lr": UNSAID_RATE}, runs)
    first = next(iter(spec.experiments.values())).optimizers[label]
    has_rate = "lr" in first.legal()
    default = first.options.get("lr")
    middle: float | None = None
    if not has_rate:
        remarks.append(f"{label} has no lr: nothing is drawn, and it has no schedule.")
        spec = _load(name, label, {"schedule": None, **options}, runs)
    elif is_fixed:
        remarks.append(f"The lr of {label} was fixed: nothing is drawn.")
    elif isinstance(default, int | float) and default > 0:
        middle = float(default)
    elif around is None:
        remarks.append(
            f"The lr of {label} is no number by default: nothing is drawn. --around LR draws."
        )
    if is_required and around is None:
        remarks.append(f"{label} has no default for lr: the scan is around {UNSAID_RATE:g}.")
    if around is not None:
        if not has_rate or is_fixed:
            raise UsageError(f"--around {around:g}: nothing is to be scanned. {remarks[-1]}")
        middle = around
    again = [name, *(word for each in sets for word in ("--set", each)), *words]
    return spec, Candidate(name, again, Method(label, middle), options, remarks)


def _options(sets: Sequence[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for text in sets:
        override = parse_override(text, example="weight_decay=0.1")
        section: Any = options
        for key in override.where[:-1]:
            section = section.setdefault(key, {})
            if not isinstance(section, dict):
                raise SpecError(f"--set {text}: '{key}' is a single value without keys of its own.")
        section[override.where[-1]] = override.value
    if "name" in options:
        raise SpecError(
            f"--set name=...: the name is the first word: {shlex.join(['try', 'NAME'])}."
        )
    return options


def _load(name: str, label: str, options: dict[str, Any], runs: Path) -> Spec:
    written = json.dumps({"name": name, **options})
    try:
        return load_spec(SPEC, sets=[f"optimizers.{label}={written}"], runs=runs, folder=Path())
    except SpecError as error:
        message = reworded(str(error), name, label)
        missing = re.findall(r"'(\w+)' is missing", message)
        hint = " ".join(["deltagclip try", name, *(f"--set {each}=..." for each in missing)])
        raise SpecError(f"{message}\n  {hint}" if missing else message) from None


def reworded(message: str, name: str, label: str) -> str:
    """Return what is wrong with an optimizer without the experiments that it was put into."""
    place = re.compile(
        rf"(?m)^(--set optimizers\.{label}=.*?|\S*problems\.yaml\S*): try-[a-z-]+"
        rf"( › optimizers › {label})?( › |: )"
    )
    faults = [place.sub(lambda found: f"{name}{found[3]}", each) for each in message.split("\n\n")]
    return "\n\n".join(dict.fromkeys(faults))
