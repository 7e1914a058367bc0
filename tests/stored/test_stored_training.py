"""What training writes, and that it goes on from a checkpoint of the day when it was stored."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray

HERE = Path(__file__).parent
STORED = HERE / "training.json"
TRIAL = "runs/broken/delta-gclip/seed-1-1b0e800b"
WORDS = ("train", "broken", "--seed", "1", "--device", "cpu")


def deltagclip(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "deltagclip_cli", *words],
        cwd=folder,
        env=surroundings(folder),
        capture_output=True,
        text=True,
        timeout=300,
    )


def surroundings(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DELTAGCLIP_")}
    return {**kept, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / ".cache")}


def new_folder(path: Path, *, runs: bool = False) -> Path:
    """A folder with the spec, and maybe with the stored runs."""
    path.mkdir()
    shutil.copy(HERE / "experiments.yaml", path)
    if runs:
        shutil.copytree(HERE / "runs", path / "runs")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trial that was trained from its beginning to its end."""
    folder = new_folder(tmp_path_factory.mktemp("trained") / "here")
    done = deltagclip(folder, *WORDS)
    assert done.returncode == 0, done.stderr
    return folder / TRIAL


# ---------------------------------------------------------------- what was written


def without_times(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of a record that come out the same again."""
    return {k: v for k, v in values.items() if k != "time" and not k.startswith("perf/")}


def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def records(trial: Path) -> list[dict[str, Any]]:
    return [without_times(json.loads(line)) for line in lines(trial / "metrics.jsonl")]


def result(trial: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((trial / "result.json").read_text())
    found["seconds"] = sorted(found["seconds"])
    return {**found, "last": without_times(found["last"])}


def files(trial: Path) -> list[str]:
    """Their names, in those of TensorBoard without the time, the host and the process."""
    names = [path.name for path in trial.iterdir()]
    return sorted(re.sub(r"(tfevents)\..*", r"\1", name) for name in names)


def scalars(file: Path) -> Iterator[tuple[str, int, float]]:
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            if value.HasField("tensor") and not value.tag.startswith("_"):
                array = make_ndarray(value.tensor)
                if array.dtype.kind == "f" and not array.shape:
                    yield value.tag, event.step, float(array)


def curves(trial: Path) -> dict[str, list[list[float]]]:
    """Steps and values of each tag; of those that time has a part in, steps only."""
    found: dict[str, list[list[float]]] = {}
    for file in sorted(trial.glob("events.out.tfevents.*")):
        for tag, step, value in scalars(file):
            point = [step] if tag.startswith("perf/") else [step, value]
            found.setdefault(tag, []).append(point)
    return found


def outline(value: Any) -> Any:
    """The keys of what is saved, the shapes of its tensors and the kinds of the rest."""
    import torch

    if isinstance(value, dict):
        return {str(key): outline(each) for key, each in value.items()}
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        return [outline(each) for each in value] if len(value) < 10 else f"{len(value)} values"
    return type(value).__name__


def checkpoint(trial: Path) -> Any:
    import torch

    return outline(torch.load(trial / "checkpoint.pt", weights_only=True))


def all_of(trial: Path) -> dict[str, Any]:
    """What is stored of a trial."""
    starts = json.loads((trial / "environment.json").read_text())
    return {
        "files": files(trial),
        "records": records(trial),
        "result": result(trial),
        "environment": {key: type(value).__name__ for key, value in starts[-1].items()},
        "curves": curves(trial),
        "checkpoint": checkpoint(trial),
        "trial": (trial / "trial.yaml").read_text(),
        "log": [re.sub(r"^\S+ \S+ |perf/.*", "", line) for line in lines(trial / "log.txt")][1:],
    }


def assert_same(found: Any, stored: Any, where: str = "") -> None:
    """Compare, with numbers to six digits: another processor adds them up in another order."""
    if isinstance(stored, dict):
        assert list(found) == list(stored), where
        for key in stored:
            assert_same(found[key], stored[key], f"{where}/{key}")
    elif isinstance(stored, list):
        assert len(found) == len(stored), where
        for number, (one, other) in enumerate(zip(found, stored, strict=True)):
            assert_same(one, other, f"{where}/{number}")
    elif isinstance(stored, float):
        assert found == pytest.approx(stored, rel=1e-5, abs=1e-7), where
    else:
        assert found == stored, where


@pytest.fixture(scope="module")
def stored(trained: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.config.getoption("--regenerate", default=False):
        STORED.write_text(json.dumps(all_of(trained), indent=1) + "\n")
    found: dict[str, Any] = json.loads(STORED.read_text())
    return found


def test_a_trial_writes_what_it_wrote(trained: Path, stored: dict[str, Any]) -> None:
    assert_same(all_of(trained), stored)


@pytest.mark.slow
def test_it_continues_from_a_checkpoint_of_another_day(
    tmp_path: Path, stored: dict[str, Any], trained: Path
) -> None:
    folder = new_folder(tmp_path / "here", runs=True)
    done = deltagclip(folder, *WORDS)
    assert done.returncode == 0, done.stderr
    trial = folder / TRIAL
    for part in (records, result, curves):
        assert_same(part(trial), stored[part.__name__], part.__name__)
    assert len(json.loads((trial / "environment.json").read_text())) == 2
    assert checkpoint(trial) == stored["checkpoint"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "folder"),
    [
        ("train grid --optimizer sgd --seed 0 --force", 1, "runs/grid/sgd/seed-0-*"),
        ("train broken --seed 0", 0, "runs/broken/delta-gclip/seed-0-*"),
        ("sweep broken --retry-failed --jobs 1", 0, "runs/broken/delta-gclip/seed-2-*"),
        ("sweep broken --jobs 1", 1, "runs/broken/delta-gclip/seed-2-*"),
        ("sweep theorem --force --yes --launcher inline", 0, "runs/theorem/*/seed-1-*"),
        ("sweep searched --search 4 --select-on-test --jobs 1", 0, "runs/searched/*/seed-1-*"),
    ],
)
def test_whatever_is_trained_again_has_the_numbers_and_exit_codes_that_it_had(
    words: str, code: int, folder: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    here = new_folder(tmp_path / "here", runs=True)
    done = deltagclip(here, *words.split())
    assert done.returncode == code, done.stderr
    found = {
        trial.relative_to(here).as_posix(): {"records": records(trial), "result": result(trial)}
        for trial in sorted(here.glob(folder))
    }
    assert found
    path = HERE / "trained" / f"{'-'.join(words.replace('--', '').split())}.json"
    if request.config.getoption("--regenerate", default=False):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n")
    assert_same(found, json.loads(path.read_text()))


# ------------------------------------------------------------------- TensorBoard


@pytest.mark.slow
def test_tensorboard_is_given_what_it_was_given(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    here = new_folder(tmp_path / "here", runs=True)
    (tmp_path / "made").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "deltagclip_cli", "tensorboard", "blobs", "theorem"],
        cwd=here,
        env={**surroundings(tmp_path), "TMPDIR": str(tmp_path / "made"), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    too_long = threading.Timer(300, process.kill)
    too_long.start()
    try:
        said = next((line for line in process.stdout if "http://localhost" in line), "")
        (made,) = (tmp_path / "made").glob("deltagclip-tensorboard-*")
        shown = {
            file.parent.relative_to(made).as_posix(): sorted({tag for tag, _, _ in scalars(file)})
            for file in sorted(made.rglob("*tfevents*"))
        }
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()
        too_long.cancel()
    assert said
    found = {"exit code": process.returncode, "shown": shown}
    path = HERE / "tensorboard.json"
    if request.config.getoption("--regenerate", default=False):
        path.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(path.read_text())
