"""What the command line offers, and that asking about it is quick."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import typer
from invocation import Invoke
from tiny_spec import write_spec

from deltagclip_cli import __version__
from deltagclip_cli.commands.app import PANELS, app, load_command


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its words, such as ``data prepare``."""
    context = typer.Context(group)
    for name in group.commands:
        command = group.resolve_command(context, [name])[1]
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name, command


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_these_are_all_commands_and_options() -> None:
    """An option is a promise: whoever adds or takes one does it here, too."""
    options = {
        name: [option for each in command.params for option in each.opts]
        for name, command in COMMANDS.items()
    }
    assert options == {
        name: words.split()
        for name, words in {
            "new": "name --debug",
            "train": "experiment --optimizer --seed --spec --set --runs --data --device --threads"
            " --same-code --select-on-test --force --dry-run --every --json --quiet -q --debug",
            "check": "optimizer --set --test --seconds --json --quiet -q --debug",
            "validate": "file --set --data --device --json --debug",
            "list": "kind --spec --tag --package --json --debug",
            "sweep": "experiments --tag --all --optimizer --seed --launcher --jobs -j --gpus"
            " --trials-per-gpu --threads --slurm --pack --search --select-on-test"
            " --retry-failed --force --same-code --yes -y --fail-fast --dry-run --spec --set --runs"
            " --data --every --json --quiet -q --debug",
            "tune": "experiment --launcher --jobs -j --gpus --trials-per-gpu --threads --slurm"
            " --pack --retry-failed --same-code --fail-fast --select-on-test --dry-run --spec --set"
            " --runs --data --json --quiet -q --debug",
            "clean": "experiments --runs --last --dry-run --yes -y --json --quiet -q --debug",
            "skill": "",
            "cancel": "experiments --runs --dry-run --quiet -q --debug",
            "job": "trials --task --gpus --local-data --threads --data --debug",
            "compare": "targets --metric --at --baseline --target --interval --ddof --mode"
            " --heatmap --within --published --select-on-test --group --format --output --runs"
            " --json --quiet -q --debug",
            "report": "targets --metric --at --baseline --target --interval --ddof --mode"
            " --heatmap --within --select-on-test --group --format --style --output --checklist"
            " --open --runs --quiet -q --debug",
            "verify": "report --runs --rerun --seed --data --device --json --quiet -q --debug",
            "reproduce": "experiments --spec --runs --json --quiet -q --debug",
            "export": "targets --to --into --follow -f --group --runs --quiet -q --debug",
            "tensorboard": "targets --port --host --open --group --runs --quiet -q --debug",
            "certify": "targets --runs --json --quiet -q --debug",
            "status": "experiments --spec --set --runs --watch -w --json --debug",
            "data prepare": "experiments --tag --spec --set --data --json --quiet -q --debug",
            "try": "name --set --around --rounds --jobs -j --dry-run --runs --json --quiet -q"
            " --debug",
            "worker": "folders --data --device --threads --force --part --no-download --rendezvous"
            " --rank --devices --debug",
            "controller": "experiment --search --workers --optimizer --seed --spec --set --runs"
            " --data --debug",
        }.items()
    }


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    for name, listed in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        own = COMMANDS[name].help if name in COMMANDS else load_command(name).help
        assert " ".join(own.split()).startswith(listed.help)
        assert own.split("\n\n")[0].split() == listed.help.split() or listed.hidden


def test_the_command_without_words_shows_its_help(deltagclip: Invoke) -> None:
    shown = deltagclip()
    assert shown.exit_code == 2
    assert "train" in shown.stdout
    assert shown.stdout == deltagclip("--help").stdout


def test_all_commands_fit_on_a_screen_of_80_by_24(
    deltagclip: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = deltagclip("--help").output.splitlines()
    assert len(shown) <= 24
    for panel, sentences in PANELS.items():
        for name, sentence in sentences.items():
            (line,) = [each for each in shown if each.endswith(f"  {sentence}")] or [""]
            assert bool(line) == bool(panel), f"{name} has no line of its own: shorten its sentence"
            assert sentence.endswith(".") and not re.search(r"[.?!] ", sentence)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help_for_each_of_its_options(
    deltagclip: Invoke, monkeypatch: pytest.MonkeyPatch, command: str, flag: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = deltagclip(*command.split(), flag)
    assert shown.exit_code == 0
    for each in COMMANDS[command].params:
        if each.opts[0].startswith("--"):
            assert each.opts[0] in shown.output
            assert each.help
            assert each.metavar or each.is_flag, f"{each.opts[0]} would show a type of Python"


def test_the_command_is_installed_under_its_name() -> None:
    (script,) = entry_points(group="console_scripts", name="deltagclip")
    assert script.value == "deltagclip_cli.commands.main:main"


def test_the_version_is_shown(deltagclip: Invoke) -> None:
    assert deltagclip("--version").output == f"deltagclip {__version__}\n"


@pytest.mark.parametrize(
    "words", [("fly",), ("train", "--fly"), ("train", "a", "b"), ("list", "planets")]
)
def test_a_wrong_command_line_is_refused_with_2(deltagclip: Invoke, words: tuple[str, ...]) -> None:
    refused = deltagclip(*words)
    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert words[-1] in refused.stderr


# Runs in a process of its own: this one has imported torch for other tests.
WITHOUT_TORCH = """
import os, sys
from pathlib import Path
from typer.testing import CliRunner
from deltagclip_cli.commands.app import COMMANDS, app

def heavy():
    return {"torch", "torchvision", "tensorboard", "numpy", "scipy", "PIL"} & set(sys.modules)

def run(*words):
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, (words, result.output)
    assert not heavy(), (words, heavy())

run("--help")
run("--version")
for command in (*COMMANDS, "data prepare"):
    run(*command.split(), "--help")
run("validate", "spec.yaml")
for kind in "experiments models datasets tasks optimizers schedules augmentations".split():
    run("list", kind, "--spec", "spec.yaml")
    run("list", kind, "--spec", "spec.yaml", "--json")
run("train", "tiny", "--spec", "spec.yaml", "--dry-run")
run("train", "tiny", "--spec", "spec.yaml", "--dry-run", "--set", "optimizers.sgd=adam",
    "--set", "schedule={name: StepLR, step_size: 1}", "--set", "model=torchvision:resnet18")
if Path("runs").exists():
    run("train", "tiny", "--spec", "spec.yaml")
    run("train", "tiny", "--spec", "spec.yaml", "--json")
print("done without torch")
"""


def test_planning_never_imports_torch(tmp_path: Path) -> None:
    write_spec(tmp_path)
    assert "done without torch" in python(tmp_path, WITHOUT_TORCH)


@pytest.mark.slow
def test_neither_does_a_trial_that_is_finished_already(trained: Path) -> None:
    assert "done without torch" in python(trained, WITHOUT_TORCH)


def python(folder: Path, program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_itself_imports_nothing(tmp_path: Path) -> None:
    program = (
        "import sys; before = set(sys.modules); import deltagclip_cli;"
        "print(sorted(set(sys.modules) - before))"
    )
    assert python(tmp_path, program) == "['deltagclip_cli']\n"
