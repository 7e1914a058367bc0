"""Ten seeds of a network as members of one stack, beside one trial and beside ten.

All of a training is timed from the end of its first pass to that of its last: the steps, the
evaluations and what is recorded of each member. No checkpoint is written but the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Figure, Session
from benchmarks.harness.training import trials_of
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import hold
from deltagclip_cli.spec.trial import Trial

DEVICES = ("cpu", "cuda")
SEEDS = 10
SPEC = """
defaults:
  epochs: 3
  checkpoint: {epochs: 1000}
  optimizers: {delta-gclip: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}}
experiments:
  MLP:
    model: {name: mlp, hidden: [256, 256]}
    data: {name: synthetic, channels: 1, size: 28, train: 20000, test: 1000, batch_size: 100}
  KAN:
    model: kan
    data: {name: synthetic, channels: 1, size: 28, train: 12800, test: 1000, batch_size: 64}
  ViT-Tiny:
    model: vit_tiny
    data: {name: synthetic, channels: 3, size: 64, train: 6400, test: 640, batch_size: 64}
"""
SMALL = {
    "train: 20000, test: 1000": "train: 1000, test: 100",
    "train: 12800, test: 1000": "train: 640, test: 100",
    "size: 64, train: 6400, test: 640, batch_size: 64": (
        "size: 16, train: 40, test: 10, batch_size: 8"
    ),
}


def measure(session: Session) -> Iterator[Figure]:
    spec, rounds = SPEC, 3
    if session.quick or session.device == "cpu":
        for usual, small in SMALL.items():
            spec = spec.replace(usual, small)
    if session.quick:
        rounds = 1
    for trial in trials_of(session.write("experiments.yaml", spec)):
        seconds: dict[str, list[float]] = {"one": [], "stacked": []}
        for _ in range(rounds):
            seconds["one"].append(_seconds_of_one(trial, session))
            seconds["stacked"].append(_seconds_of_a_stack(trial, session))
        pairs = list(zip(seconds["stacked"], seconds["one"], strict=True))
        name = f"{SEEDS} seeds stacked, {trial.experiment}"
        yield Figure.as_long(name, [stacked / one for stacked, one in pairs], "one")
        ratios = [SEEDS * one / stacked for stacked, one in pairs]
        yield Figure.as_fast(name, ratios, f"{SEEDS} trials, one after the other")


def _seconds_of_one(trial: Trial, session: Session) -> float:
    from deltagclip_cli.training.worker import run_trial

    folder = RunFolder.of(session.new_folder(), trial)
    run_trial(
        folder,
        trial,
        data_dir=session.folder,
        device=session.device,
        should_stop=lambda: False,
    )
    return _seconds(folder)


def _seconds_of_a_stack(trial: Trial, session: Session) -> float:
    from deltagclip_cli.training.process import StopRequest
    from deltagclip_cli.training.stack import run_stack

    runs = session.new_folder()
    stacked = trial.model_copy(update={"stack": SEEDS})
    folders = [_made(runs, stacked.with_seed(seed)) for seed in range(SEEDS)]
    run_stack(folders, data_dir=session.folder, device=session.device, stop=StopRequest())
    return max(map(_seconds, folders))


def _made(runs: Path, trial: Trial) -> RunFolder:
    folder = RunFolder.of(runs, trial)
    with hold(folder, make=True) as held:
        held.keep(trial)
    return folder


def _seconds(folder: RunFolder) -> float:
    """The time from the first record to the last."""
    times = [float(record["time"]) for record in folder.metrics()]
    return times[-1] - times[0]
