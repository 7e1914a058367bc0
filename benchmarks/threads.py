"""What one number of CPU threads for every trial costs: the experiments for a CPU with 1, 2 and 4.

    python benchmarks/threads.py [--rounds 9] [--seconds 0.5] [--threads 2 4] [--at-once 1]
        [EXPERIMENT...]

Each experiment of ``experiments.yaml`` that is meant for a CPU trains with its model, optimizer and
batch size, on made-up data of the same shape (texts have the lengths of ``emotion``, their network
random weights). In a round every number of threads has its turn, so that all meet the same load.

*time* is that of a step with N threads against one thread, the median over rounds; *work* is the
same of all cores together: what is beyond 1 another trial would have had. With ``--at-once`` so
many trials train side by side, as in a sweep. Where other work runs, ``chrt -f 10 python ...``
gives the times of a machine that is free.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from machine import describe_machine
from rich.console import Console
from rich.table import Table

from deltagclip_cli.parts.datasets.texts import TokenBatches
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import make_trial
from deltagclip_cli.training.assembly import assemble

SPEC = Path(__file__).parents[1] / "experiments.yaml"
CPU = torch.device("cpu")
MADE = {"name": "synthetic", "train": 1000, "test": 100}
DIGITS = {**MADE, "channels": 1, "size": 28}
PICTURES = {**MADE, "channels": 3, "size": 32}
EXPERIMENTS = {
    "quickstart": {},
    "mnist-mlp": DIGITS,
    "kan-mnist-small": DIGITS,
    "vae-mnist-small": DIGITS,
    "bert-emotion-small": {},
    "resnet18-cifar10-small": PICTURES,
    "vit-tiny-cifar10-small": PICTURES,
}

Step = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", default=list(EXPERIMENTS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn, with one thread")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="trials side by side")
    options = parser.parse_args()
    console = Console()
    console.print(describe_machine())
    columns = [f"{what}, {n} threads / 1" for n in options.threads for what in ("time", "work")]
    table = Table("experiment", "ms a step with 1", *columns)
    for name in options.experiments:
        threads = [1, *options.threads]
        turns = in_turns(threads, options.at_once, name, options.rounds, options.seconds)
        cells = [ratio(turns, n, what) for n in options.threads for what in ("time", "work")]
        own = 1e3 * statistics.median(turn.time for turn in turns[1])
        table.add_row(name, f"{own:.1f}", *cells)
    console.print(table)


@dataclass(frozen=True)
class Turn:
    """Seconds a step: of the clock, and of all cores."""

    time: float
    work: float


def ratio(turns: dict[int, list[Turn]], threads: int, what: str) -> str:
    pairs = zip(turns[threads], turns[1], strict=True)
    return f"{statistics.median(getattr(n, what) / getattr(one, what) for n, one in pairs):.2f}"


def in_turns(
    threads: list[int], processes: int, name: str, rounds: int, seconds: float
) -> dict[int, list[Turn]]:
    """The turns of so many processes that all work at once, the mean over them in each round."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    with context.Pool(processes, initializer=_prepare, initargs=(barrier,)) as pool:
        rows = pool.map(partial(_work, threads, rounds, seconds), [name] * processes, chunksize=1)
    return {
        n: [
            Turn(*(statistics.mean(each) for each in zip(*found, strict=True)))
            for found in zip(*(row[n] for row in rows), strict=True)
        ]
        for n in threads
    }


def _prepare(barrier: object) -> None:
    global _barrier
    _barrier = barrier


def _work(
    threads: list[int], rounds: int, seconds: float, name: str
) -> dict[int, list[tuple[float, float]]]:
    torch.set_num_threads(1)
    step = make_step(name)
    turns: dict[int, list[tuple[float, float]]] = {n: [] for n in threads}
    for warm_up in (True, False):
        for _ in range(1 if warm_up else rounds):
            for n in threads:
                torch.set_num_threads(n)
                step()  # which also makes the threads
                _barrier.wait()
                turn = _turn(step, seconds)
                if not warm_up:
                    turns[n].append(turn)
    _barrier.wait()
    return turns


def _turn(step: Step, seconds: float) -> tuple[float, float]:
    """Step for a while; the time of a step by the clock, and of all cores."""
    begin, work, steps = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() < begin + seconds or steps < 2:
        step()
        steps += 1
    return (time.perf_counter() - begin) / steps, (time.process_time() - work) / steps


def make_step(name: str) -> Step:
    """One step of an experiment's training, its batch included."""
    if name.startswith("bert"):
        return _text_step()
    (experiment,) = load_spec(SPEC, [name]).experiments.values()
    if EXPERIMENTS[name]:
        ours = experiment.data
        made = type(ours).model_validate(
            {
                **EXPERIMENTS[name],
                "batch_size": ours.batch_size,
                "image_size": ours.image_size,
                "augment": [each.model_dump() for each in ours.augment],
            }
        )
        experiment = experiment.model_copy(update={"data": made})
    trial = make_trial(name, experiment, next(iter(experiment.optimizers)), 0)
    with tempfile.TemporaryDirectory() as folder:
        parts = assemble(trial.model_copy(update={"certificate": None}), Path(folder), CPU)
    generator = torch.Generator()
    order = None if parts.train.steps == 1 else torch.arange(parts.train.samples)

    def batches():
        while True:
            yield from parts.train.iterate(order, generator)

    return _stepping(
        batches(), parts.optimizer, lambda x, y: parts.task(parts.model, x, y).objective
    )


def _text_step() -> Step:
    from text_padding import drawn_lengths, texts
    from transformers import BertConfig, BertForSequenceClassification

    from deltagclip_cli.optim import DeltaGClip
    from deltagclip_cli.parts.models.bert import TextClassifier

    config = BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536)
    config.num_labels = 6
    model = TextClassifier(BertForSequenceClassification(config))
    made = TokenBatches(texts(drawn_lengths()), batch_size=32, device=CPU, padding=0)
    generator = torch.Generator().manual_seed(0)

    def batches():
        while True:
            yield from made.iterate(torch.randperm(made.samples, generator=generator), None)

    optimizer = DeltaGClip(model.parameters(), lr=0.3, gamma=1.0, delta=1e-3)
    return _stepping(
        batches(), optimizer, lambda x, y: torch.nn.functional.cross_entropy(model(x), y)
    )


def _stepping(batches, optimizer: torch.optim.Optimizer, loss) -> Step:
    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(*next(batches)).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
