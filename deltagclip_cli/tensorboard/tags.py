"""What the files of runs call their metrics, which others name in their own ways."""

from __future__ import annotations

from pathlib import Path

from deltagclip_cli.core import printable
from deltagclip_cli.results.read.events import EventCache
from deltagclip_cli.results.read.run import Run, standard_names


class OwnTags:
    """Knows the tags behind the names of metrics.

    Args:
        cache: of what is in event files.
    """

    def __init__(self, cache: EventCache) -> None:
        self._cache = cache
        self._known: dict[Path, dict[str, str]] = {}

    def __call__(self, run: Run, metric: str) -> str:
        """The tag of a metric in the event files of a run; the metric's name if there is none."""
        if run.group.is_ours:
            return metric
        known = self._known.get(run.folder, {})
        if metric not in known and metric in run.curves:
            names = standard_names(self._cache.read(run.folder).scalars)
            known = self._known[run.folder] = {printable(name): tag for tag, name in names.items()}
            known.setdefault(metric, metric)  # of a part of the run
        return known.get(metric, metric)
