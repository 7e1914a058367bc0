"""``deltagclip tune``: tune all optimizers of an experiment alike, and judge the chosen ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deltagclip_cli.commands import launching, options
from deltagclip_cli.core import UsageError

if TYPE_CHECKING:
    from deltagclip_cli.spec.schema import Experiment
    from deltagclip_cli.tuning.studies import Tuning


def tune(
    experiment: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT",
            help="An experiment of the spec that has a protocol.",
            autocompletion=options.offer_experiments,
        ),
    ],
    launcher: launching.Where = "local",
    jobs: launching.Jobs = None,
    gpus: launching.Gpus = None,
    trials_per_gpu: launching.TrialsPerGpu = "1",
    threads: options.Threads = None,
    slurm: launching.SlurmKeys = None,
    pack: launching.Pack = None,
    retry_failed: launching.RetryFailed = False,
    same_code: options.SameCode = False,
    fail_fast: launching.FailFast = False,
    select_on_test: options.SelectOnTest = False,
    dry_run: launching.DryRun = False,
    spec: options.Spec = options.SPEC,
    sets: options.Sets = None,
    runs: options.Runs = options.RUNS,
    data: options.Data = options.DATA,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Tune all optimizers alike; run the choices on new seeds.

    What its 'protocol' says: the same number of draws for each, a choice on validation, then the
    chosen ones on seeds that chose nothing. The plan is fixed before the first run, in
    runs/EXPERIMENT/protocol.lock. It can be stopped, killed, and started again: the same command
    goes on.

    Exit codes: 0 all is done, whatever diverged among the draws; 1 a trial failed, a chosen one
    diverged, or nothing could be chosen; 2 wrong input, or a spec that does not fit the plan;
    75 some stopped or killed: run it again; 130 interrupted by Ctrl-C.
    With --launcher slurm: 0 also while jobs wait or run.
    """
    from deltagclip_cli.plan.edits import find_edits, vouch_for
    from deltagclip_cli.search.tuning_session import make_session
    from deltagclip_cli.spec.load import load_spec

    read = load_spec(spec, [experiment], sets or (), (), runs)
    tuning = _tuning(experiment, read.experiments[experiment], select_on_test)
    edits = find_edits(tuning.drawn_trials, runs)
    said = [str(each) for each in edits]
    if same_code and edits and not dry_run:
        said = vouch_for(edits)
        read = load_spec(spec, [experiment], sets or (), (), runs)
        tuning = _tuning(experiment, read.experiments[experiment], select_on_test)
    runner = launching.make_launcher(
        launcher,
        read,
        runs,
        data,
        words=options.option_words(spec, runs, sets=sets or ()),
        threads=threads,
        jobs=jobs,
        gpus=gpus,
        trials_per_gpu=trials_per_gpu,
        slurm=slurm,
        pack=pack,
        fail_fast=fail_fast,
        retry_failed=retry_failed,
        as_json=as_json,
        quiet=quiet,
    )
    for sentence in said:
        runner.say(sentence)
    session = make_session(runner, tuning)
    raise typer.Exit(session.show() if dry_run else session.run())


def _tuning(name: str, experiment: Experiment, select_on_test: bool) -> Tuning:
    from deltagclip_cli.results.compare.choosing import check_choice, check_ends
    from deltagclip_cli.tuning.studies import Tuning

    if experiment.protocol is None:
        raise UsageError(_example(name, experiment))
    check_ends({name: experiment}, select_on_test=select_on_test)
    what = f"{name}: protocol.metric"
    check_choice(what, experiment.protocol.metric, select_on_test=select_on_test)
    return Tuning.of(name, experiment)


def _example(name: str, experiment: Experiment) -> str:
    """Return the message that there is no protocol, with one that can be copied."""
    spaces = "\n".join(
        f"          {label}: {{lr: {{log_uniform: {_around(each.options.get('lr'))}}}}}"
        for label, each in experiment.optimizers.items()
    )
    metric = "accuracy" if "accuracy" in experiment.task.metrics else "loss"
    has_split = experiment.data.has_validation or experiment.data.is_own
    split = "" if has_split else ", and validation: 0.1 into its data"
    return (
        f"{name} has no 'protocol:' that says how its optimizers are tuned.\n"
        f"  Write, with limits of your own{split}:\n"
        f"    {name}:\n"
        f"      protocol: {{draws: 8, fresh_seeds: 10, metric: validation/{metric}}}\n"
        f"      search:\n        space:\n{spaces}"
    )


def _around(rate: object) -> str:
    """Return limits that have a rate in their middle; usual ones if it is no number."""
    if not isinstance(rate, (int, float)) or rate <= 0:
        return "[1e-4, 1]"
    return f"[{rate / 10:g}, {rate * 10:g}]"
