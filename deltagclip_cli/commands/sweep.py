"""``deltagclip sweep``: every trial of experiments that is not finished yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from deltagclip_cli.commands import launching, options
from deltagclip_cli.core import ExitCode, SpecError, UsageError, nearest, plural

if TYPE_CHECKING:
    from deltagclip_cli.search.searched import SearchedOptimizer
    from deltagclip_cli.spec.load import Spec
    from deltagclip_cli.spec.schema import Experiment
    from deltagclip_cli.spec.trial import Trial


def sweep(
    experiments: Annotated[
        list[str] | None,
        options.experiments("Experiments of the spec.", options.offer_experiments, "the only one"),
    ] = None,
    tags: options.Tags = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All experiments of the spec, without a question.")
    ] = False,
    optimizer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL",
            help="Only this optimizer. Repeatable.",
            autocompletion=options.offer_labels,
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(min=0, max=2**31 - 1, metavar="N", help="This seed instead. Repeatable."),
    ] = None,
    launcher: launching.Where = "local",
    jobs: launching.Jobs = None,
    gpus: launching.Gpus = None,
    trials_per_gpu: launching.TrialsPerGpu = "1",
    threads: options.Threads = None,
    slurm: launching.SlurmKeys = None,
    pack: launching.Pack = None,
    search: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Search: N settings of each optimizer out of the experiment's 'search', in all.",
        ),
    ] = None,
    select_on_test: options.SelectOnTest = False,
    retry_failed: launching.RetryFailed = False,
    force: Annotated[
        bool, typer.Option("--force", help="Run all trials again, finished ones too.")
    ] = False,
    same_code: options.SameCode = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before --force.")] = False,
    fail_fast: launching.FailFast = False,
    dry_run: launching.DryRun = False,
    spec: options.Spec = options.SPEC,
    sets: options.Sets = None,
    runs: options.Runs = options.RUNS,
    data: options.Data = options.DATA,
    every: options.Every = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Run every trial of experiments that is not finished.

    Trials of all optimizers, grids and seeds. It can be stopped, killed, and started twice at once:
    the same command goes on.

    Exit codes: 0 all finished; 1 some failed or diverged; 2 wrong input;
    75 some stopped or killed: run it again; 130 interrupted by Ctrl-C.
    With --launcher slurm: 0 submitted, or nothing left to submit;
    1 nothing left, and some failed or diverged.
    """
    from deltagclip_cli.plan.edits import find_edits, vouch_for
    from deltagclip_cli.results.compare.choosing import check_choice, check_ends
    from deltagclip_cli.search.searched import find_searched
    from deltagclip_cli.search.session import make_search
    from deltagclip_cli.spec.load import load_spec

    if everything and (experiments or tags):
        raise UsageError("--all: not with the names or tags of experiments.")
    read = load_spec(spec, experiments or (), sets or (), tags or (), runs)
    chosen, labels = read.experiments, optimizer or ()
    is_ended = check_ends(chosen, select_on_test=select_on_test)
    if select_on_test and not (search or is_ended):
        raise UsageError("--select-on-test: without --search nothing is chosen.")
    _check_labels(labels, chosen)

    def plan(chosen: Mapping[str, Experiment]) -> tuple[list[SearchedOptimizer], list[Trial]]:
        if search is None:
            return [], _trials(chosen, labels, seed or ())
        found = find_searched(chosen, named=bool(experiments), labels=labels, seeds=seed or ())
        return found, list(chain.from_iterable(t for each in found for t in each.drawn(search)))

    searched, trials = plan(chosen)
    edits = find_edits(trials, runs)
    of_edits = [str(edit) for edit in edits]
    if same_code and edits and not dry_run:
        of_edits = vouch_for(edits)
        read = load_spec(spec, experiments or (), sets or (), tags or (), runs)
        chosen = read.experiments
        searched, trials = plan(chosen)
    named = bool(experiments or tags)
    if not (named or everything or dry_run) and len(chosen) > 1:
        _ask_for_all(read, len(trials))
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
        every=every,
        retry_failed=retry_failed,
        as_json=as_json,
        quiet=quiet,
        force=force,
        ask=not yes,
    )
    for sentence in of_edits:
        runner.say(sentence)
    if search is None:
        raise typer.Exit(runner.show(trials) if dry_run else runner.run(trials))
    for each in searched:
        what = f"--search: {each.name}"
        check_choice(what, each.search.metric, select_on_test=select_on_test)
    searching = make_search(runner, searched, search, same_code=same_code)
    raise typer.Exit(searching.show() if dry_run else searching.run())


def _ask_for_all(spec: Spec, trials: int) -> None:
    """Let nobody start weeks of training by a word too few."""
    of = f", of {plural(trials, 'trial')}" if trials else ""
    there = f"{spec.name} has {len(spec.experiments)} experiments{of}."
    if not launching.can_ask():
        raise UsageError(
            f"sweep: {there}\n  Name those to run, or say --all.\n"
            f"  experiments: {', '.join(spec.experiments)}"
        )
    if not typer.confirm(f"{there} Run them all?", err=True):
        raise typer.Exit(ExitCode.FAILED)


def _trials(
    experiments: Mapping[str, Experiment], labels: Sequence[str], seeds: Sequence[int]
) -> list[Trial]:
    """Every trial, or those of some labels, which not every experiment needs to have."""
    from deltagclip_cli.spec.trial import expand

    return [
        trial
        for name, experiment in experiments.items()
        for label in experiment.optimizers
        if not labels or label in labels
        for trial in expand(name, experiment, seeds, [label])
    ]


def _check_labels(labels: Sequence[str], experiments: Mapping[str, Experiment]) -> None:
    there = list(dict.fromkeys(label for each in experiments.values() for label in each.optimizers))
    for label in labels:
        if label not in there:
            raise SpecError(
                f"--optimizer {label}: no experiment here has such an optimizer.\n"
                f"  optimizers: {', '.join(there)}{nearest(label, there)}"
            )
