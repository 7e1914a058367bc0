"""The files of results, one for each benchmark and kind of device."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness.figures import Figure
from benchmarks.harness.machine import commit, machine, versions
from benchmarks.targets import bound_of

STORED = Path(__file__).parents[1] / "results"


def file_of(name: str, device: str, folder: Path | None = None) -> Path:
    """Where the figures of a benchmark on a kind of device are."""
    return (folder or STORED) / (f"{name}.json" if device == "cpu" else f"{name}.{device}.json")


def described(name: str, device: str, quick: bool, load: float) -> dict[str, Any]:
    """The head of a file: what was measured, how, when and where.

    Args:
        load: how many processes wanted a core before it began.
    """
    words = [name, *(["--device", device] if device != "cpu" else []), *(["--quick"] * quick)]
    return {
        "benchmark": name,
        "command": " ".join(["python", "-m", "benchmarks", *words]),
        "date": datetime.now(UTC).date().isoformat(),
        "device": device,
        "machine": machine(device),
        "load": round(load, 1),
        "versions": versions(),
        "commit": commit(),
    }


def measured(name: str, device: str, figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """The figures as a file has them, with their targets, and whether these are met."""
    found = []
    for figure in figures:
        content = asdict(figure)
        bound = bound_of(name, device, figure.name, figure.against)
        if bound is not None:
            content |= {"target": str(bound), "met": bound.is_met(figure.value)}
        found.append({key: value for key, value in content.items() if value not in (None, "")})
    return found


def write(file: Path, content: dict[str, Any]) -> None:
    """Write a whole file or none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    temporary.replace(file)


def read(name: str, device: str, folder: Path | None = None) -> dict[str, Any] | None:
    """What a file has; None if nothing was measured.

    Raises:
        SystemExit: The file is damaged: cut off, or edited by hand.
    """
    file = file_of(name, device, folder)
    try:
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
        figures({"figures": content["figures"]})
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise SystemExit(
            f"{file} is damaged: {error!r}\n"
            f"  Measure it again, or take it from git: python -m benchmarks {name}"
        ) from error
    return content


def figures(content: dict[str, Any] | None) -> list[Figure]:
    """The figures of a file."""
    fields = Figure.__dataclass_fields__
    return [
        Figure(**{key: value for key, value in each.items() if key in fields})
        for each in (content or {"figures": []})["figures"]
    ]
