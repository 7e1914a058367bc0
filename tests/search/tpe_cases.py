"""Searches with Optuna, without training, and what their journals say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import search_cases
from optuna.samplers import RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from search_cases import optimizers_of

from deltagclip_cli.search.tpe_queue import SearchQueue
from deltagclip_cli.search.tpe_study import Study
from deltagclip_cli.spec.schema import Experiment


def experiment_of(**search: Any) -> Experiment:
    """The experiment of other searches, with Optuna, and pruned by the median."""
    return search_cases.experiment_of(sampler="tpe", **{"pruner": "median", **search})


class World(search_cases.World):
    """Runs what a search with Optuna hands out, one epoch after the other."""

    def queue(self, experiment: Experiment, settings: int, slots: int = 1) -> SearchQueue:
        return SearchQueue(self.studies(experiment), self.runs, settings, slots)

    def studies(self, experiment: Experiment) -> list[Study]:
        journal = self.runs / "tiny" / "search.journal"
        journal.parent.mkdir(parents=True, exist_ok=True)
        return [Study(each, journal) for each in optimizers_of(experiment)]


def studied(runs: Path) -> list[dict[str, Any]]:
    """What the journal says of every setting, without times."""
    storage = JournalStorage(JournalFileBackend(str(runs / "tiny" / "search.journal")))
    found: list[dict[str, Any]] = []
    for summary in optuna.get_all_study_summaries(storage):
        name = summary.study_name
        study = optuna.load_study(study_name=name, storage=storage, sampler=RandomSampler(0))
        found += [
            {
                "label": name,
                "number": trial.number,
                "state": trial.state.name,
                "values": trial.values,
                "params": trial.params,
                "options": trial.user_attrs["options"],
                "steps": trial.intermediate_values,
            }
            for trial in study.get_trials()
        ]
    return found


def states(runs: Path) -> list[str]:
    return [each["state"] for each in studied(runs)]
