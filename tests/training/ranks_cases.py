"""Trials that several processes train together, forks of one that has loaded torch already.

They are no forks of this one, for who has trained cannot be forked to train. They meet at a file
and run what :func:`deltagclip_cli.training.worker.run_trial` runs, but for how they are started and
watched, which ``test_ranks_damage.py`` looks at with real processes.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from training_cases import never, numbers, result, train

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import WitnessedFolder
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training import worker
from deltagclip_cli.training.ranks import Ranks
from deltagclip_cli.training.ranks.process_group import Rendezvous

PATIENCE_SECONDS = 240.0

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["deltagclip_cli.training.worker", "torch._dynamo"])

GO_ON = partial(partial, never)  # makes what never stops, and can be pickled


def train_together(
    trials: Sequence[Trial],
    runs: Path,
    *,
    kind: str = "ddp",
    count: int = 2,
    data_dir: Path = Path("nowhere"),
    stop: Callable[[], Callable[[], bool]] = GO_ON,
) -> None:
    """Train one trial after the other in ``count`` processes.

    Args:
        stop: makes for each trial what the first process is asked after every step.

    Raises:
        AssertionError: with what a process raised.
    """
    runs.mkdir(parents=True, exist_ok=True)
    codes, told = meet(partial(_train, trials, runs, kind, data_dir, stop), runs, count)
    assert codes == [0] * count and not told, "\n".join([str(codes), *told])


def meet(
    job: Callable[[int], None], folder: Path, count: int = 2
) -> tuple[list[int | None], list[str]]:
    """Do a job in ``count`` processes that have met; how each ended, and what those raised.

    Args:
        job: is told the number of the process; it is pickled.
        folder: where they meet.
    """
    said = folder / f"{time.monotonic_ns()}.said"
    processes = [
        FORKSERVER.Process(target=_attend, args=(job, count, said, number))
        for number in range(count)
    ]
    for process in processes:
        process.start()
    until = time.monotonic() + PATIENCE_SECONDS
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes, [each.read_text() for each in sorted(folder.glob(f"{said.stem}.rank-*"))]


def _attend(job: Callable[[int], None], count: int, said: Path, number: int) -> None:
    """Be one of the processes, and leave what went wrong in a file."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # torch's, of views and of other streams
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    code = 0
    try:
        dist.init_process_group(
            "gloo", init_method=f"file://{said}.meeting", rank=number, world_size=count
        )
        job(number)
        dist.destroy_process_group()
    except BaseException:
        said.with_suffix(f".rank-{number}").write_text(traceback.format_exc())
        code = 1
    os._exit(code)


def _train(
    trials: Sequence[Trial],
    runs: Path,
    kind: str,
    data_dir: Path,
    stop: Callable[[], Callable[[], bool]],
    number: int,
) -> None:
    worker._ranks = partial(_met, _ranks(kind))  # type: ignore[assignment]
    for trial in trials:
        folder, rendezvous = RunFolder.of(runs, trial), Rendezvous(number, "", 0)
        torch.manual_seed(number)  # nothing may hang on what a process drew before
        if number:
            dist.barrier()
        worker.run_trial(
            folder,
            trial,
            data_dir=data_dir,
            device="cpu",
            held=WitnessedFolder(folder) if number else None,
            should_stop=never if number else stop(),
            rendezvous=rendezvous if number else None,
        )


def _ranks(kind: str) -> Callable[[], Ranks]:
    if kind == "ddp":
        from deltagclip_cli.training.ranks.replicas import Replicas

        return Replicas
    from deltagclip_cli.training.ranks.shards import Shards

    return partial(Shards, torch.device("cpu"))


@contextmanager
def _met(make: Callable[[], Ranks], *_: Any) -> Iterator[Ranks]:
    """Stand in for :func:`deltagclip_cli.training.ranks.process_group.process_group`."""
    ranks = make()
    if ranks.number == 0:  # the folder is there: the others may look at it
        dist.barrier()
    yield ranks


def train_alone(trials: Sequence[Trial], runs: Path, data_dir: Path = Path("nowhere")) -> None:
    """Train one trial after the other in this process."""
    for trial in trials:
        train(trial, runs, data_dir=data_dir)


def assert_alike(trial: Trial, together: Path, alone: Path, most: float, *, of: str = "") -> None:
    """The same records: equal numbers of right answers, all else to so much of its size.

    Args:
        of: a word in the names of what is compared beside these.
    """
    here, there = (numbers(RunFolder.of(runs, trial)) for runs in (together, alone))
    assert len(here) == len(there)
    for mine, other in zip(here, there, strict=True):
        assert mine.keys() == other.keys()
        for name, value in other.items():
            at = f"{trial.label}: {name} at step {other['step']}"
            if "accuracy" in name or not isinstance(value, float):
                assert mine[name] == value, at
            elif of in name:
                near = math.isclose(mine[name], value, rel_tol=most, abs_tol=most)
                assert near, f"{at}: {mine[name]!r}, and alone {value!r}"


def ranks_of_starts(trial: Trial, runs: Path) -> list[Any]:
    """What each start has told of its ranks."""
    starts = json.loads(RunFolder.of(runs, trial).environment_file.read_text())
    return [start.get("ranks") for start in starts]


def ending(trial: Trial, runs: Path) -> dict[str, Any]:
    return result(RunFolder.of(runs, trial))
