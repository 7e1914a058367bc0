"""The plan of a protocol, written beside the run folders before the first of them is.

``runs/<experiment>/protocol.lock`` holds all that the trials of a protocol follow from, the draws
included, so that whoever reads results needs no spec, and no other version of a sampler draws
otherwise. What was planned is not changed after it was begun: a spec that does not fit it any more
is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from deltagclip_cli.core import (
    RunFolderError,
    check_writable,
    claimed,
    read_file,
    shortened,
    stopped,
    write_text,
)
from deltagclip_cli.spec.axes import as_written
from deltagclip_cli.spec.component import AS_WRITTEN, canonical_json
from deltagclip_cli.spec.schema import Optimizer
from deltagclip_cli.spec.search_settings import FIXED, Measured, read_protocol, read_search
from deltagclip_cli.spec.trial import Trial, differing_keys
from deltagclip_cli.tuning.studies import Draw, Tuning

FILE = "protocol.lock"
_CLAIM = ".protocol.claim"
_VERSION = 1
_MOST_BYTES = 2**30
_MOST_DIFFERENCES = 12  # that a message lists
_APART = "trial"  # of a draw: what of its trial does not follow by replacing options
_BUSY = (
    "another process writes it, and does not end.\n  End that one; the same command then goes on."
)
_KEPT = (
    "  What was planned before the first run is not changed after it: undo the change. A plan of\n"
    "  its own needs another name of the experiment, or another folder: --runs DIR."
)
_EDITED = "\n  If an edit of your code changes no number, --same-code says so."
_HIDDEN = ("made", "hash")  # which the hash does not cover


@dataclass(frozen=True)
class Lock:
    """A plan as it was fixed before the first run.

    Attributes:
        made: the moment, as ISO 8601 in UTC.
        hash: a SHA-256 of all of the file but itself and the moment, in hexadecimal.
        plain: the content of the file.
        tuning: what is planned; its trials are as they were written then, for who reads or runs.
    """

    path: Path
    made: str
    hash: str
    plain: Mapping[str, Any]
    tuning: Tuning

    @property
    def comparisons(self) -> list[tuple[str, str]]:
        """The pairs of optimizers that were to be compared."""
        return [(one, other) for one, other in self.plain["comparisons"]]


def lock_file(runs: Path, experiment: str) -> Path:
    """Return the place of the lock of an experiment, whether there is one or not."""
    return runs / experiment / FILE


def read_lock(runs: Path, experiment: str) -> Lock | None:
    """Read the plan of an experiment; None if it has none.

    Raises:
        RunFolderError: what lies there is no lock, or was changed since it was written.
    """
    path = lock_file(runs, experiment)
    try:
        plain = json.loads(read_file(path, _MOST_BYTES))
        version = plain["version"]
        if version != _VERSION:
            _refuse(path, f"its version is {version!r}, and this program reads {_VERSION}")
        if plain["hash"] != hash_of(plain):
            _refuse(path, "it was changed after it was written, for its hash is not that of it")
        return Lock(path, str(plain["made"]), plain["hash"], plain, _as_planned(plain))
    except FileNotFoundError:
        return None
    except OSError as error:
        _refuse(path, f"it cannot be read: {error.strerror}")
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        _refuse(path, f"it is damaged: {shortened(' '.join(str(error).split()), 200)}")


def _refuse(path: Path, why: str) -> NoReturn:
    raise RunFolderError(
        f"{path}: not the plan of a protocol: {stopped(why)}\n"
        "  Put the file back as it was. Without it nobody knows what was planned before the runs."
    )


def fixed_plan(tuning: Tuning, runs: Path, *, is_begun: bool = False) -> tuple[Lock, Tuning]:
    """Return the lock of a plan and what it plans; write it if there is none.

    The trials are those of the spec, with the draws of the lock. As long as none of the trials of a
    plan has a run folder, another plan takes its place.

    Args:
        is_begun: whether trials are to run that have no run folder yet, as of jobs that wait.

    Raises:
        RunFolderError: the plan that was begun is another one; with all that differs.
    """
    path = lock_file(runs, tuning.name)
    check_writable(path.parent)
    with claimed(path.parent / _CLAIM, f"{path}: {_BUSY}"):
        lock = valid_plan(tuning, runs, is_begun=is_begun)
        if lock is None:
            write_text(path, json.dumps(plan_of(tuning), indent=1, ensure_ascii=False) + "\n")
            lock = read_lock(runs, tuning.name)
            assert lock is not None, "it was just written"
    return lock, tuning.with_draws(lock.tuning.draws)


def valid_plan(tuning: Tuning, runs: Path, *, is_begun: bool = False) -> Lock | None:
    """Return the lock that a plan has; None if there is none, or another of which nothing began.

    Raises:
        RunFolderError: as :func:`fixed_plan`.
    """
    lock = read_lock(runs, tuning.name)
    if lock is None or not (found := differences(lock, tuning)):
        return lock
    if is_begun or _is_begun(lock, runs):
        raise _changed(lock, found)
    return None


def _is_begun(lock: Lock, runs: Path) -> bool:
    return any((runs / each.folder).exists() for each in lock.tuning.drawn_trials)


def differences(lock: Lock, tuning: Tuning) -> list[str]:
    """Return in what a spec plans otherwise than a lock; how trials are run may differ."""
    then, now = _essence(lock.tuning), _essence(tuning)
    return [shortened(each, 160) for each in differing_keys(then, now)]


def _changed(lock: Lock, found: Sequence[str]) -> RunFolderError:
    more = len(found) - _MOST_DIFFERENCES
    told = [*found[:_MOST_DIFFERENCES], *([f"and {more} more"] if more > 0 else [])]
    lines = "\n".join(f"    {each}" for each in told)
    edited = any(".code " in each for each in found)
    return RunFolderError(
        f"{lock.path}: the spec does not fit the plan that was fixed here at {lock.made}:\n"
        f"{lines}\n{_KEPT}{_EDITED if edited else ''}"
    )


def plan_of(tuning: Tuning) -> dict[str, Any]:
    """Return the content of a lock, made now."""
    plan = {
        "version": _VERSION,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "hash": "",
        "experiment": _together({k: v.model_dump(mode="json") for k, v in tuning.bases.items()}),
        "protocol": tuning.protocol.model_dump(mode="json"),
        "search": _search(tuning),
        "comparisons": [list(pair) for pair in tuning.comparisons],
        "draws": [_draw(tuning, draw) for draw in tuning.draws],
    }
    return {**plan, "hash": hash_of(plan)}


def hash_of(plan: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the content of a lock, but the moment and the hash itself."""
    covered = {key: value for key, value in plan.items() if key not in _HIDDEN}
    return hashlib.sha256(canonical_json(covered).encode()).hexdigest()


