"""Draws the picture of the README from finished runs of the quickstart experiment.

for o in delta-gclip gclip gradient-descent adam; do deltagclip train --optimizer $o; done
python scripts/quickstart_picture.py runs .github/quickstart.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt

from deltagclip_cli.runs.folder import RunFolder

COLOURS = {
    "delta-gclip": ("δ-GClip", "#c0392b"),
    "gclip": ("GClip", "#e59866"),
    "gradient-descent": ("gradient descent", "#2471a3"),
    "adam": ("Adam", "#7f8c8d"),
}
REGIMES = {"floored": "#f5b7b1", "clipped": "#fdebd0", "plain": "#d4e6f1"}


def main(runs: Path, picture: Path) -> None:
    plt.rcParams.update({"svg.hashsalt": "deltagclip", "font.size": 9})
    figure, (losses, steps) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for label, (name, colour) in COLOURS.items():
        records = [*RunFolder(next((runs / "quickstart" / label).glob("seed-0-*"))).metrics()]
        epochs = [record["epoch"] for record in records]
        losses.semilogy(epochs, [r["train/loss"] for r in records], color=colour, label=name)
        if "optim/step_size" in records[0]:
            steps.plot(epochs, [r["optim/step_size"] for r in records], color=colour, label=name)
        if label == "delta-gclip":
            shade(steps, records)
    losses.set(xlabel="step", ylabel="training loss", ylim=(1e-12, 2))
    steps.set(xlabel="step", ylabel="step size h", yscale="log")
    losses.legend(frameon=False)
    for axes in (losses, steps):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(0, epochs[-1])
    figure.savefig(picture, metadata={"Date": None})


def shade(axes: plt.Axes, records: list[dict[str, float]]) -> None:
    """Colour the background by the regime of δ-GClip's steps, and name each stretch once."""
    for regime, colour in REGIMES.items():
        inside = [r["epoch"] for r in records if r[f"optim/{regime}_fraction"] == 1]
        for epoch in inside:
            axes.axvspan(epoch - 1, epoch, color=colour, linewidth=0)
        if inside:
            middle = (inside[0] + inside[-1]) / 2
            axes.text(middle, 0.07, regime, ha="center", rotation=90, fontsize=8, color="#555555")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
