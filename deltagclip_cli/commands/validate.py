"""``deltagclip validate``: every fault of a spec at once, and nothing run."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import SpecError, plural, printable

if TYPE_CHECKING:
    from deltagclip_cli.launch.rehearsal import Stage
    from deltagclip_cli.spec.load import Spec
    from deltagclip_cli.spec.trial import Trial


def validate(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file of experiments.")
    ] = options.SPEC,
    sets: options.Sets = None,
    data: options.Data = options.DATA,
    device: options.Device = "auto",
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Find every error in a file of experiments; run nothing.

    Models, optimizers and schedules are built once, without data: for --device, or for the GPUs of
    a cluster where an experiment has 'slurm:'. Code of your own is only read: train and sweep try
    it out before they begin. Exit code 0 if there is no error, else 2.
    """
    from deltagclip_cli.spec.load import load_spec
    from deltagclip_cli.spec.trial import expand
    from deltagclip_cli.terminal.console import print_json

    try:
        spec = load_spec(file, sets=sets or ())
        trials = {name: list(expand(name, each)) for name, each in spec.experiments.items()}
        _check_parts(spec, chain(*trials.values()), data.expanduser(), device)
    except SpecError as error:
        if as_json:
            print_json({"valid": False, "errors": str(error).split("\n\n")})
            raise typer.Exit(error.exit_code) from None
        raise
    counts = {name: len(each) for name, each in trials.items()}
    if as_json:
        print_json({"valid": True, "trials": counts})
        return
    for name, count in counts.items():
        said = f"{name}: {plural(count, 'trial')}"
        if spec.experiments[name].protocol is not None:
            from deltagclip_cli.search.tuning_view import totals
            from deltagclip_cli.tuning.studies import Tuning

            said += f" as written; tune has {totals(Tuning.of(name, spec.experiments[name]))}"
        print(said)
    all_of_them = f"{plural(len(counts), 'experiment')}, {plural(sum(counts.values()), 'trial')}"
    print(f"{printable(str(file))}: {all_of_them}, no errors.")


def _check_parts(spec: Spec, trials: Iterable[Trial], data: Path, device: str) -> None:
    """Build the parts of trials without code of one's own, for where each is to be trained."""
    from deltagclip_cli.launch.rehearsal import Stage, call_with_torch, check_parts, elsewhere
    from deltagclip_cli.search.searched import find_searched
    from deltagclip_cli.spec.slurm_settings import Slurm
    from deltagclip_cli.terminal.console import make_console, waiting

    def stage(trial: Trial) -> Stage:
        slurm = spec.experiments[trial.experiment].slurm
        if device != "auto" or slurm == Slurm():
            return Stage(device)
        return elsewhere(slurm.of(trial.label))

    searched = {name: each for name, each in spec.experiments.items() if each.search}
    optimizers = find_searched(searched, named=False) if searched else []
    drawn = [trial for each in optimizers for trial in each.extremes()]
    tried = [trial for trial in chain(trials, drawn) if trial.code is None]
    if tried:
        with waiting(make_console(stderr=True), "loading torch and trying the parts out"):
            check_parts(spec, tried, stage, data, call_with_torch)
