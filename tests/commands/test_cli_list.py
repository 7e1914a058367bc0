"""``deltagclip list``: a line for each of what there is."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from invocation import Invoke
from rich.console import Console
from rich.text import Text
from tiny_spec import TINY

from deltagclip_cli.commands.list import print_listing
from deltagclip_cli.core import load_target

TABLES = {
    "models": "deltagclip_cli.parts.models:TABLE",
    "datasets": "deltagclip_cli.parts.datasets:TABLE",
    "tasks": "deltagclip_cli.parts.tasks:TABLE",
    "optimizers": "deltagclip_cli.optim:TABLE",
    "schedules": "deltagclip_cli.parts.schedules:TABLE",
    "augmentations": "deltagclip_cli.parts.datasets:AUGMENTATIONS",
}


@pytest.mark.parametrize("kind", TABLES)
def test_each_component_has_a_line_and_each_of_ours_a_description(
    deltagclip: Invoke, kind: str
) -> None:
    table = load_target(TABLES[kind])
    shown = deltagclip("list", kind)
    assert shown.exit_code == 0
    rows = [line.split("\t") for line in shown.stdout.splitlines()]
    assert [row[0] for row in rows] == list(table.all())
    assert all(len(row) == 3 for row in rows)
    for name, about, _ in rows:
        if name in table.entries:
            assert len(about) > 10
        else:
            assert about == table.all()[name].replace(":", ".")


@pytest.mark.parametrize("kind", TABLES)
def test_the_options_are_those_that_a_spec_may_set(deltagclip: Invoke, kind: str) -> None:
    supplied = load_target(TABLES[kind]).supplied
    for row in json.loads(deltagclip("list", kind, "--json").stdout):
        assert not {"self", *supplied} & set(row["options"])


def test_our_optimizer_is_listed_with_its_options(deltagclip: Invoke) -> None:
    rows = json.loads(deltagclip("list", "optimizers", "--json").stdout)
    ours = next(row for row in rows if row["name"] == "delta_gclip")
    assert ours["options"][:4] == ["lr", "gamma", "delta", "weight_decay"]


def test_the_experiments_of_a_file_are_listed_with_their_titles(deltagclip: Invoke) -> None:
    shown = deltagclip("list", "--spec", "spec.yaml")
    assert shown.stdout == "tiny\tA network that trains in a blink\tsgd, delta-gclip\t\t\n"
    assert json.loads(
        deltagclip("list", "experiments", "--spec", "spec.yaml", "--json").stdout
    ) == [
        {
            "name": "tiny",
            "about": "A network that trains in a blink",
            "optimizers": ["sgd", "delta-gclip"],
            "tags": [],
            "figure": "",
        }
    ]


def test_a_tag_chooses_what_is_listed(deltagclip: Invoke) -> None:
    tagged = TINY.replace("tiny:", "tiny:\n    tags: [paper, small]\n    figure: Left half", 1)
    Path("tagged.yaml").write_text(tagged, encoding="utf-8")
    listed = ("list", "--spec", "tagged.yaml", "--tag")
    assert deltagclip(*listed, "small").stdout.endswith("\tpaper, small\tLeft half\n")
    refused = deltagclip(*listed, "papers")
    assert refused.exit_code == 2
    assert "no experiment with the tag 'papers'.\n  tags: paper, small - did you" in refused.stderr
    refused = deltagclip("list", "models", "--tag", "small")
    assert "--tag: experiments have tags, and models have none." in refused.stderr


def test_a_file_that_is_not_there_is_refused(deltagclip: Invoke) -> None:
    refused = deltagclip("list")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: experiments.yaml: there is no such file")


def test_components_are_listed_without_a_file(deltagclip: Invoke) -> None:
    assert deltagclip("list", "models", "--spec", "absent.yaml").exit_code == 0


ROWS = [{"name": "a", "about": "[bold]not markup[/bold]"}, {"name": "b", "about": "two words"}]


def test_on_a_terminal_it_is_a_table_and_brackets_are_text() -> None:
    screen = StringIO()
    print_listing(ROWS, Console(file=screen, width=60, force_terminal=True, no_color=True))
    text = screen.getvalue()
    assert "[bold]not markup[/bold]" in text


def test_on_a_terminal_more_about_a_thing_stands_below_it() -> None:
    screen = StringIO()
    rows = [{"name": "a", "about": "b", "tags": "c, d", "figure": ""}]
    print_listing(rows, Console(file=screen, width=60, force_terminal=True, no_color=True))
    assert [Text.from_ansi(line).plain.strip() for line in screen.getvalue().splitlines()][1:] == [
        "tags: c, d"
    ]


def test_into_a_pipe_it_is_one_line_each_however_narrow() -> None:
    pipe = StringIO()
    print_listing(ROWS, Console(file=pipe, width=5))
    assert pipe.getvalue() == "a\t[bold]not markup[/bold]\nb\ttwo words\n"
    print_listing([], Console(file=pipe))


def test_a_reader_that_has_enough_ends_a_command_quietly() -> None:
    command = [sys.executable, "-c", "from deltagclip_cli.commands.main import main; main()"]
    words = ["list", "optimizers", "--json"]
    with subprocess.Popen(
        [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as done:
        assert done.stdout is not None and done.stderr is not None
        done.stdout.close()
        assert done.stderr.read() == b""


def test_what_a_package_offers_is_listed_with_its_defaults(deltagclip: Invoke) -> None:
    shown = deltagclip("list", "optimizers", "--package", "torch.optim", "--package", "rich")
    assert shown.exit_code == 2
    assert "rich offers no optimizers" in shown.stderr
    lines = deltagclip("list", "optimizers", "--package", "torch.optim").stdout.splitlines()
    adam = next(line for line in lines if line.startswith("torch.optim:Adam\t"))
    assert "lr=0.001, betas=[0.9, 0.999]" in adam
    rows = json.loads(deltagclip("list", "optimizers", "--package", "torch.optim", "--json").stdout)
    assert {row["name"]: row["role"] for row in rows}["torch.optim:Optimizer"] == "base class"
    assert next(row for row in rows if row["name"] == "torch.optim:SGD")["defaults"]["lr"] == 1e-3


def test_only_what_is_known_by_what_it_makes_is_listed_of_packages(deltagclip: Invoke) -> None:
    refused = deltagclip("list", "tasks", "--package", "torch")
    assert refused.exit_code == 2
    assert "models, optimizers and schedules of packages can be listed, not tasks" in refused.stderr
