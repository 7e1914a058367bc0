"""The process of one benchmark: measures, and hands on each figure as soon as it is there.

python -m benchmarks.harness.child MODULE DEVICE FILE [quick]
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.harness.session import Session, Skipped


def main(module: str, device: str, file: str, *quick: str) -> None:
    """Write a line of JSON for each figure, or one for why there are none."""
    with Path(file).open("a", encoding="utf-8") as lines, tempfile.TemporaryDirectory() as folder:
        for line in _lines(module, Session(device, bool(quick), Path(folder))):
            lines.write(json.dumps(line) + "\n")
            lines.flush()


def _lines(module: str, session: Session) -> Iterator[dict[str, Any]]:
    try:
        if session.device == "cuda":
            _need_a_gpu()
        for figure in import_module(module).measure(session):
            yield {"figure": asdict(figure)}
    except Skipped as skipped:
        yield {"skipped": str(skipped)}
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "benchmarks", "deltagclip_cli"):
            raise
        yield {"skipped": f"needs the package {package}, which is not installed"}


def _need_a_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise Skipped("needs a GPU: torch finds none here")


if __name__ == "__main__":
    main(*sys.argv[1:])
