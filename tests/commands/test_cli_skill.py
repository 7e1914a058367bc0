"""The page for coding agents, which ``tests/test_pages.py`` follows to its end."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from invocation import Invoke

import deltagclip_cli.commands


def test_the_page_is_printed_as_a_skill_that_takes_few_commands(deltagclip: Invoke) -> None:
    page = Path(deltagclip_cli.commands.__file__).with_name("skill.md").read_text(encoding="utf-8")
    assert deltagclip("skill").stdout == page
    head = yaml.safe_load(page.split("---\n")[1])
    assert head["name"] == "deltagclip"
    assert "Use when" in head["description"]
    typed = "".join(re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    assert 5 <= len(typed.splitlines()) <= 12
    assert len(page.splitlines()) <= 140
