"""Tasks: what is computed from a batch, and what of it is differentiated and reported.

A task is made as ``Task(**options)`` and called as ``task(model, inputs, targets)``; it returns an
:class:`~deltagclip_cli.parts.tasks.loss.Outcome`.
"""

from __future__ import annotations

from deltagclip_cli.core import Catalogue

TABLE = Catalogue(
    "task",
    {
        "autoencode": "deltagclip_cli.parts.tasks.autoencode:Autoencode",
        "classify": "deltagclip_cli.parts.tasks.classify:Classify",
    },
)
