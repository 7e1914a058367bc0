"""Addresses of TensorBoard's pages that choose what they show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote, urlencode

from deltagclip_cli.tensorboard.hyperparameters import MEAN

_MOST_RUNS = 40  # of more than these, TensorBoard shows none until they are chosen
_MOST_NAMED = 10  # in an address, which must not become too long
_FOR_CHARTS = "^[^/]+/[^/]+$"
_COLORS = "regex:^([^/]+/[^/]+)"  # one for each setting, whether its mean or its seeds


def address_of_charts(server: str, runs: Iterable[str], pinned: Sequence[str]) -> str:
    """The page Custom Scalars with the runs that were made for it.

    The page Time Series, one click from there, has a few charts on top and shows the means. Nothing
    is smoothed: charts show what was measured.

    Args:
        server: the address of TensorBoard.
        runs: the paths of all runs in it.
        pinned: the tags of the charts on top.
    """
    runs = list(runs)
    named = _named([run for run in runs if re.search(_FOR_CHARTS, run)])
    pins = [{"plugin": "scalars", "tag": tag} for tag in pinned]
    query = {
        "smoothing": "0",
        "runColorGroup": _COLORS,
        "pinnedCards": json.dumps(pins, separators=(",", ":")),
        # With what is one standard error around them, without, and of the best settings only.
        "runFilter": _few(runs, [f"/{MEAN}", f"/{MEAN}$", f"^({named})/{MEAN}$"]),
    }
    state = {"_smoothingWeight": "0", "regexInput": _few(runs, [_FOR_CHARTS, f"^({named})$"])}
    return f"{server}?{_encoded(query)}#custom_scalars&{_encoded(state)}"


def _encoded(values: Mapping[str, str]) -> str:
    there = {key: value for key, value in values.items() if value}
    return urlencode(there, quote_via=quote, safe="/:")


def _few(runs: Sequence[str], patterns: Sequence[str]) -> str:
    """The first of some regular expressions that chooses runs, and not too many; empty for none."""
    for pattern in patterns:
        if 0 < sum(bool(re.search(pattern, run)) for run in runs) <= _MOST_RUNS:
            return pattern
    return ""


def _named(runs: Sequence[str]) -> str:
    """The first of some runs by their names, in a regular expression for JavaScript."""
    return "|".join(re.sub(r"([.*+?^${}()|[\]\\])", r"\\\1", run) for run in runs[:_MOST_NAMED])
