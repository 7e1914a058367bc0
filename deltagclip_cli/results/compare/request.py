"""A request about runs, in the words of the command line; no numpy, so that help is quick."""

from __future__ import annotations

from dataclasses import dataclass

from deltagclip_cli.core import Mode, UsageError


@dataclass(frozen=True)
class Request:
    """A question of a user; the commands that answer have an option of its name for each field."""

    metric: str | None = None  # None for the first of the usual ones that there is
    at: str = "last"  # ``last``, ``best``, ``epoch=N`` or ``step=N``
    baseline: str | None = None  # a label, or a label and its settings; None for no tests
    target: list[str] | None = None  # each ``METRIC=VALUE`` or ``EXPERIMENT:METRIC=VALUE``
    interval: bool = False  # show means with 95 % intervals
    ddof: int = 1  # of the standard error
    mode: Mode | None = None  # which values are good ones; None leaves it to the metric's name
    heatmap: str | None = None  # two settings, ``KEY,KEY``; None for no map
    within: str = "1%"  # how far from the best a good setting may be: ``0.01`` or ``1%``
    published: bool = False  # add published figures
    select_on_test: bool = False  # choose by the test set where there is no validation split

    def heatmap_keys(self) -> tuple[str, str] | None:
        """Return the two settings of the map; UsageError if they are not two."""
        if self.heatmap is None:
            return None
        keys = [key.strip() for key in self.heatmap.split(",")]
        if len(keys) != 2 or not all(keys) or keys[0] == keys[1]:
            raise UsageError(f"--heatmap {self.heatmap}: say two settings, such as lr,gamma.")
        return keys[0], keys[1]
