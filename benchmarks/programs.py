"""A step as one program: compiled, and captured in a CUDA graph, beside one operation at a time.

The networks are the paper's, with the batches and the optimizer of its experiments; the programs
are those of ``compile: on`` and ``compile: off``, and of a GPU and a CPU. What the second trial of
a sweep waits is told of a process of its own, which has loaded torch and its compiler as workers
have, and finds in the folder of compiled code what the first one left there.
"""

from __future__ import annotations

import copy
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.harness import Figure, Session
from benchmarks.paper_models import NAMES, PaperModels
from deltagclip_cli.core import load_target
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training.assembly import Parts, assemble, first_samples
from deltagclip_cli.training.meter import observer
from deltagclip_cli.training.program import PROGRAMS, Program
from deltagclip_cli.training.stepping import Stepper

DEVICES = ("cpu", "cuda")
PLAIN = "one operation at a time"
STEPS = 2  # that are timed at once


def measure(session: Session) -> Iterator[Figure]:
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(session.folder / "compiled"))
    models = PaperModels(session.folder, session.quick)
    on_gpu = session.device == "cuda"
    for name in ("VAE",) if session.quick else reversed(NAMES):  # the small ones first
        trial = models.trial(name, "compile=on", steps=4)
        parts = assemble(trial, session.folder, torch.device(session.device))
        programs = [each for each in PROGRAMS if on_gpu or each != "captured"]
        steps = {each: steps_of(trial, copy.deepcopy(parts), each) for each in programs}
        steps[PLAIN] = steps.pop("eager")
        times = session.turns(steps, 15 if on_gpu else 3, warm_up=4 if on_gpu else 1)
        for each in programs[1:]:
            yield times.as_fast(f"{name}, {each}", each, PLAIN)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            waits = pool.apply(second_wait, (name, session.quick, session.device))
        yield Figure(f"{name}: what the second trial waits", waits, unit="s")


def steps_of(trial: Trial, parts: Parts, name: str) -> Callable[[], None]:
    """Some steps of a program on one batch."""
    program = made(trial, parts, name)
    generator = torch.Generator(parts.device)
    batch = first_samples(parts.train, parts.train.sizes[0], generator)

    def steps() -> None:
        parts.model.train()
        for number in range(1, 1 + STEPS):
            program.step([batch], number)

    return steps


def made(trial: Trial, parts: Parts, name: str) -> Program:
    stepper = Stepper(parts.optimizer, trial.optimizer.clip_grad_norm)
    observed = observer(parts.optimizer, is_clipped=stepper.most_norm is not None)
    program: Program = load_target(PROGRAMS[name])(trial, parts, stepper, observed)
    if program.name != name:
        logging.warning("%s is %s here", name, program.name)
    return program


def second_wait(name: str, quick: bool, device: str) -> float:
    """Seconds for the program of a trial whose like was compiled before, in a process like this."""
    import torch._inductor.compile_fx

    with tempfile.TemporaryDirectory() as folder:
        trial = PaperModels(Path(folder), quick).trial(name, "compile=on", steps=4)
        parts = assemble(trial, Path(folder), torch.device(device))
        torch.set_num_threads(torch.get_num_threads() if device == "cuda" else 1)
        begin = time.perf_counter()
        made(trial, parts, "captured" if device == "cuda" else "compiled")
        return time.perf_counter() - begin
