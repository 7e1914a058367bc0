"""Sweeps as jobs of a real Slurm, ways to disturb them, and what must be true afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep_cases import PATIENCE_SECONDS, Done, Place, named_or_all, wait_for

from deltagclip_cli.slurm.array import Array, open_arrays
from deltagclip_cli.slurm.client import ArrayTask, tasks_named
from deltagclip_cli.slurm.jobs import find_jobs

SLURM_UP = Path(__file__).parents[3] / "shared" / "slurm" / "slurm-up"
FOLDER = Path(os.environ.get("SLURM_UP_DIR", "/var/lib/slurm-up"))
if (FOLDER / "slurm.conf").is_file():  # there may be other clusters
    os.environ.setdefault("SLURM_CONF", str(FOLDER / "slurm.conf"))

# A job needs some seconds to load torch; then these train for about one second, and for about ten.
SPEC = """\
experiments:
  short: &short
    model: {name: mlp, hidden: [16]}
    data: {name: synthetic, batch_size: 8, size: 4, train: 32, test: 16}
    epochs: 20
    checkpoint: {epochs: 5}
    optimizers:
      sgd: {name: sgd, lr: 0.1}
      delta-gclip: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}
    slurm: {cpus: 1, time: 10}
  long:
    <<: *short
    epochs: 3000
    checkpoint: {epochs: 100}
"""


def run(*words: object, check: bool = True, **keywords: Any) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **keywords)
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Cluster:
    """The Slurm of this machine, which ``slurm-up`` has started."""

    def up(self, *words: str) -> None:
        """``slurm-up`` with ``--down n1``, ``--down-daemon n1``, ``--up n1``; alone, it repairs."""
        run(SLURM_UP, *words)

    def controller(self) -> int:
        """The process of slurmctld."""
        return int((FOLDER / "run" / "slurmctld.pid").read_text())

    def lose_controller(self) -> None:
        """End slurmctld, so that no command is answered until :meth:`restore`.

        It saves what it knows first. Killed, it would forget jobs that have begun in the last
        seconds, put them into the queue again, and drain the nodes that have them.
        """
        pid = self.controller()
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not Path(f"/proc/{pid}/maps").exists(), "the end of slurmctld")

    def node_names(self) -> list[str]:
        """The names of the two nodes, n1 and n2 unless ``slurm-up`` was told otherwise."""
        return sorted(self.nodes())

    def nodes(self) -> dict[str, str]:
        """The state of each node."""
        lines = run("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T").splitlines()
        return dict(line.split() for line in lines)

    def restore(self) -> None:
        """Bring everything back that a test has taken down, and wait until both nodes serve."""
        self.up()
        for node, state in self.nodes().items():
            if not state.startswith(("idle", "mixed", "allocated", "completing")):
                run(SLURM_UP, "--up", node, check=False)
                run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        serving = ("idle", "mixed", "allocated", "completing")
        wait_for(
            lambda: all(state in serving for state in self.nodes().values()),
            "nodes that serve",
        )


def is_up() -> bool:
    """Whether a Slurm answers on this machine."""
    return (
        shutil.which("sinfo") is not None
        and not subprocess.run(["sinfo", "-h"], capture_output=True).returncode
    )


class SlurmPlace(Place):
    """A folder with a spec, from which sweeps are submitted."""

    def __init__(self, path: Path, spec: str = SPEC) -> None:
        super().__init__(path, spec)

    def call(self, command: str, *words: object, code: int | None = 0, **environment: str) -> Done:
        """Run ``deltagclip COMMAND ...`` to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "deltagclip_cli", command, *map(str, words)],
            cwd=self.path,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert code is None or done.returncode == code, done.stdout
        return Done(done.returncode, done.stdout)

    def submit(self, *words: object, code: int | None = 0, **environment: str) -> Done:
        """Submit a sweep."""
        words = (*words, *named_or_all(words))
        return self.call("sweep", "--launcher", "slurm", *words, code=code, **environment)

    @property
    def arrays(self) -> list[Array]:
        """The arrays that were submitted and are not closed."""
        return open_arrays(self.runs)

    def tasks(self) -> list[ArrayTask]:
        """All tasks that were ever submitted from here, as Slurm tells of them."""
        lists = (self.runs / ".slurm").glob("*/*.jsonl")
        names = {Array(file.with_suffix("")).job_name for file in lists}
        return tasks_named(names) if names else []

    def task_of(self, name: str) -> ArrayTask:
        """The live task of ``experiment/label`` or ``experiment/label/seed``."""
        experiment, label, seed = f"{name}/0".split("/")[:3]
        jobs = find_jobs(self.runs)
        (place,) = (
            place
            for folder, place in jobs.places.items()
            if folder.startswith(f"{experiment}/{label}/seed-{seed}-")
        )
        return jobs.tasks[place.array.job_name, place.task]

    def batch_process(self, name: str) -> int:
        """The process that Slurm has started for the live task of a trial."""
        task = self.task_of(name)
        words = {f"SLURM_ARRAY_JOB_ID={task.job}", f"SLURM_ARRAY_TASK_ID={task.task}"}
        (pid,) = (
            pid
            for pid in self.processes()
            if _words(pid, "cmdline")[4:5] == ["job"] and words <= set(_words(pid, "environ"))
        )
        return pid

    def kill_job(self, name: str) -> None:
        """Kill all processes of a trial's job, Slurm's own first: so nobody is told."""
        batch = self.batch_process(name)
        step = int(Path(f"/proc/{batch}/stat").read_text().rpartition(")")[2].split()[1])
        assert Path(f"/proc/{step}/comm").read_text().startswith("slurmstepd")
        family = _family(batch)
        for pid in (step, *family):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not set(family) & set(self.processes()), "the end of a job")

    def logs(self) -> str:
        """What all tasks have printed."""
        files = sorted((self.runs / ".slurm").glob("*/logs/*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text()}" for file in files)

    def report(self) -> str:
        """What runs here, what is queued and what was printed, for messages."""
        return "\n".join([super().report(), *map(str, self.tasks()), self.logs()])

    def wait_until_quiet(self, patience: float = PATIENCE_SECONDS) -> None:
        """Wait until no job of this place is queued or runs."""
        self.wait_for(
            lambda: not any(task.is_alive for task in self.tasks()), "the end of all jobs", patience
        )

    def end_jobs(self) -> None:
        """End whatever a test has left in the queue, at once."""
        alive = sorted({task.job for task in self.tasks() if task.is_alive})
        if alive:
            run("scancel", *alive, check=False)
            run("scancel", "--signal=KILL", "--full", *alive, check=False)
        self.wait_until_quiet()


def _words(pid: int, file: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/{file}").read_text(errors="replace").split("\0")
    except OSError:  # it has ended
        return []


def _family(pid: int) -> list[int]:
    """A process and those that it has started, and so on."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(each for child in children for each in _family(int(child)))]
