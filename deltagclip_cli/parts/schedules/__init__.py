"""Learning-rate schedules: our own, and every one of ``torch.optim.lr_scheduler``.

One of ours is called as ``schedule(optimizer, periods, warmup, **options)``: the length of the
training in epochs or steps, and how many of these the warm-up takes. Torch's get the optimizer.
"""

from __future__ import annotations

from functools import partial

from deltagclip_cli.core import Catalogue, classes_in, compact

# These take Python functions or other schedulers, which a spec cannot write.
_NOT_BY_NAME = ("LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler")

TABLE = Catalogue(
    "schedule",
    {
        "multistep": "deltagclip_cli.parts.schedules.multistep:multistep",
        "cosine": "deltagclip_cli.parts.schedules.cosine:cosine",
    },
    supplied=frozenset({"optimizer", "periods", "warmup", "last_epoch", "verbose"}),
    installed=partial(classes_in, "torch.optim.lr_scheduler", *_NOT_BY_NAME),
    spelling=compact,
)
