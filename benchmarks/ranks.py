"""Several processes that train one trial, and one of them alone, beside a process without them.

An epoch of steps, with its evaluation, as ``deltagclip train`` records it. What one rank takes
beside none is what adding up, agreeing and whole batches cost: it is a group of one process, which
hears of itself alone. Two ranks of one thread each share each batch by gloo on this machine; the
process beside them has two threads, so that both have two cores. None writes a checkpoint.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.harness import Figure, Session
from benchmarks.harness.training import runner, trials_of
from benchmarks.language_epoch import drawn_text
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training.assembly import assemble
from deltagclip_cli.training.ranks.replicas import Replicas

DEVICES = ("cpu", "cuda")
NONE, THREADS = "the same without ranks", "one process with two threads"
SPEC = """
experiments:
  ResNet-18:
    model: resnet18
    data: {name: synthetic, train: 128, test: 32, batch_size: 64, augment: [random_crop, flip]}
    epochs: 1000
    optimizers: {delta-gclip: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}}
  GPT:
    model: {name: gpt, layers: 4, heads: 4, width: 128}
    data: {name: tokens, path: text.txt, window: 64, batch_size: 16, splits: {test: 0.1}}
    task: language_model
    epochs: 1000
    optimizers: {adamw: {name: adamw, lr: 1e-3}}
"""


def measure(session: Session) -> Iterator[Figure]:
    rounds = 1 if session.quick else 5
    for trial in trials(session.folder, session.quick, pixels=8):
        threads = torch.get_num_threads()
        parts = assemble(trial, session.folder, torch.device(session.device))
        others = assemble(trial, session.folder, torch.device(session.device))
        with (
            runner(trial, parts, session.folder / "alone") as alone,
            meeting(session.new_folder(), 0, 1),
            runner(trial, others, session.folder / "ranks", Replicas()) as rank,
        ):
            times = session.turns({"rank": rank.epoch, NONE: alone.epoch}, rounds)
            yield times.as_long(f"one rank, {trial.experiment}", "rank", NONE)
            if session.device == "cuda":  # of which there is one
                continue
            torch.set_num_threads(2)
            with two_ranks(trial, session) as both:
                times = session.turns({"ranks": both, THREADS: alone.epoch}, rounds)
            torch.set_num_threads(threads)
        yield times.as_fast(f"two ranks of one thread, {trial.experiment}", "ranks", THREADS)


def trials(folder: Path, quick: bool, pixels: int = 32) -> Iterator[Trial]:
    """One of a convolutional network with batch norms, and one of attention; their data, too.

    Args:
        quick: few data, in small batches.
        pixels: of an image from side to side, where it is to be quick.
    """
    few = f"synthetic, size: {pixels}, train: 16, test: 8, batch_size: 8"
    spec = SPEC.replace("synthetic, train: 128, test: 32, batch_size: 64", few)
    (folder / "text.txt").write_text(drawn_text(1_000 if quick else 6_000), encoding="utf-8")
    file = folder / "experiments.yaml"
    file.write_text(spec if quick else SPEC, encoding="utf-8")
    return trials_of(file)


@contextmanager
def meeting(folder: Path, number: int, count: int) -> Iterator[None]:
    """Be one of some processes that meet in a folder."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    place = f"file://{folder}/meeting"
    dist.init_process_group(backend, init_method=place, rank=number, world_size=count)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def two_ranks(trial: Trial, session: Session) -> Iterator[Callable[[], None]]:
    """Two processes, and what lets them train an epoch together."""
    context = multiprocessing.get_context("spawn")
    place, started, pipes = session.new_folder(), [], []
    for number in range(2):
        mine, theirs = context.Pipe()
        words = (trial, session.folder, place, number, theirs)
        process = context.Process(target=attend, args=words, daemon=True)
        process.start()
        theirs.close()  # so that its end is heard
        started.append(process)
        pipes.append(mine)

    def epoch() -> None:
        for pipe in pipes:
            pipe.send("epoch")
        for pipe in pipes:
            pipe.recv()

    try:
        yield epoch
    finally:
        for process in started:
            process.kill()
            process.join()


def attend(trial: Trial, folder: Path, place: Path, number: int, orders: Connection) -> None:
    """Be one of two ranks, and train an epoch whenever one is asked for."""
    torch.set_num_threads(1)
    parts = assemble(trial, folder, torch.device("cpu"))
    with (
        meeting(place, number, 2),
        runner(trial, parts, folder / f"rank-{number}", Replicas()) as ours,
    ):
        while orders.recv():
            ours.epoch()
            orders.send("done")
