"""``deltagclip validate`` of a spec with every optimizer of pytorch_optimizer, cold and cached.

    python benchmarks/many_names.py [--rounds 5]

Cold is without kept signatures, cached is with those of the command before. Beside them stand a
spec with one of them, which is what the command costs anyway, and the parsing of all
files of the package by ``ast``, without which nobody can know their options. Times are those of
whole commands.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from machine import describe_machine
from optimizer_names import STORED
from rich.console import Console
from rich.table import Table

PACKAGE = "pytorch_optimizer"
PARSE = f"""
import ast, importlib.util, pathlib
spec = importlib.util.find_spec({PACKAGE!r})
for file in pathlib.Path(spec.origin).parent.rglob("*.py"):
    ast.parse(file.read_bytes())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    names = {
        name: each["options"]
        for name, each in json.loads(STORED.read_text())["names"].items()
        if name.startswith(f"{PACKAGE}:") and each["trains"]
    }
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_spec(place / "one.yaml", {f"{PACKAGE}:Lion": {}})
        write_spec(place / "all.yaml", names)
        for number in range(rounds):
            home = place / f"home-{number}"
            validate = [sys.executable, "-m", "deltagclip_cli", "validate"]
            commands = {
                "parsed by ast": [sys.executable, "-c", PARSE],
                "cold": [*validate, str(place / "all.yaml")],
                "cached": [*validate, str(place / "all.yaml")],
                "one": [*validate, str(place / "one.yaml")],
            }
            for what, command in commands.items():
                begin = time.perf_counter()
                environment = {**os.environ, "HOME": str(home)}
                subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
                times.setdefault(what, []).append(time.perf_counter() - begin)
    median = {what: statistics.median(each) for what, each in times.items()}
    console = Console()
    console.print(describe_machine())
    table = Table(
        f"validate, {len(names)} names of {PACKAGE}", "s", "s more than one name", "/ ast"
    )
    for what in ("cold", "cached"):
        more = median[what] - median["one"]
        ratio = more / median["parsed by ast"]
        table.add_row(what, f"{median[what]:.2f}", f"{more:.2f}", f"{ratio:.2f}")
    console.print(table)


def write_spec(file: Path, names: dict[str, dict[str, object]]) -> None:
    optimizers = {
        f"o{number}": {"name": name, **options}
        for number, (name, options) in enumerate(names.items())
    }
    experiment = {"model": "mlp", "data": {"name": "sphere", "batch_size": "full"}, "epochs": 1}
    file.write_text(
        yaml.safe_dump({"experiments": {"e": {**experiment, "optimizers": optimizers}}})
    )


if __name__ == "__main__":
    main()
