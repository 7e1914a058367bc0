"""``deltagclip validate`` of a spec with every optimizer of pytorch_optimizer, cold and cached.

Cold is without kept signatures, cached is with those of the command before. The time of the same
command with one name is taken off, and what remains stands beside the parsing of all files of
the package by ``ast``, without which nobody can know their options.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytorch_optimizer  # noqa: F401 - without it there is nothing to measure
import yaml

from benchmarks.harness import Figure, Session
from benchmarks.harness.commands import deltagclip

STORED = Path(__file__).parents[1] / "scripts" / "optimizer_names.json"
PACKAGE = "pytorch_optimizer"
PARSE = f"""
import ast, importlib.util, pathlib
spec = importlib.util.find_spec({PACKAGE!r})
for file in pathlib.Path(spec.origin).parent.rglob("*.py"):
    ast.parse(file.read_bytes())
"""


def measure(session: Session) -> Iterator[Figure]:
    names = {
        name: each["options"]
        for name, each in json.loads(STORED.read_text())["names"].items()
        if name.startswith(f"{PACKAGE}:") and each["trains"]
    }
    one, every = (str(session.folder / name) for name in ("one.yaml", "all.yaml"))
    write_spec(Path(one), {f"{PACKAGE}:Lion": {}})
    write_spec(Path(every), names)
    ratios: dict[str, list[float]] = {"cold": [], "cached": []}
    for _ in range(1 if session.quick else 5):
        home = session.new_folder()
        parsed = seconds(session, [sys.executable, "-c", PARSE], home)
        cold, cached, alone = (
            seconds(session, deltagclip("validate", file), home) for file in [every, every, one]
        )
        ratios["cold"].append((cold - alone) / parsed)
        ratios["cached"].append((cached - alone) / parsed)
    for kind, each in ratios.items():
        yield Figure.as_long(f"validate, {len(names)} names, {kind}", each, "parsing by ast")


def seconds(session: Session, words: list[str], home: Path) -> float:
    environment = {**os.environ, "HOME": str(home)}
    return session.seconds(
        lambda: subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)
    )


def write_spec(file: Path, names: dict[str, dict[str, object]]) -> None:
    optimizers = {
        f"o{number}": {"name": name, **options}
        for number, (name, options) in enumerate(names.items())
    }
    experiment = {"model": "mlp", "data": {"name": "sphere", "batch_size": "full"}, "epochs": 1}
    file.write_text(
        yaml.safe_dump({"experiments": {"e": {**experiment, "optimizers": optimizers}}})
    )
