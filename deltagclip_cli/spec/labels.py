"""Names of experiments, optimizers and settings, which become folders."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

from deltagclip_cli.core import shortened
from deltagclip_cli.spec.faults import refused

# Names become folders: nothing may lead out of the runs folder, or be longer than 255 bytes.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}")
NAMES = "names begin with a letter or digit and hold up to 200 letters, digits, '-' and '_'"


def _check_name(value: object) -> object:
    if isinstance(value, str) and not NAME.fullmatch(value):
        raise refused(f"'{shortened(value)}' cannot be a name.", NAMES)
    return value


Name = Annotated[str, BeforeValidator(_check_name)]
