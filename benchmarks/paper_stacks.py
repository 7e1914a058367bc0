"""Ten seeds of each network of the paper as one stack: seconds of an epoch of all of them.

A share of the samples is trained on and evaluated, in two passes of which the second counts; an
epoch is as much longer as it has more samples. Convolutional networks have no stacks.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import torch

from benchmarks.harness import Figure, Session
from benchmarks.paper_models import PaperModels
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import hold
from deltagclip_cli.spec.trial import Trial

DEVICES = ("cuda",)
PLACES = 10
SHARES = {  # of the samples: about forty steps
    "ViT-Tiny": 0.05,
    "ViT-Small": 0.05,
    "DistilBERT": 0.08,
    "KAN": 0.04,
    "VAE": 0.07,
}


def measure(session: Session) -> Iterator[Figure]:
    models = PaperModels(session.folder, session.quick)
    errors: list[Exception] = []
    for precision in ("fp32", "bf16"):
        for name, share in SHARES.items():
            called = name if precision == "fp32" else f"{name}, {precision}"
            sets = ("epochs=2", f"stack={PLACES}", f"precision={precision}")
            try:
                trial = models.trial(name, *sets, share=share)
                seconds = epoch_seconds(trial, session, called) / share
            except Exception as error:  # the others have their own worth
                error.add_note(f"while {called} was trained")
                errors.append(error)
            else:
                yield Figure(f"{called}: epoch of {PLACES} seeds stacked", seconds, unit="s")
            gc.collect()  # what one network leaves counts not for the next
            if session.device == "cuda":
                torch.cuda.empty_cache()
    if errors:
        raise ExceptionGroup("some networks could not be measured", errors)


def epoch_seconds(trial: Trial, session: Session, called: str) -> float:
    """The time from the first record of all members to their last."""
    from deltagclip_cli.training.process import StopRequest
    from deltagclip_cli.training.stack import run_stack

    folders = []
    for seed in range(PLACES):
        member = trial.with_seed(seed)
        folder = RunFolder.of(session.folder / called.replace(" ", "-"), member)
        with hold(folder, make=True) as held:
            held.keep(member)
        folders.append(folder)
    run_stack(
        folders,
        data_dir=session.folder,
        device=session.device,
        download=False,
        stop=StopRequest(),
    )
    times = [[float(record["time"]) for record in folder.metrics()] for folder in folders]
    if any(len(each) != 2 for each in times):
        raise RuntimeError(next(filter(None, (each.reason for each in folders)), "it stopped"))
    return max(each[1] for each in times) - max(each[0] for each in times)
