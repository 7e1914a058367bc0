"""Writes ``docs/reference`` from the program itself: commands, keys, files, exit codes, metrics.

python scripts/reference.py
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
import types
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from deltagclip_cli.commands.app import PANELS, app, load_command  # noqa: E402
from deltagclip_cli.commands.help import Description, Parameter  # noqa: E402
from deltagclip_cli.core import ExitCode, listed, more_is_better  # noqa: E402
from deltagclip_cli.core.metrics import LESS, MEANINGS, MORE, SPLITS  # noqa: E402
from deltagclip_cli.parts.tasks import METRICS  # noqa: E402
from deltagclip_cli.runs.folder import EVENT_FILES, Result, RunFolder, State  # noqa: E402
from deltagclip_cli.spec.axes import DISTRIBUTIONS  # noqa: E402
from deltagclip_cli.spec.component import Component, SpecSection  # noqa: E402
from deltagclip_cli.spec.data_settings import Data, Normalization  # noqa: E402
from deltagclip_cli.spec.grid import role  # noqa: E402
from deltagclip_cli.spec.schema import (  # noqa: E402
    CertificateSettings,
    Checkpointing,
    Experiment,
    Optimizer,
    Schedule,
    TrialSettings,
)
from deltagclip_cli.spec.search_settings import EarlyStopping, Protocol, Search  # noqa: E402
from deltagclip_cli.spec.slurm_settings import Slurm  # noqa: E402

FOLDER = ROOT / "docs" / "reference"
MADE = "<!-- Made by scripts/reference.py; what is written here by hand is lost. -->"

SECTIONS: dict[str, tuple[type[Any], str]] = {
    "data": (
        Data,
        "A data set by name (`deltagclip list datasets`, or [your own](../guides/data.md)), with "
        "its options beside these keys.",
    ),
    "data.normalize": (Normalization, "Where it is neither `dataset` nor `none`."),
    "optimizers.LABEL": (
        Optimizer,
        "An optimizer by name (`deltagclip list optimizers`, or [any other]"
        "(../guides/optimizers.md)), with its options beside these keys.",
    ),
    "schedule": (Schedule, "A schedule by name (`deltagclip list schedules`), with its options."),
    "early_stopping": (EarlyStopping, ""),
    "search": (Search, "See [tuning](../guides/tuning.md)."),
    "protocol": (Protocol, "See [tuning](../guides/tuning.md)."),
    "checkpoint": (Checkpointing, ""),
    "certificate": (CertificateSettings, ""),
    "slurm": (Slurm, ""),
}

AXES = {
    "[0.1, 1]": "these values",
    "{range: [0, 1], count: 5}": "so many numbers at equal distances, with both ends",
    "{log_range: [1e-3, 1], count: 4}": "so many at equal ratios, with both ends",
    "zip: {lr: [0.1, 1], momentum: [0.9, 0]}": "keys whose values go together, in place of a key",
    "random: {draws: 20, lr: {log_uniform: [1e-5, 1e-2]}}": "draws of distributions, likewise",
}


def pages() -> dict[str, str]:
    """Return the text of each page by its name."""
    made = {
        "commands.md": commands(),
        "spec.md": spec(),
        "run-folder.md": run_folder(),
        "exit-codes.md": exit_codes(),
        "metrics.md": metrics(),
    }
    return {name: "\n".join(page(lines)) + "\n" for name, lines in made.items()}


def page(lines: Iterable[str]) -> Iterator[str]:
    """A page: its title first, where all look for it, then where it comes from."""
    title, *rest = lines
    yield from [title, "", MADE, *rest]


def described() -> Iterator[tuple[str, str, Description]]:
    """Yield every command that people call: its panel, its words, what its help says."""
    group = typer.main.get_command(app)
    # with -h, which commands remember
    root = typer.Context(group, info_name="deltagclip", **group.context_settings)
    for panel, names in PANELS.items():
        for name in names if panel else ():
            command = load_command(name)
            context = typer.Context(command, parent=root, info_name=name)
            for word, each in getattr(command, "commands", {"": command}).items():
                own = typer.Context(each, parent=context, info_name=word) if word else context
                yield panel, f"{name} {word}".strip(), Description.of(each, own)


def commands() -> Iterator[str]:
    yield from ["# Commands", "", "```bash", "deltagclip --help", "deltagclip --version", "```", ""]
    yield (
        "Each command has `--help`. What they answer to the shell: [exit codes](exit-codes.md); "
        "where they write: [run folders](run-folder.md)."
    )
    yield from ["", "## Completion of words", ""]
    yield (
        "`deltagclip --install-completion` adds a few lines to the start file of your bash, zsh or "
        "fish, which then completes commands, options, and the names of experiments, optimizers "
        "and metrics that the spec and the runs folder have. `--show-completion` prints the lines "
        "instead, to put them where you want them."
    )
    before = ""
    for panel, name, each in described():
        if panel != before:
            yield from ["", f"## {panel}"]
            before = panel
        yield from ["", f"### {name}", "", f"`{each.usage}`"]
        for paragraph in each.paragraphs:
            yield from ["", paragraph]
        for title, rows in (("argument", each.arguments), ("option", each.options)):
            rows = [row for row in rows if not row.words.startswith("--help")]
            if rows:
                yield ""
                yield from table((title, "is", "default"), map(option_row, rows))


def option_row(each: Parameter) -> Sequence[str]:
    variable = f", or the variable `{each.variable}`" if each.variable else ""
    return code(each.words), prose(each.sentence), prose(each.default) + variable


def spec() -> Iterator[str]:
    yield from ["# The file of experiments", ""]
    yield from [
        "```bash",
        "deltagclip new first",
        "deltagclip validate first/experiments.yaml",
        "```",
    ]
    yield ""
    yield (
        "It is YAML 1.2: `1e-3` is a number, `on` a word. At its top are `experiments`, by name, "
        "and `defaults`, which every experiment has that does not say otherwise. Every key can be "
        "changed by `--set KEY=VALUE`, with dots, such as `--set optimizers.adam.lr=1e-4`. What is "
        "not in these tables is an option of a part, and its source says what is legal "
        "([parts of your own](../guides/own-parts.md)); `deltagclip list` shows them."
    )
    fields = Experiment.model_fields
    of_trials = [name for name in fields if name in TrialSettings.model_fields]
    numbers = [name for name in of_trials if role(fields[name]).identity]
    fixed = listed([f"`{name}`" for name in numbers if role(fields[name]).fixed])
    parts = {
        "Part of a trial's identity": (
            numbers,
            "Trials that differ in one of these are different trials, in different "
            f"[folders](run-folder.md). A `grid` can vary each but {fixed}.",
        ),
        "Not part of its identity": (
            [name for name in of_trials if name not in numbers],
            "Trials that differ only here are one trial, in one folder.",
        ),
        "What is compared": ([name for name in fields if name not in of_trials], ""),
    }
    for title, (names, sentence) in parts.items():
        yield from ["", f"## {title}", "", *([sentence, ""] if sentence else [])]
        yield from key_table(Experiment, names)
    for name, (section, sentence) in SECTIONS.items():
        yield from ["", f"## {name}", ""]
        if sentence:
            yield from [sentence, ""]
        yield from key_table(section)
    yield from ["", "## grid and scale", ""]
    yield (
        "Below a label stand options of that optimizer; keys with dots, such as `data.batch_size`, "
        "are settings of the experiment. All that is listed is multiplied."
    )
    yield from ["", *table(("values", "are"), ((code(k), v) for k, v in AXES.items()))]
    yield from ["", "## Distributions", "", "Of `search.space`, and of `random` in a grid.", ""]
    yield from table(("distribution", "is"), ((code(k), v) for k, v in DISTRIBUTIONS.items()))


def key_table(section: type[Any], names: Iterable[str] | None = None) -> Iterator[str]:
    """A row for each key that a section has in a spec, or for some of them."""
    said = said_below(section)
    hidden = {"options", "fixed"} | ({"name"} if issubclass(section, Component) else set())
    rows = []
    for name in names or [each for each in section.model_fields if each not in hidden]:
        field = section.model_fields[name]
        rows.append([f"`{name}`", prose(said[name]), kind(field), default_of(name, field)])
    yield from table(("key", "is", "value", "default"), rows)


def said_below(owner: type[Any]) -> dict[str, str]:
    """Return what stands in quotes below each name in the body of a class, and of its bases."""
    found: dict[str, str] = {}
    for each in reversed(owner.__mro__):
        if each.__module__.partition(".")[0] != "deltagclip_cli":
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(body, ast.ClassDef)
        for named, said in zip(body.body, body.body[1:], strict=False):
            target = named.targets[0] if isinstance(named, ast.Assign) else None
            target = named.target if isinstance(named, ast.AnnAssign) else target
            is_text = isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant)
            if isinstance(target, ast.Name) and is_text:
                found[target.id] = inspect.cleandoc(said.value.value)  # type: ignore[attr-defined]
    return found


def kind(field: FieldInfo) -> str:
    """Return what values a key has, in words."""
    bounds = {name: getattr(m, name) for m in field.metadata for name in LIMITS if hasattr(m, name)}
    return limited(words_of(field.annotation), bounds)


LIMITS = {"gt": "above", "ge": "from", "lt": "below", "le": "up to"}
WORDS = {
    int: "whole number", float: "number", str: "text", bool: "`true` or `false`", Any: "anything",
    types.NoneType: "",
}  # fmt: skip


def limited(words: str, bounds: dict[str, Any]) -> str:
    """Return words with limits behind them, such as ``whole number from 1``."""
    said = [f"{LIMITS[name]} {bounds[name]:,}" for name in LIMITS if name in bounds]
    return " ".join([words, *said])


def words_of(annotation: Any) -> str:
    """Return an annotation in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        metadata = [m for each in arguments[1:] for m in getattr(each, "metadata", [each])]
        bounds = {n: getattr(m, n) for m in metadata for n in LIMITS if hasattr(m, n)}
        return limited(words_of(arguments[0]), bounds)
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(filter(None, map(words_of, arguments))))
    if origin is list:
        return f"list of: {words_of(arguments[0])}"
    if origin is dict:
        return "mapping"
    if inspect.isclass(annotation) and issubclass(annotation, Component):
        return "name, or `{name: …}`"
    if inspect.isclass(annotation) and issubclass(annotation, SpecSection):
        return "mapping"
    return WORDS.get(annotation, "mapping")


