"""A small spec for tests, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltagclip_cli.core import SpecError
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import Trial, expand

TINY = """\
experiments:
  tiny:
    title: A network that trains in a blink
    model: {name: mlp, hidden: [8]}
    data: {name: synthetic, batch_size: 4, size: 4, train: 8, test: 8}
    epochs: 2
    optimizers:
      sgd: {name: sgd, lr: 0.1}
      delta-gclip: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}
"""


def write_spec(folder: Path, text: str = TINY) -> Path:
    """The file of a spec."""
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def trials_of(folder: Path, *sets: str, text: str = TINY) -> list[Trial]:
    """Every trial of the experiment ``tiny`` with ``--set`` words."""
    spec = load_spec(write_spec(folder, text), ["tiny"], sets)
    return list(expand("tiny", spec.experiments["tiny"]))


def trial_of(folder: Path, *sets: str, text: str = TINY) -> Trial:
    """The first of :func:`trials_of`."""
    return trials_of(folder, *sets, text=text)[0]


def faults_of_text(folder: Path, text: str, *sets: str) -> list[str]:
    """The faults of a spec, a paragraph each, with the name of the file but not its folder."""
    path = write_spec(folder, text)
    with pytest.raises(SpecError) as caught:
        load_spec(path, sets=sets)
    return str(caught.value).replace(f"{path.parent}/", "").split("\n\n")
