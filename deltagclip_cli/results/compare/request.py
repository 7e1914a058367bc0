"""A request about runs, in the words of the command line; no numpy, so that help is quick."""

from __future__ import annotations

from dataclasses import dataclass

from deltagclip_cli.core import Mode, UsageError


@dataclass(frozen=True)
class Request:
    """A question of a user; the commands that answer have an option of its name for each field.

    Args:
        metric: None for the first of the usual ones that there is.
        at: ``last``, ``best``, ``epoch=N`` or ``step=N``.
        baseline: a label, or a label and its settings; None for no tests.
        target: each ``METRIC=VALUE`` or ``EXPERIMENT:METRIC=VALUE``.
        interval: show means with 95 % intervals.
        ddof: of the standard error.
        mode: which values are good ones; None leaves it to the metric's name.
        heatmap: two settings, ``KEY,KEY``; None for no map.
        within: how far from the best a good setting may be: ``0.01`` or ``1%``.
        published: add published figures.
    """

    metric: str | None = None
    at: str = "last"
    baseline: str | None = None
    target: list[str] | None = None
    interval: bool = False
    ddof: int = 1
    mode: Mode | None = None
    heatmap: str | None = None
    within: str = "1%"
    published: bool = False

    def heatmap_keys(self) -> tuple[str, str] | None:
        """Return the two settings of the map.

        Raises:
            UsageError: they are not two.
        """
        if self.heatmap is None:
            return None
        keys = [key.strip() for key in self.heatmap.split(",")]
        if len(keys) != 2 or not all(keys) or keys[0] == keys[1]:
            raise UsageError(f"--heatmap {self.heatmap}: say two settings, such as lr,gamma.")
        return keys[0], keys[1]