def default_of(name: str, field: FieldInfo) -> str:
    if name == "direction":
        return "by the metric"
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, (bool, int, float)) or (isinstance(value, (str, list)) and value):
        return f"`{value}`"
    return ""


def run_folder() -> Iterator[str]:
    yield from ["# A run folder", "", "```bash", "deltagclip train --help", "```", ""]
    yield (
        "A trial has one folder, `runs/EXPERIMENT/LABEL/seed-N-HASH`. HASH covers all that the "
        "[spec](spec.md) says of its numbers: two trials in one folder are one trial. All that "
        "commands say of runs they read from these files."
    )
    files = [
        (f"`{each.name}`", each.holds)
        for each in vars(RunFolder).values()
        if hasattr(each, "holds")
    ]
    files.insert(3, (f"`{EVENT_FILES}*`", "the same for TensorBoard"))
    yield from ["", "## Files", "", *table(("file", "holds"), files)]
    yield from ["", "What a line of `metrics.jsonl` holds: [metrics](metrics.md)."]
    yield from ["", "## States", "", "A state follows from the files and is written nowhere.", ""]
    said = said_below(State)
    yield from table(("state", "means"), ((f"`{s}`", prose(said[s.name])) for s in State))
    said = said_below(Result)
    yield from [
        "",
        "## result.json",
        "",
        "Written last, and whole. Later versions may add keys.",
        "",
    ]
    yield from table(("key", "is"), ((f"`{k}`", prose(said[k])) for k in Result.model_fields))
    beside = [
        ("`runs/EXPERIMENT/protocol.lock`", "the plan of a protocol, fixed before its first run"),
        ("`runs/EXPERIMENT/search.journal`", "Optuna's own journal of a search with `tpe`"),
        ("`runs/.slurm/TIME/`", "a submission: scripts, lists of trials, logs of jobs"),
    ]
    yield from ["", "## Beside run folders", "", *table(("path", "holds"), beside)]


