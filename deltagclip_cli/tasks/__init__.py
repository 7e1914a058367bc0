"""Tasks: what is computed from a batch, and what of it is differentiated and reported.

A task is made as ``Task(**options)`` and called as ``task(model, inputs, targets)``; it returns an
:class:`~deltagclip_cli.tasks.outcome.Outcome`.
"""

from __future__ import annotations

from deltagclip_cli.registry import Table

TABLE = Table(
    "task",
    {
        "autoencode": "deltagclip_cli.tasks.autoencode:Autoencode",
        "classify": "deltagclip_cli.tasks.classify:Classify",
    },
)
