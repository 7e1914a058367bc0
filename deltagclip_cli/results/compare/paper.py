"""The file of what the paper's authors did and got, as data."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from deltagclip_cli.spec.document import parse


@cache
def content() -> dict[str, Any]:
    """Return what ``published.yaml`` holds."""
    text = files(__package__).joinpath("published.yaml").read_text("utf-8")
    found: dict[str, Any] = parse(text)
    return found
