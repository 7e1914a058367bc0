"""What a shell offers after a Tab: names from the spec and from the runs folder.

Nothing is checked or loaded, and what cannot be read offers nothing: a Tab is answered quickly and
quietly.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

from deltagclip_cli.commands import options


def experiments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Experiments of the spec."""
    return _beginning(incomplete, _written(ctx))


def read_experiments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Experiments that have runs, then those of the spec."""
    return _beginning(incomplete, [*_names(_path(ctx, "runs", options.RUNS)), *_written(ctx)])


def labels(ctx: typer.Context, incomplete: str) -> list[str]:
    """Optimizers of the experiments that are named, or of all."""
    written = _written(ctx)
    runs = _path(ctx, "runs", options.RUNS)
    found: list[str] = []
    there = [*written, *_names(runs)]
    for name in [each for each in _named(ctx) if each in there] or there:
        section = written.get(name)
        optimizers = section.get("optimizers") if isinstance(section, dict) else None
        found += map(str, optimizers) if isinstance(optimizers, dict) else _names(runs / name)
    return _beginning(incomplete, found)


def metrics(ctx: typer.Context, incomplete: str) -> list[str]:
    """Metrics of the first run that has any."""
    from pydantic_core import from_json

    from deltagclip_cli.core import open_file

    runs = _path(ctx, "runs", options.RUNS)
    there = _names(runs)
    for name in [each for each in _named(ctx) if each in there] or there:
        for file in (runs / name).glob("*/seed-*/metrics.jsonl"):
            try:
                with open_file(file) as opened:
                    record = from_json(opened.readline(100_000))
            except (OSError, ValueError):
                continue
            if isinstance(record, dict):
                return _beginning(incomplete, [each for each in record if "/" in each])
    return []


def _named(ctx: typer.Context) -> list[str]:
    """The experiments that are on the command line already."""
    found = [ctx.params.get(key) for key in ("experiments", "experiment", "targets")]
    return [name for each in found if each for name in ([each] if isinstance(each, str) else each)]


def _written(ctx: typer.Context) -> dict[str, object]:
    """The experiments of the spec, as they are written there."""
    from deltagclip_cli.core import SpecError
    from deltagclip_cli.spec.document import read_document

    try:
        data = read_document(_path(ctx, "spec", options.SPEC)).data
    except SpecError:
        return {}
    written = data.get("experiments") if isinstance(data, dict) else None
    return {str(key): value for key, value in written.items()} if isinstance(written, dict) else {}


def _path(ctx: typer.Context, option: str, default: Path) -> Path:
    return Path(str(ctx.params.get(option) or default))


def _names(folder: Path) -> list[str]:
    from deltagclip_cli.core import subfolders

    try:
        return subfolders(folder)
    except OSError:
        return []


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]
