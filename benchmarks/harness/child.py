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

_OURS = ("benchmarks", "deltagclip_cli")


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
        for figure in _imported(module).measure(session):
            yield {"figure": asdict(figure)}
    except Skipped as skipped:
        yield {"skipped": str(skipped)}


def _imported(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in (*_OURS, module.partition(".")[0]):
            raise
        raise Skipped(f"needs the package {error.name}, which is not installed") from error


def _need_a_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise Skipped("needs a GPU: torch finds none here")


if __name__ == "__main__":
    main(*sys.argv[1:])
