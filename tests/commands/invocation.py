"""What the fixture ``deltagclip`` is: the command as a function of its words."""

from __future__ import annotations

from collections.abc import Callable

from typer.testing import Result

Invoke = Callable[..., Result]