def _essence(tuning: Tuning) -> dict[str, Any]:
    """Return what must stay as it was planned: all but how trials are run."""
    return {
        "experiment": _together({label: base.settings for label, base in tuning.bases.items()}),
        "protocol": tuning.protocol.model_dump(mode="json"),
        "search": _search(tuning),
    }


def _search(tuning: Tuning) -> dict[str, Any]:
    """Return the spaces as a spec has them."""
    space: dict[str, Any] = {
        label: {option: as_written(each) for option, each in options.items()}
        for label, options in tuning.search.space.items()
    }
    fixed = {label: {FIXED: True} for label in sorted(tuning.fixed)}
    return {"seed": tuning.search.seed, "space": space | fixed}


_OWN = ("label", "seed")  # of a trial: which one of several it is


def _together(trials: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings that trials of all labels have in common, and below, those of each."""
    first, *others = trials.values()
    shared = {
        key: value
        for key, value in first.items()
        if key not in ("optimizer", *_OWN)
        and all(key in each and each[key] == value for each in others)
    }
    optimizers = {
        label: {key: value for key, value in each.items() if key not in (*shared, *_OWN)}
        for label, each in trials.items()
    }
    return {**shared, "optimizers": optimizers}


def _draw(tuning: Tuning, draw: Draw) -> dict[str, Any]:
    record: dict[str, Any] = {
        "study": draw.study,
        "label": draw.label,
        "number": draw.number,
        "options": dict(draw.options),
    }
    trial, base = tuning.trials(draw, tuning.seeds[:1])[0], tuning.bases[draw.label]
    replaced = canonical_json({**base.optimizer.plain(), **draw.options})
    follows = trial.schedule == base.schedule and trial.code == base.code
    if not follows or trial.canonical["optimizer"] != replaced:  # as of a switch drawn to be off
        now, then = trial.model_dump(mode="json"), base.model_dump(mode="json")
        record[_APART] = {
            key: now.get(key) for key in {*now, *then} if now.get(key) != then.get(key)
        }
    return record


def _setting(base: Trial, draw: Draw, apart: Mapping[str, Any]) -> Trial:
    """Return the trial of a draw as it was written: with its options in the place of others."""
    if not draw.options:
        return base
    if apart:
        return Trial.model_validate({**base.model_dump(), **apart}, context=AS_WRITTEN)
    changed = {**base.optimizer.model_dump(), **draw.options}
    optimizer = Optimizer.model_validate(changed, context=AS_WRITTEN)
    return base.model_copy(update={"optimizer": optimizer})


def _as_planned(plain: Mapping[str, Any]) -> Tuning:
    """Return what a lock plans."""
    protocol = read_protocol(plain["protocol"], Measured(names=()))
    assert protocol is not None
    search = read_search({**protocol.search, **plain["search"]}, None, Measured(names=()))
    bases = dict(_bases(plain["experiment"], protocol.seeds[0]))
    draws, apart = [], {}
    for each in plain["draws"]:
        draw = Draw(each["study"], each["label"], each["number"], each["options"])
        draws.append(draw)
        with suppress(KeyError):
            apart[draw.study, draw.label, draw.number] = each[_APART]

    def make(draw: Draw) -> Trial:
        key = draw.study, draw.label, draw.number
        return _setting(bases[draw.label], draw, apart.get(key, {}))

    name = plain["experiment"]["experiment"]
    return Tuning(name, protocol, search, bases, draws, make)


def _bases(plain: Mapping[str, Any], seed: int) -> Iterable[tuple[str, Trial]]:
    shared = {key: value for key, value in plain.items() if key != "optimizers"}
    for label, own in plain["optimizers"].items():
        written = {**shared, **own, "label": label, "seed": seed}
        yield label, Trial.model_validate(written, context=AS_WRITTEN)
