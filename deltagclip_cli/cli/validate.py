"""``deltagclip validate``: every fault of a spec at once, and nothing run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deltagclip_cli.cli import options
from deltagclip_cli.cli.reporting import reports_errors
from deltagclip_cli.wording import plural, printable


@reports_errors
def validate(
    file: Annotated[Path, typer.Argument(metavar="[FILE]")] = options.SPEC,
    sets: options.Sets = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Check a file of experiments: every error at once, with its line. Nothing is run.

    Exit code 0 if there is none, else 2.
    """
    from deltagclip_cli.console.streams import print_json
    from deltagclip_cli.errors import SpecError
    from deltagclip_cli.spec.load import load_spec
    from deltagclip_cli.trials import expand

    try:
        spec = load_spec(file, sets=sets or ())
    except SpecError as error:
        if as_json:
            print_json({"valid": False, "errors": str(error).split("\n\n")})
            raise typer.Exit(error.exit_code) from None
        raise
    counts = {
        name: sum(1 for _ in expand(name, experiment))
        for name, experiment in spec.experiments.items()
    }
    if as_json:
        print_json({"valid": True, "trials": counts})
        return
    for name, count in counts.items():
        print(f"{name}: {plural(count, 'trial')}")
    experiments, trials = len(counts), sum(counts.values())
    all_of_them = f"{plural(experiments, 'experiment')}, {plural(trials, 'trial')}"
    print(f"{printable(str(file))}: {all_of_them}, no errors.")
