"""``deltagclip skill``: how an agent sets up and finishes a fair comparison."""

from __future__ import annotations

import sys
from importlib.resources import files


def skill() -> None:
    """Print a page for coding agents: a fair comparison.

    It begins as a file of skills does, so that agents find it where theirs are: deltagclip skill >
    .claude/skills/deltagclip/SKILL.md
    """
    sys.stdout.write(files(__package__ or "").joinpath("skill.md").read_text("utf-8"))
