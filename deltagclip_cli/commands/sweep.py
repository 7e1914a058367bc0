"""``deltagclip sweep``: every trial of experiments that is not finished yet."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from deltagclip_cli.commands import options
from deltagclip_cli.core import ExitCode, SpecError, UsageError, nearest, plural
from deltagclip_cli.launch import TABLE, find_launcher

if TYPE_CHECKING:
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
    launcher: Annotated[
        str,
        typer.Option(
            metavar="|".join(TABLE.entries), help="Worker processes, this process, or batch jobs."
        ),
    ] = "local",
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", min=1, metavar="N", help="Train on the CPU, N trials at a time."
        ),
    ] = None,
    gpus: Annotated[
        str | None, typer.Option(metavar="all|0,2", help="The GPUs to use.", show_default="all")
    ] = None,
    trials_per_gpu: Annotated[
        str,
        typer.Option(
            metavar="auto|N", help="Trials that share a GPU; auto: as many as it has room for."
        ),
    ] = "1",
    threads: options.Threads = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Replace a key of the spec's slurm, such as time=04:00:00. Repeatable.",
        ),
    ] = None,
    pack: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="K", help="Trials that share a Slurm job.", show_default="as in the spec"
        ),
    ] = None,
    search: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Search: N settings of each optimizer out of the experiment's 'search', in all.",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run failed trials again.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Run all trials again, finished ones too.")
    ] = False,
    same_code: options.SameCode = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before --force.")] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop when a trial does not finish.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Start nothing; show what would be run, or the scripts."),
    ] = False,
    spec: options.Spec = options.SPEC,
    sets: options.Sets = None,
    runs: options.Runs = options.RUNS,
    data: options.Data = options.DATA,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Run every trial of experiments that is not finished: optimizers, grids, seeds.

    It can be stopped, killed, and started twice at once: the same command goes on.

    Exit codes: 0 all finished; 1 some failed or diverged; 2 wrong input;
    75 some stopped or killed: run it again; 130 interrupted by Ctrl-C.
    With --launcher slurm: 0 submitted, or nothing left to submit;
    1 nothing left, and some failed or diverged.
    """
    from deltagclip_cli.launch.launcher import StayingLauncher, SweepRequest
    from deltagclip_cli.plan.edits import find_edits, vouch_for
    from deltagclip_cli.search.searched import find_searched
    from deltagclip_cli.search.session import SearchSession
    from deltagclip_cli.slurm.jobs import find_jobs
    from deltagclip_cli.spec.load import load_spec
    from deltagclip_cli.terminal.console import make_console

    shares = _shares(trials_per_gpu)
    if everything and (experiments or tags):
        raise UsageError("--all: not with the names or tags of experiments.")
    read = load_spec(spec, experiments or (), sets or (), tags or (), runs)
    chosen, labels = read.experiments, optimizer or ()
    _check_labels(labels, chosen)
    trials = [] if search else _trials(chosen, labels, seed or ())
    edits = find_edits(trials, runs)
    of_edits = [str(edit) for edit in edits]
    if same_code and edits and not dry_run:
        of_edits = vouch_for(edits)
        read = load_spec(spec, experiments or (), sets or (), tags or (), runs)
        chosen = read.experiments
        trials = _trials(chosen, labels, seed or ())
    named = bool(experiments or tags)
    can_ask = sys.stdin.isatty()
    if not (named or everything or dry_run) and len(chosen) > 1:
        _ask_for_all(read, len(trials), can_ask)
    given = {
        "search": search,
        "fail_fast": fail_fast,
        "jobs": jobs,
        "gpus": gpus,
        "trials_per_gpu": shares != 1,
        "slurm": slurm,
        "pack": pack,
    }
    make = find_launcher(launcher, [option for option, value in given.items() if value])
    launching = make(
        SweepRequest(
            spec=read,
            runs=runs,
            data=data.expanduser(),
            console=make_console(stderr=as_json),
            elsewhere=partial(find_jobs, runs),
            words=options.option_words(spec, runs, sets=sets or ()),
            threads=threads,
            jobs=jobs,
            gpus=gpus,
            trials_per_gpu=shares,
            fail_fast=fail_fast,
            slurm=[*(slurm or ()), *([f"pack={pack}"] if pack else [])],
            retry_failed=retry_failed,
            force=force,
            ask=not yes and can_ask,
            as_json=as_json,
            quiet=quiet,
        )
    )
    for sentence in of_edits:
        launching.say(sentence)
    if search is None:
        raise typer.Exit(launching.show(trials) if dry_run else launching.run(trials))
    if retry_failed or force:
        raise UsageError(
            f"--{'retry-failed' if retry_failed else 'force'}: a search runs no trial twice.\n"
            "  To run one again, delete its run folder and the experiment's search.journal."
        )
    if same_code:
        raise UsageError(
            "--same-code: a search goes on with the code that it began with.\n"
            "  Undo the edit, or move the experiment's search.journal away to search anew."
        )
    assert isinstance(launching, StayingLauncher), "others take no --search"
    optimizers = find_searched(chosen, named=bool(experiments), labels=labels, seeds=seed or ())
    searching = SearchSession(launching, optimizers, search)
    raise typer.Exit(searching.show() if dry_run else searching.run())


def _shares(written: str) -> int | None:
    """Return how many trials share a GPU; None for as many as fit."""
    if written == "auto":
        return None
    if not written.isdecimal() or int(written) < 1:
        raise UsageError(
            f"--trials-per-gpu {written}: expected auto, or a number from 1.\n"
            "  With auto, a GPU gets as many trials at a time as its memory has room for."
        )
    return int(written)


def _ask_for_all(spec: Spec, trials: int, can_ask: bool) -> None:
    """Let nobody start weeks of training by a word too few."""
    of = f", of {plural(trials, 'trial')}" if trials else ""
    there = f"{spec.name} has {len(spec.experiments)} experiments{of}."
    if not can_ask:
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
