"""Draws the pictures of the README, light and dark, from runs of the quickstart experiment.

deltagclip sweep quickstart --seed 0 --seed 1 --seed 2 --seed 3 --seed 4
python scripts/readme_picture.py runs docs/pictures
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy

from deltagclip_cli.runs.folder import RunFolder

NAMES = {
    "delta-gclip": "δ-GClip",
    "gclip": "GClip",
    "gradient-descent": "gradient descent",
    "adam": "Adam",
}
# Okabe and Ito's colours, which everybody can tell apart: δ-GClip, GClip, gradient descent, Adam.
COLOURS = {
    "light": ("#1f2328", ["#d55e00", "#b88a00", "#0072b2", "#6e7781"]),
    "dark": ("#e6edf3", ["#ff9248", "#f0c543", "#6cb6ff", "#9aa4ae"]),
}
WIDTH = 1.6
STRIDE = 4  # epochs between two points of a curve: more cannot be seen


def main(runs: Path, folder: Path) -> None:
    comparison = compared(runs)
    for theme, (ink, colours) in COLOURS.items():
        plt.rcParams.update(
            {
                "svg.hashsalt": "deltagclip",
                "svg.fonttype": "none",
                "font.family": "sans-serif",
                "font.size": 10,
                "savefig.transparent": True,
                **{f"{of}.{key}": ink for of, key in (("text", "color"), ("axes", "edgecolor"))},
                **{f"{of}.color": ink for of in ("xtick", "ytick")},
                "axes.labelcolor": ink,
            }
        )
        figure, (losses, differences) = plt.subplots(1, 2, figsize=(9, 3.1), layout="constrained")
        for label, colour in zip(NAMES, colours, strict=True):
            draw_losses(losses, runs, label, colour)
        draw_differences(differences, comparison, dict(zip(NAMES, colours, strict=True)), ink)
        for axes in (losses, differences):
            axes.spines[["top", "right"]].set_visible(False)
        losses.legend(frameon=False, loc="lower left")
        figure.savefig(folder / f"quickstart-{theme}.svg", metadata={"Date": None})
        plt.close(figure)


def compared(runs: Path) -> dict[str, Any]:
    """What ``deltagclip compare`` says of the runs."""
    command = "deltagclip compare quickstart --baseline adam --metric test/loss --format json"
    done = subprocess.run([*command.split(), "--runs", runs], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)["experiments"][0]


def draw_losses(axes: plt.Axes, runs: Path, label: str, colour: str) -> None:
    """Draw the training loss: the median of the seeds, and the band from the least to the most."""
    folders = sorted((runs / "quickstart" / label).glob("seed-*"))
    records = [[*RunFolder(folder).metrics()][::STRIDE] for folder in folders]
    values = numpy.array([[each["train/loss"] for each in run] for run in records])
    epochs = [each["epoch"] for each in records[0]]
    axes.fill_between(
        epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.25, linewidth=0
    )
    axes.semilogy(epochs, numpy.median(values, axis=0), color=colour, lw=WIDTH, label=NAMES[label])
    axes.set(xlim=(0, 400), ylim=(1e-8, 2), xlabel="step")
    axes.set_title(f"Training loss, {len(folders)} seeds", loc="left", fontsize=10)


def draw_differences(
    axes: plt.Axes, comparison: dict[str, Any], colours: dict[str, str], ink: str
) -> None:
    """Draw each difference to Adam with its interval, and what may be said of it."""
    rows = [each for each in comparison["settings"] if each["versus_baseline"]]
    rows.sort(key=lambda row: -[*NAMES].index(row["optimizer"]))
    for height, row in enumerate(rows):
        versus, colour = row["versus_baseline"], colours[row["optimizer"]]
        low, high = versus["interval"]["low"], versus["interval"]["high"]
        axes.plot([low, high], [height, height], color=colour, lw=WIDTH)
        axes.plot(versus["difference"], height, "o", color=colour)
        p = versus["t_test_p_holm"]
        word = "not told apart" if p >= 0.05 else "better" if high < 0 else "worse"
        axes.text(0.012, height, f"{word}, p = {p:.2f}", va="center", fontsize=9)
    axes.axvline(0, color=ink, lw=0.8, ls=":")
    axes.set_yticks(range(len(rows)), [NAMES[row["optimizer"]] for row in rows])
    axes.set(xlim=(-0.016, 0.027), ylim=(-0.6, len(rows) - 0.4), xticks=[-0.01, 0, 0.01])
    axes.set_xlabel("better than Adam  ←   →  worse", loc="left")
    axes.set_title("Test loss: difference to Adam, 95 % interval", loc="left", fontsize=10)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
