"""Sweeps as real processes, ways to disturb them, and what must be true afterwards."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from halting import halt
from PIL import Image

from deltagclip_cli.runs.folder import RunFolder

PATIENCE_SECONDS = 300.0  # the machine may be busy
NICENESS = 5  # of sweeps: what a test waits for must not be over before it is noticed
_SECONDS_BETWEEN_LOOKS = 0.01

# Two trials that are over at once, then four of about a second, with a checkpoint now and then.
SPEC = """\
experiments:
  short: &short
    model: {name: mlp, hidden: [16]}
    data: {name: synthetic, batch_size: 8, size: 4, train: 32, test: 16}
    epochs: 2
    optimizers:
      sgd: {name: sgd, lr: 0.1}
      delta-gclip: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}
  long:
    <<: *short
    epochs: 300
    checkpoint: {epochs: 5}
    optimizers:
      sgd: {name: sgd, lr: 0.1}
      delta-gclip: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}
      adam: {name: adam, lr: 1e-3}
      gclip: {name: gclip, lr: 0.1, gamma: 1.0}
"""
SHORT = ["short/sgd", "short/delta-gclip"]
LONG = ["long/sgd", "long/delta-gclip", "long/adam", "long/gclip"]
_SWEEP = [sys.executable, "-m", "deltagclip_cli", "sweep"]
TWO = ["--optimizer", "sgd", "--optimizer", "delta-gclip"]  # of each experiment


def wait_for(
    condition: Callable[[], object],
    what: str,
    patience: float = PATIENCE_SECONDS,
    report: Callable[[], str] = str,
) -> Any:
    """Wait until something is so; the answer of the condition. In vain, a report is made."""
    end = time.monotonic() + patience
    while not (answer := condition()):
        assert time.monotonic() < end, f"in vain waited for: {what}; {report()}"
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return answer


def named_or_all(words: tuple[object, ...]) -> list[str]:
    """What the words of a sweep lack that begin with no experiment: that all are meant."""
    return [] if words and not str(words[0]).startswith("-") else ["--all"]


@dataclass(frozen=True)
class Done:
    """What a sweep came to: its exit code and all that it and its workers printed."""

    code: int
    out: str


class Sweep:
    """A running ``deltagclip sweep``, in a process group of its own as a terminal would make it."""

    def __init__(self, place: Path, words: tuple[object, ...], output: Path, files: int | None):
        self._output = output
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        environment["SWEEP"] = output.name  # so that its children can be known
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [*_SWEEP, *named_or_all(words), "--jobs", "2", *map(str, words)],
                cwd=place,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(_prepare, files),
            )

    @property
    def output(self) -> str:
        """What it has printed until now."""
        return self._output.read_text()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self.process.send_signal(number)

    def press(self, number: signal.Signals = signal.SIGINT) -> None:
        """Send a signal to the process group, as a terminal does for Ctrl-C."""
        os.killpg(self.process.pid, number)

    def runs_for(self, seconds: float) -> bool:
        """Whether it has run for so long, on a processor that was its own, or is over."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return True
        ticks = int(stat[11]) + int(stat[12])
        return stat[0] == "Z" or ticks >= seconds * os.sysconf("SC_CLK_TCK")

    def finish(self, patience: float = PATIENCE_SECONDS) -> Done:
        """Wait for its end."""
        code = self.process.wait(patience)
        return Done(code, self.output)

    def wait_for(self, words: str) -> None:
        """Wait until it has printed something."""
        wait_for(lambda: words in self.output, f"{words!r} of the output")


