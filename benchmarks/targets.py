"""The figures that this project promises, and what of a benchmark's each of them is.

The table of ``docs/concepts/speed.md`` has a line for each; those of which no figure was
measured say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Bound:
    """The most, or the least, that a figure may be."""

    at_most: float | None = None
    at_least: float | None = None

    def is_met(self, value: float) -> bool:
        """Whether a figure keeps it."""
        return (self.at_most is None or value <= self.at_most) and (
            self.at_least is None or value >= self.at_least
        )

    def __str__(self) -> str:
        signs = {"≤": self.at_most, "≥": self.at_least}
        return ", ".join(f"{sign} {each:g}" for sign, each in signs.items() if each is not None)


@dataclass(frozen=True)
class Target:
    """One promise.

    Args:
        what: what its line of the table says.
        against: the floor or the rival, as the figures that it means have it; none for an amount.
        bound: what these figures keep to.
        benchmark: the module that measures them.
        figures: a pattern of their names, ``*`` for all.
        device: what it is promised for.
    """

    what: str
    against: str
    bound: Bound
    benchmark: str
    figures: str
    device: str = "cpu"


def at_most(value: float) -> Bound:
    """A bound from above."""
    return Bound(at_most=value)


def at_least(value: float) -> Bound:
    """A bound from below."""
    return Bound(at_least=value)


_FLOOR = "one dot product + one axpy"
_BARE = "a bare loop, same everything"
TARGETS = (
    Target("optimizer step, 1 thread, ResNet-18", _FLOOR, at_most(1.2),
           "optimizer_step", "δ-GClip, ResNet-18"),
    Target("optimizer step, 1 thread, DistilBERT", _FLOOR, at_most(1.12),
           "optimizer_step", "δ-GClip, DistilBERT"),
    Target("VAE epoch", "a bare loop over ready tensors", at_most(1.03),
           "vae_epoch", "VAE epoch"),
    Target("runner epoch", _BARE, at_most(1.02), "runner_epoch", "ResNet-18, *"),
    Target("runner epoch, steps of 1.5 ms", _BARE, at_most(1.05), "runner_epoch", "MLP, *"),
    Target("epoch of a language model", _BARE, at_most(1.05), "language_epoch", "language model"),
    Target("epoch of parts of one's own, tensors", _BARE, at_most(1.03),
           "own_parts", "epoch, tensors"),
    Target("epoch of parts of one's own, a data set", _BARE, at_most(1.05),
           "own_parts", "epoch, [dw]*"),
    Target("a command with parts of one's own", "on a spec with parts of ours", at_most(1.2),
           "own_parts", "deltagclip *"),
    Target("splines of a KAN, and its layer", "a recursion that allocates at each order",
           at_least(1.5), "kan_basis", "*"),
    Target("tries of an optimizer against itself with a word, %", "", at_most(5),
           "false_alarms", "*, rounds, as we do"),
    Target("claims on methods that are the same, %, with three errors of the simulation", "",
           at_most(6.5), "method_verdicts", "false claims, *draws"),
    Target("power of a verdict on methods, points beside the best of seven other tests",
           "the best of the other tests", at_least(-10), "method_verdicts", "ahead, *"),
    Target("95 % intervals of the best of k that hold, %, least", "95 %", at_least(94),
           "method_verdicts", "intervals that hold, *, least"),
    Target("epoch of one rank of a group of one, DDP", "the same without ranks", at_most(1.03),
           "ranks", "one rank, *"),
    Target("what the second trial waits for compiled code, seconds", "", at_most(2),
           "programs", "*: what the second trial waits"),
    Target("coordination of a trial on Slurm with 100 slots, seconds", "", at_most(1),
           "slurm_slots", "*: coordination"),
    Target("verifying the report of 1,000 runs, seconds", "", at_most(10),
           "verifying", "deltagclip verify, 1,000 runs of * epochs"),
    Target("what the second trial waits for compiled code, seconds", "", at_most(2),
           "programs", "*: what the second trial waits", "cuda"),
    Target("optimizer step in a CUDA graph, all the paper's models", "_foreach_norm + SGD(fused)",
           at_most(1.1), "optimizer_step", "δ-GClip, *, in a CUDA graph", "cuda"),
    Target("optimizer step in a CUDA graph, all the paper's models, as fast", "Adam(fused)",
           at_least(1.0), "optimizer_step", "δ-GClip, *, in a CUDA graph", "cuda"),
    Target("ViT-Tiny epoch", "the same way with 4 workers, eager fp32",
           at_least(10), "vit_epoch", "epoch, ViT-Tiny", "cuda"),
    Target("ResNet-18 in bf16, 200 epochs, exact, seconds", "", at_most(130),
           "paper_epochs", "ResNet-18, bf16: 200 epochs", "cuda"),
    Target("ResNet-18 in bf16, 200 epochs, fast, seconds", "", at_most(110),
           "paper_epochs", "ResNet-18, bf16, fast: 200 epochs", "cuda"),
    Target("waits for the GPU in a step, all the paper's models", "", at_most(0),
           "waits", "*: waits a step", "cuda"),
    Target("tensors with other bits after a stop, all the paper's models", "", at_most(0),
           "same_bits", "*: tensors with other bits", "cuda"),
    Target("epoch of one rank of a group of one, DDP", "the same without ranks", at_most(1.03),
           "ranks", "one rank, *", "cuda"),
    Target("losses of one rank apart from those of none, millionths", "", at_most(1),
           "same_ranks", "*: losses apart, of their size", "cuda"),
    Target("tensors with other bits after a stop, one rank", "", at_most(0),
           "same_ranks", "*: tensors with other bits", "cuda"),
    Target("10 seeds of ViT-Tiny, MLP or KAN, stacked", "one", at_most(1.5),
           "paper_time", "10 seeds stacked, *", "cuda"),
    Target("8 convolutional trials on one GPU with MPS", "time slicing", at_least(2.5),
           "shared_gpu", "8 trials with MPS, *", "cuda"),
    Target("exact, ViT and BERT", "fast", at_most(1.1),
           "exact_against_fast", "exact, transformer, *", "cuda"),
    Target("exact, ResNet", "fast", at_most(1.05),
           "exact_against_fast", "exact, ResNet*", "cuda"),
    Target("all of the paper, all seeds, projected, hours", "", at_most(2),
           "paper_time", "all of the paper*, all seeds", "cuda"),
)  # fmt: skip


def meant_by(target: Target, name: str, against: str) -> bool:
    """Whether a figure of the target's benchmark is one that it means."""
    return fnmatchcase(name, target.figures) and against == target.against


def bound_of(benchmark: str, device: str, name: str, against: str) -> Bound | None:
    """What is promised of a figure; None if nothing is."""
    for target in TARGETS:
        here = (target.benchmark, target.device) == (benchmark, device)
        if here and meant_by(target, name, against):
            return target.bound
    return None