def exit_codes() -> Iterator[str]:
    yield from ["# Exit codes", "", "```bash fails", "deltagclip validate nothing.yaml", "```", ""]
    yield "That is a 2. Codes of all [commands](commands.md):"
    said = said_below(ExitCode)
    rows = ((f"{c.value}", c.name.lower(), prose(said[c.name])) for c in ExitCode)
    yield from ["", *table(("code", "name", "means"), rows)]
    yield from ["", "## By command", ""]
    told = [
        (f"`{name}`", " ".join(each.removeprefix("Exit codes: ") for each in found))
        for _, name, description in described()
        if (found := [p for p in description.paragraphs if p.startswith("Exit code")])
    ]
    yield from table(("command", "codes"), told)
    yield from ["", "Of the others 0 is done, and 2 is wrong input."]


def metrics() -> Iterator[str]:
    yield from ["# Metrics", "", "```bash", "deltagclip list tasks", "```", ""]
    yield (
        "A line of `metrics.jsonl` in a [run folder](run-folder.md) has `epoch` (passes over the "
        "data), `step` (optimizer steps), `time` (seconds since 1970) and metrics. What is not "
        "finite is null. With `log_every` there are lines between, whose metrics are named "
        "`step/…`. An accuracy is a fraction everywhere."
    )
    yield from ["", "## Of the task", "", "Before the slash stands what they are a mean over:", ""]
    yield from table(("before the slash", "over"), ((f"`{k}/…`", v) for k, v in SPLITS.items()))
    yield ""
    rows = [("every task", "`loss`", "what is minimised, a sample")]
    rows += [(f"`{t}`", f"`{name}`", v) for t, of in METRICS.items() for name, v in of.items()]
    yield from table(("task", "behind the slash", "is"), rows)
    yield from ["", "`supervised` has those that the spec names, and a task of your own what it"]
    yield "returns ([parts of your own](../guides/own-parts.md))."
    yield from ["", "## Of the training", ""]
    yield from table(("metric", "is"), ((f"`{k}`", prose(v)) for k, v in MEANINGS.items()))
    yield from ["", "## Which values are good", ""]
    assert more_is_better(MORE.split()[0]) and not more_is_better(LESS.split()[0])
    yield "More is better where the name has one of these words, less where it has one of those;"
    yield "of others `--mode max` or `min` tells, and `better` of a metric in the spec."
    yield from ["", f"* more: {', '.join(f'`{w}`' for w in MORE.split())}"]
    yield f"* less: {', '.join(f'`{w}`' for w in LESS.split())}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table of Markdown, without columns that have nothing."""
    whole = [[" ".join(cell.split()) for cell in row] for row in rows]
    kept = [number for number in range(len(head)) if any(row[number] for row in whole)]
    yield "| " + " | ".join(head[number] for number in kept) + " |"
    yield "|" + "---|" * len(kept)
    for row in whole:
        yield "| " + " | ".join(row[number] for number in kept) + " |"


def code(words: str) -> str:
    """Code in a cell; how a bar is written in backticks there, GitHub and the site do not agree."""
    return f"<code>{words.replace('|', '&#124;')}</code>" if "|" in words else f"`{words}`"


def prose(words: str) -> str:
    return words.replace("``", "`").replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
