"""TensorBoard's page HParams: what each run was set to, and which columns the table has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deltagclip_cli.results.read.run import Group
from deltagclip_cli.spec.trial import in_a_word

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

Value = bool | float | str
Settings = dict[str, Value]

SEED = "seed"
MEAN = "mean"
_MOST_CHOICES = 20  # more numbers than these are an interval to filter by, not a list


def settings_of(groups: Sequence[Group]) -> list[Settings]:
    """What the runs of each group have in common, by the names of the settings.

    What is a word in one of them is a word in all: TensorBoard filters words and numbers apart.
    """
    found = [_settings(group) for group in groups]
    words = {name for each in found for name, value in each.items() if isinstance(value, str)}
    return [
        {name: in_a_word(value) if name in words else value for name, value in each.items()}
        for each in found
    ]


def _settings(group: Group) -> Settings:
    words = {**group.conditions, **group.settings}
    settings = {key: _number(word) for key, word in words.items()}
    options = {key: _plain(value) for key, value in group.options.items() if value is not None}
    return {"experiment": group.experiment, "optimizer": group.optimizer, **settings, **options}


def _plain(value: object) -> Value:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return in_a_word(value)


def _number(word: str) -> Value:
    """A number that TensorBoard can put into JSON, or the word as it is."""
    try:
        value = float(word)
    except ValueError:
        return word
    return value if math.isfinite(value) else word


def differing(all_settings: Sequence[Settings]) -> list[str]:
    """The optimizer, and the names of what differs among those that have it.

    What one optimizer alone has, with the same value everywhere, tells nothing more than its name.
    """
    names = dict.fromkeys(name for settings in all_settings for name in settings)
    values = {
        name: {settings[name] for settings in all_settings if name in settings} for name in names
    }
    return [
        name for name in names if name == "optimizer" or (name != "name" and len(values[name]) > 1)
    ]


def session(path: str, settings: Mapping[str, Value], seed: str) -> Summary:
    """What TensorBoard is told of a run.

    Args:
        path: the name of the run.
        settings: of its group.
        seed: in words, since it may be ``mean`` as well.
    """
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    # TensorBoard takes runs with the same id for repetitions, and would show only their average.
    found: Summary = hparams_pb({**settings, SEED: seed}, trial_id=path, start_time_secs=0.0)
    return found


def columns(
    all_settings: Sequence[Settings], seeds: Iterable[str], metrics: Sequence[str]
) -> Summary:
    """The columns of the table.

    Without these, TensorBoard shows every setting of every run, the same ones included, and every
    metric.

    Args:
        all_settings: of each group.
        seeds: all that there are.
        metrics: their tags, in order.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    infos = [
        _info(name, [settings[name] for settings in all_settings if name in settings])
        for name in differing(all_settings)
    ]
    in_order: list[Value] = [*sorted(set(seeds), key=_by_number)]
    seed = _info(SEED, in_order)
    seed.differs = False  # those that differ come first
    experiment = api_pb2.Experiment(
        hparam_infos=[*infos, seed],
        metric_infos=[
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=tag)
            for tag in metrics
        ],
    )
    content = plugin_data_pb2.HParamsPluginData(experiment=experiment)
    value = Summary.Value(
        tag=metadata.EXPERIMENT_TAG,
        metadata=metadata.create_summary_metadata(content),
        tensor=metadata.NULL_TENSOR,
    )
    return Summary(value=[value])


def _by_number(word: str) -> tuple[bool, int, str]:
    """A key that sorts numbers by their size, before words."""
    return not word.isdecimal(), int(word) if word.isdecimal() else 0, word


def _info(name: str, values: Sequence[Value]) -> Any:
    """How a setting is shown and filtered."""
    from tensorboard.plugins.hparams import api_pb2

    info = api_pb2.HParamInfo(name=name, differs=True)
    there = list(dict.fromkeys(values))
    if all(isinstance(value, bool) for value in there):
        info.type = api_pb2.DATA_TYPE_BOOL
        info.domain_discrete.extend(there)
    elif all(isinstance(value, float) for value in there):
        info.type = api_pb2.DATA_TYPE_FLOAT64
        if len(there) <= _MOST_CHOICES:
            info.domain_discrete.extend(sorted(there))
        else:
            info.domain_interval.min_value, info.domain_interval.max_value = min(there), max(there)
    else:
        info.type = api_pb2.DATA_TYPE_STRING
        info.domain_discrete.extend(map(str, there))
    return info
