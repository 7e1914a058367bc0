"""``deltagclip check``: conformance tests of an optimizer, ours or anybody's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import ExitCode, SpecError, listed, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import ValidationError
    from rich.table import Table
    from rich.text import Text

    from deltagclip_cli.conformance.conformance_test import Finding
    from deltagclip_cli.spec.schema import Optimizer
    from deltagclip_cli.spec.trial import Trial

_WIDE = 120  # columns, of which the claims have a part
_MARKS = {"passed": ("✓", "green"), "failed": ("✗", "bold red"), "shown": ("·", "")}


def check(
    optimizer: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="An optimizer as a spec names it: adamw, FILE.py:NAME or package:NAME.",
            autocompletion=options.offer_optimizers,
        ),
    ],
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="OPTION=VALUE", help="An option, such as lr=0.1. Repeatable."
        ),
    ] = None,
    tests: Annotated[
        list[str] | None,
        typer.Option("--test", metavar="TEST", help="This one alone, such as resume. Repeatable."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=1, metavar="N", help="A test may take.", show_default="20, and 60 of the heaviest"
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Test an optimizer: state, groups, precision, DDP, cost.

    Some sixty tests of what training loops rely on, on small networks on the CPU. Each runs in a
    process of its own and is ended when it takes too long. --json has of each what must hold, and
    why users are hurt otherwise.

    Exit codes: 0 nothing failed; 1 something did; 2 there is no such optimizer, or it cannot be
    imported.
    """
    from deltagclip_cli.conformance.host import examine
    from deltagclip_cli.terminal.console import make_console, print_json

    trial, said = _trial(optimizer, sets or ())
    console = make_console()
    findings: list[Finding] = []
    progress = make_console(stderr=True)
    with progress.status("loading torch and the optimizer") as status:
        number = 0
        for each in examine(trial, tests or (), seconds):
            if isinstance(each, int):
                number = each
                continue
            findings.append(each)
            status.update(f"test {len(findings)} of {number}: {each.name}")
    counts = Counter(each.answer.value for each in findings)
    name = trial.optimizer.name
    if as_json:
        plain = [each.plain() for each in findings]
        chosen = trial.optimizer.model_dump(exclude={"name"})
        print_json({"optimizer": name, "options": chosen, "counts": counts, "tests": plain})
    else:
        if not quiet:
            console.print(_table(f"{name}{said}", findings, console.width))
        for text in _failures(findings):
            console.print(text)
        console.print(_last_line(counts))
    raise typer.Exit(ExitCode.FAILED if counts["failed"] else ExitCode.OK)


def _trial(name: str, sets: Sequence[str]) -> tuple[Trial, str]:
    """Return a trial with the optimizer, and what is to be said of its options."""
    from deltagclip_cli.conformance.usual import RATE, USUAL
    from deltagclip_cli.spec.code import CodeFolder
    from deltagclip_cli.spec.document import options_said
    from deltagclip_cli.spec.schema import Optimizer
    from deltagclip_cli.spec.trial import Trial

    folder = CodeFolder(Path())
    given = options_said(sets, "check")
    for key in (each for each in Optimizer.common() if each in given):
        reason = "is a setting of a training, and what is tested is the optimizer alone."
        raise SpecError(f"--set {key}=...: {key} {reason}")
    usual = {**USUAL.get(name, {}), "lr": RATE}
    chosen: dict[str, Any] = {}
    part = None
    while part is None:
        part, missing, error = _checked({"name": name, **chosen, **given}, folder)
        found = {each: usual[each] for each in missing if each in usual}
        if error is not None and not found:
            raise SpecError(_words(name, error, missing))
        chosen |= found
    rest = {"model": "mlp", "data": {"name": "synthetic", "batch_size": 8}, "epochs": 1}
    trial = Trial.model_validate(
        {"experiment": "check", "label": "checked", "seed": 0, "optimizer": name, **rest}
        | {"optimizer": part.model_dump()},
        context=folder,
    )
    shown = {**chosen, **given}
    words = ", ".join(f"{key}={value}" for key, value in shown.items())
    note = " (chosen here: it has no default)" if chosen else ""
    return trial, f" with {words}{note}" if words else ""


def _checked(
    written: dict[str, Any], folder: Any
) -> tuple[Optimizer | None, list[str], ValidationError | None]:
    """Check an optimizer as a spec does; return also the options that it lacks."""
    from pydantic import ValidationError

    from deltagclip_cli.spec.schema import Optimizer

    try:
        return Optimizer.model_validate(written, context=folder), [], None
    except ValidationError as error:
        faults = error.errors(include_url=False)
        missing = [str(fault["loc"][-1]) for fault in faults if fault["type"] == "missing"]
        return None, missing, error


def _words(name: str, error: ValidationError, missing: Sequence[str]) -> str:
    """Say what is wrong with the name or its options."""
    from deltagclip_cli.spec.faults import sentence

    lines = []
    if missing:
        example = " ".join(f"--set {each}=..." for each in missing)
        lines.append(
            f"{name} needs {listed(missing)}, for which it has no default.\n"
            f"  deltagclip check {name} {example}"
        )
    for fault in error.errors(include_url=False):
        if fault["type"] == "missing":
            continue
        where = fault["loc"] or ("name",)
        trail, words = sentence(where, [fault])
        place = " › ".join(map(str, [each for each in trail if each != where[-1]]))
        lines.append(f"{name}: {place + ': ' if place else ''}{words}")
    return "\n\n".join(dict.fromkeys(lines))


def _table(title: str, findings: Sequence[Finding], width: int) -> Table:
    from rich.text import Text

    from deltagclip_cli.terminal.console import titled_table

    table = titled_table(title)
    table.add_column("", no_wrap=True)
    table.add_column("test", no_wrap=True)
    wide = width >= _WIDE
    if wide:
        table.add_column("what must hold", ratio=3)
    table.add_column("seen", ratio=2)
    table.expand = wide
    group = ""
    for each in findings:
        if each.group != group:
            group = each.group
            table.add_section()
            table.add_row("", Text(group, "bold"), *([""] * (1 + wide)))
        mark, style = _MARKS.get(each.answer.value, ("-", "dim"))
        row = [Text(mark, style), Text(each.name), Text(each.claim, "dim"), _seen(each)]
        table.add_row(*(cell for number, cell in enumerate(row) if wide or number != 2))
    return table


def _seen(finding: Finding) -> Text:
    from rich.text import Text

    if finding.answer.value == "failed":
        return Text("failed: see below", "red")
    return Text(finding.seen, "dim" if finding.answer.value == "does not apply" else "")


def _failures(findings: Sequence[Finding]) -> list[Text]:
    """Return of each failure what was seen, what must hold, and why."""
    from rich.text import Text

    told = []
    for each in findings:
        if each.answer.value == "failed":
            text = Text(f"✗ {each.group}: {each.name}\n", "bold red")
            text.append(f"  {each.seen}\n", "not bold default")
            text.append(f"  {each.claim} {each.harm}\n", "not bold default dim")
            told.append(text)
    return told


def _last_line(counts: Counter[str]) -> str:
    words = [f"{counts['passed']} passed", f"{counts['failed']} failed"]
    inapplicable = counts["does not apply"]
    words.append(f"{inapplicable} {'does' if inapplicable == 1 else 'do'} not apply")
    shown = counts["shown"]
    return ", ".join(words) + (f"; {plural(shown, 'figure')} without a verdict" if shown else "")
