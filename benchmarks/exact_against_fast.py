"""Training steps with the same bits each time (``determinism: exact``) beside ``fast`` ones.

The steps are those of the paper's experiments, carried out as ``deltagclip train`` would, on
batches that lie ready on the device. Exact is without cuDNN's attention and without its choice of
kernels by a measurement, and its other kernels are deterministic; in bf16 attention is flash, in
fp32 memory-efficient. On a CPU there is hardly anything to choose.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch

from benchmarks.harness import Figure, Session
from benchmarks.harness.session import Step
from benchmarks.paper_models import PaperModels
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.training.assembly import assemble
from deltagclip_cli.training.exactness import allow, choose_kernels
from deltagclip_cli.training.meter import observer
from deltagclip_cli.training.program import chosen_program
from deltagclip_cli.training.stepping import Stepper

DEVICES = ("cpu", "cuda")
KINDS = {
    "ViT-Tiny": "transformer, ViT-Tiny",
    "DistilBERT": "transformer, DistilBERT",
    "ResNet-18": "ResNet-18",
}
PRECISIONS = {"cpu": ("fp32",), "cuda": ("bf16", "fp32")}
STEPS = 20  # timed together


def measure(session: Session) -> Iterator[Figure]:
    models = PaperModels(session.folder, session.quick)
    device = torch.device(session.device)
    steps = STEPS if session.device == "cuda" and not session.quick else 2
    for precision in PRECISIONS[session.device]:
        for name, kind in KINDS.items():
            called = kind if precision == "fp32" else f"{kind}, {precision}"
            contenders: dict[str, Step] = {}
            for determinism in ("exact", "fast"):
                words = (f"determinism={determinism}", f"precision={precision}")
                trial = models.trial(name, *words, steps=2 * STEPS)
                contenders[determinism], inexact = stepping(trial, models, device, steps)
                if determinism == "exact":
                    yield Figure(f"inexact operations, {called}", len(inexact), unit="operations")
            rounds, warm_up = (2, 1) if session.quick else (9, 3)
            times = session.turns(contenders, rounds, warm_up=warm_up)
            yield times.as_long(f"exact, {called}", "exact", "fast")


def stepping(
    trial: Trial, models: PaperModels, device: torch.device, steps: int
) -> tuple[Step, list[str]]:
    """Return what makes some steps of a trial, and its operations that are not exact."""
    parts = assemble(trial, models.folder, device, download=False)
    stepper = Stepper(parts.optimizer, trial.optimizer.clip_grad_norm)
    observed = observer(parts.optimizer, is_clipped=stepper.most_norm is not None)
    program = chosen_program(trial, parts, None)(trial, parts, stepper, observed)
    generator = torch.Generator(device).manual_seed(0)
    batches = list(islice(parts.steps.iterate(None, generator), steps))
    parts.model.train()

    def turn() -> None:
        choose_kernels(trial.determinism, trial.precision, device)  # which the other has changed
        if parts.inexact:
            allow(device)
        for number, each in enumerate(batches):
            program.step(each, number)

    return turn, [*parts.inexact]