def _prepare(files: int | None) -> None:
    """In the new process: signals, which whoever started the tests may have ignored, and limits."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.nice(NICENESS)
    if files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


class Place:
    """A folder with a spec, where sweeps are started. Every process of them has it as its folder.

    Args:
        path: the folder.
        spec: the text of the spec.
    """

    def __init__(self, path: Path, spec: str = SPEC) -> None:
        self.path = path.resolve()
        self.runs = self.path / "runs"
        self.sweeps: list[Sweep] = []
        (self.path / "experiments.yaml").write_text(spec, encoding="utf-8")

    def start(self, *words: object, files: int | None = None) -> Sweep:
        """Start ``deltagclip sweep --jobs 2``, of all experiments if none is named.

        There may be a limit on open files.
        """
        output = self.path / f"output-{len(self.sweeps)}.txt"
        self.sweeps.append(Sweep(self.path, words, output, files))
        return self.sweeps[-1]

    def sweep(self, *words: object) -> Done:
        """Start a sweep and wait for its end."""
        return self.start(*words).finish()

    def folder(self, name: str) -> RunFolder:
        """The run folder of ``experiment/label`` or ``experiment/label/seed``."""
        experiment, label, seed = f"{name}/0".split("/")[:3]
        found = list(self.runs.glob(f"{experiment}/{label}/seed-{seed}-*"))
        assert len(found) == 1, f"{name} has the folders {found}"
        return RunFolder(found[0])

    def folders(self) -> dict[str, RunFolder]:
        """All run folders, by their paths under ``runs``."""
        return {
            str(path.relative_to(self.runs)): RunFolder(path)
            for path in sorted(self.runs.glob("*/*/seed-*"))
        }

    def starts(self, name: str) -> int:
        """How often a trial was started."""
        return len(json.loads(self.folder(name).environment_file.read_text()))

    def states(self, *names: str) -> list[str]:
        """What the folders say."""
        return [str(self.folder(name).state) for name in names]

    def results(self) -> dict[str, tuple[bytes, int]]:
        """Every ``result.json`` that can be read, and when it was written."""
        return {
            name: (folder.result_file.read_bytes(), folder.result_file.stat().st_mtime_ns)
            for name, folder in self.folders().items()
            if folder.result() is not None
        }

    # ------------------------------------------------------------ processes

    def processes(self) -> list[int]:
        """All processes that work in this folder: sweeps, fork servers, workers."""
        return [pid for pid in _all_processes() if _working_folder(pid) == str(self.path)]

    def workers(self) -> dict[str, list[int]]:
        """The processes of the workers, by ``experiment/label/seed``; one may have several."""
        found: dict[str, list[int]] = {}
        for pid in self.processes():
            command = _command(pid)
            # What a worker starts, such as git, has the worker's command for a moment.
            if " worker " in command and _leads_a_session(pid):
                for match in _TRIAL.finditer(command):
                    found.setdefault("/".join(match.groups()), []).append(pid)
        return found

    def fork_servers(self) -> list[int]:
        """The processes that workers are forks of."""
        return [pid for pid in self.processes() if "forkserver import main" in _command(pid)]

    def loading_server(self) -> int:
        """Wait until the fork server is in the middle of loading torch; its process."""

        def loads(pid: int) -> bool:
            try:
                return "libtorch" in Path(f"/proc/{pid}/maps").read_text()
            except OSError:
                return False

        self.wait_for(lambda: any(map(loads, self.fork_servers())), "torch")
        return next(filter(loads, self.fork_servers()))

    def is_under_way(self, name: str, epochs: int = 10) -> bool:
        """Whether a worker has trained some epochs of a trial, since the last start too."""
        experiment, label, seed = f"{name}/0".split("/")[:3]
        found = list(self.runs.glob(f"{experiment}/{label}/seed-{seed}-*/metrics.jsonl"))
        running = self.workers().get(f"{experiment}/{label}/{seed}")
        return bool(running and found and _lines(found[0]) >= epochs)

    def wait_until_under_way(self, *names: str, epochs: int = 10) -> None:
        """Wait until workers have trained some epochs of trials."""
        for name in names:
            under_way = partial(self.is_under_way, name, epochs)
            self.wait_for(under_way, f"{name} to be under way")

    def halt(self, name: str, epochs: int = 10) -> int:
        """Wait until a trial is under way and halt its worker in the middle; its process."""
        self.wait_until_under_way(name, epochs=epochs)
        (pid,) = self.workers()["/".join(f"{name}/0".split("/")[:3])]
        halt(pid)
        assert self.folder(name).result() is None, f"{name} was over too soon"
        return pid

    def halt_all(self, *names: str) -> list[int]:
        """Halt the workers of trials, each as soon as it is under way; their processes."""
        halted: dict[str, int] = {}

        def halt_some() -> bool:
            for name in names:
                if name not in halted and self.is_under_way(name):
                    halted[name] = self.halt(name)
            return len(halted) == len(names)

        self.wait_for(halt_some, f"{names} to be under way")
        return [halted[name] for name in names]

    def wait_for(
        self, condition: Callable[[], object], what: str, patience: float = PATIENCE_SECONDS
    ) -> Any:
        """Wait until something is so; else say what runs here and what was printed."""
        return wait_for(condition, what, patience, self.report)

    def wait_until_left(self, patience: float = PATIENCE_SECONDS) -> None:
        """Wait until no process is left, however the sweeps ended."""
        self.wait_for(lambda: not self.processes(), "the end of all", patience)

    def report(self) -> str:
        """What runs here and what was printed, for messages."""
        there = [f"{pid} {_command(pid)}" for pid in self.processes()]
        return "\n".join([*there, *(sweep.output for sweep in self.sweeps)])

    def clean_up(self) -> None:
        """End what a failed test left."""
        for pid in self.processes():
            with suppress(ProcessLookupError):  # it has ended since
                os.kill(pid, signal.SIGKILL)
        for sweep in self.sweeps:
            sweep.process.wait()


_TRIAL = re.compile(r"([^/\s]+)/([^/\s]+)/seed-(\d+)-[0-9a-f]+ ")


def draw_pictures(data: Path) -> None:
    """A data set of image files that have to be decoded."""
    for split in ("train", "test"):
        for number, colour in enumerate(("red", "blue")):
            folder = data / "pictures" / split / colour
            folder.mkdir(parents=True)
            for image in range(4):
                Image.new("RGB", (4, 4), (200 * number, image, 9)).save(folder / f"{image}.png")


def _all_processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _working_folder(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:  # it has ended, or is another user's
        return ""


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ") + " "
    except OSError:
        return ""


def _leads_a_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:  # it has ended since
        return False


def _lines(file: Path) -> int:
    try:
        return file.read_bytes().count(b"\n")
    except OSError:
        return 0


# ---------------------------------------------------------------- what must be true


def numbers(folder: RunFolder) -> list[dict[str, Any]]:
    """The records of a trial without what a clock told; all lines must be whole."""
    return [
        {key: value for key, value in json.loads(line).items() if not _is_time(key)}
        for line in folder.metrics_file.read_text().splitlines()
    ]


def result(folder: RunFolder) -> dict[str, Any]:
    """``result.json`` without what a clock told."""
    read: dict[str, Any] = json.loads(folder.result_file.read_text())
    del read["seconds"]
    read["last"] = {key: value for key, value in read["last"].items() if not _is_time(key)}
    return read


def _is_time(key: str) -> bool:
    return key == "time" or "perf/" in key


def assert_same_numbers(place: Place, undisturbed: Place, count: int) -> None:
    """So many trials are finished, with the numbers of a sweep that nothing befell."""
    folders, expected = place.folders(), undisturbed.folders()
    finished = place.results()
    assert len(finished) == count, place.report()
    for name in finished:
        assert numbers(folders[name]) == numbers(expected[name]), name
        assert result(folders[name]) == result(expected[name]), name
        assert folders[name].state == "finished"
        assert folders[name].reason == ""
        assert _temporary(folders[name]) == []


def _temporary(folder: RunFolder) -> list[str]:
    names = [path.name for path in folder.path.iterdir()]
    return [name for name in names if "part" in name or "next" in name or "progress" in name]


def assert_kept(place: Place, before: dict[str, tuple[bytes, int]]) -> None:
    """What was finished before is as it was, to the byte and the moment."""
    now = place.results()
    assert {name: now.get(name) for name in before} == before


def assert_completes(place: Place, undisturbed: Place, *words: object, count: int) -> Done:
    """The same command goes on with what is left, and only with that."""
    before = place.results()
    done = place.sweep(*words)
    assert done.code == 0, done.out
    assert_tells_people(done)
    assert_kept(place, before)
    assert_same_numbers(place, undisturbed, count)
    return done


def assert_tells_people(done: Done) -> None:
    """Nothing of Python's inner life is shown."""
    for words in ("Traceback", "should not have happened", "Exception ignored", "resource_tracker"):
        assert words not in done.out, done.out


def shows_summary(done: Done) -> bool:
    """Whether what is told at the end was printed."""
    return "deltagclip tensorboard " in done.out
