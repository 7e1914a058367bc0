"""What one number of CPU threads for every trial costs: the experiments for a CPU with 1 and 2.

Each experiment of ``experiments.yaml`` that is meant for a CPU trains with its model, optimizer and
batch size, on made-up data of the same shape (texts have the lengths of ``emotion``, their network
random weights). In a round every number of threads has its turn, so that all meet the same load.
*Time* is that of a step by the clock, *work* the same of all cores together: what is beyond 1
another trial would have had. Where other work runs, ``chrt -f 10 python -m benchmarks threads``
gives the times of a machine that is free.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness import Figure, Session
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

ONE = "with 1 thread"

Step = Callable[[], None]
Batches = Iterator[tuple[Tensor, Tensor]]


def measure(session: Session) -> Iterator[Figure]:
    rounds, seconds = (1, 0.05) if session.quick else (9, 0.5)
    for name in list(EXPERIMENTS)[:4] if session.quick else EXPERIMENTS:
        torch.set_num_threads(1)
        times, works = in_turns(make_step(name, session.new_folder()), rounds, seconds)
        yield Figure.as_long(f"{name}, time of a step with 2 threads", times, ONE)
        yield Figure.as_long(f"{name}, work of a step with 2 threads", works, ONE)


def in_turns(step: Step, rounds: int, seconds: float) -> tuple[list[float], list[float]]:
    """The ratios of times, and of work, in each round but the first, which warms up."""
    times, works = [], []
    for _ in range(1 + rounds):
        turns = {}
        for threads in (1, 2):
            torch.set_num_threads(threads)
            step()  # which also makes the threads
            turns[threads] = _turn(step, seconds)
        times.append(turns[2][0] / turns[1][0])
        works.append(turns[2][1] / turns[1][1])
    return times[1:], works[1:]


def _turn(step: Step, seconds: float) -> tuple[float, float]:
    """Step for a while; the time of a step by the clock, and of all cores."""
    begin, work, steps = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() < begin + seconds or steps < 2:
        step()
        steps += 1
    return (time.perf_counter() - begin) / steps, (time.process_time() - work) / steps


def make_step(name: str, folder: Path) -> Step:
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
    parts = assemble(trial.model_copy(update={"certificate": None}), folder, CPU)
    generator = torch.Generator()
    order = None if parts.train.steps == 1 else torch.arange(parts.train.samples)

    def batches() -> Batches:
        while True:
            yield from parts.train.iterate(order, generator)

    return _stepping(
        batches(), parts.optimizer, lambda x, y: parts.task(parts.model, x, y).objective
    )


def _text_step() -> Step:
    from benchmarks.text_padding import drawn_lengths, small_bert, texts
    from deltagclip_cli.optim import DeltaGClip

    model = small_bert()
    made = TokenBatches(texts(drawn_lengths()), batch_size=32, device=CPU, padding=0)
    generator = torch.Generator().manual_seed(0)

    def batches() -> Batches:
        while True:
            yield from made.iterate(torch.randperm(made.samples, generator=generator), None)

    optimizer = DeltaGClip(model.parameters(), lr=0.3, gamma=1.0, delta=1e-3)
    return _stepping(batches(), optimizer, lambda x, y: functional.cross_entropy(model(x), y))


def _stepping(
    batches: Batches, optimizer: torch.optim.Optimizer, loss: Callable[[Tensor, Tensor], Tensor]
) -> Step:
    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(*next(batches)).backward()
        optimizer.step()

    return step
