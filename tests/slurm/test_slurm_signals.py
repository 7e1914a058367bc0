"""Jobs that are told to stop, are moved, killed or cancelled on a real Slurm, and what is left."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import halting
import pytest
from slurm_cases import Cluster, SlurmPlace, run
from sweep_cases import assert_same_numbers, wait_for

from deltagclip_cli.runs.folder import read_heartbeat
from deltagclip_cli.runs.hold import read_owner
from deltagclip_cli.slurm.client import ArrayTask

pytestmark = pytest.mark.slurm

# Trials of a second or two, which are halted before anything is done to their jobs: so no trial is
# over too soon, however busy the machine. The asgd divides by zero at its fifth step; and an epoch
# of `steady` takes so long that whatever happens does so in the middle of one.
GATE = "until test -e open; do sleep 0.1; done"
SPEC = """\
experiments:
  wide: &wide
    model: {name: mlp, hidden: [16]}
    data: {name: synthetic, batch_size: 8, size: 4, train: 32, test: 16}
    epochs: 300
    checkpoint: {epochs: 5}
    seeds: [0, 1, 2, 3]
    optimizers:
      sgd: {name: sgd, lr: 0.1}
      delta-gclip: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}
      gclip: {name: gclip, lr: 0.1, gamma: 1.0}
    slurm:
      cpus: 1
      time: 10
      optimizers:
        sgd: {pack: 2}
        gclip: {setup: ["touch started-$SLURM_ARRAY_TASK_ID", "GATE"]}
  trouble:
    <<: *wide
    seeds: [0]
    optimizers:
      sgd: {name: sgd, lr: 0.1}
      adam: {name: adam, lr: 1e-3}
      broken: {name: asgd, lr: 0.1, lambd: -2}
    slurm: {cpus: 1, time: 10, pack: 3}
  steady:
    <<: *wide
    data: {name: synthetic, batch_size: 8, size: 4, train: 120000, test: 16}
    epochs: 2
    seeds: [0]
    optimizers:
      sgd: {name: sgd, lr: 0.1}
      adam: {name: adam, lr: 1e-3}
    slurm: {cpus: 1, time: 10, pack: 2, partition: preemptable, mem: 5000}
  brief:
    <<: *wide
    slurm: {cpus: 1, partition: short, time: 2}
""".replace("GATE", GATE)
SEEDS = range(4)
_SECONDS_ON_THE_WAY = 2.0  # of a signal, for nobody tells when it has come


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmPlace]:
    """All trials of ``SPEC`` from a local sweep that nothing befell; it may still be under way."""
    place = SlurmPlace(tmp_path_factory.mktemp("undisturbed"), SPEC)
    place.start()
    yield place
    place.clean_up()


def assert_unharmed(place: SlurmPlace, undisturbed: SlurmPlace, count: int) -> None:
    """So many trials are finished, with the numbers of the local sweep."""
    done = undisturbed.sweeps[0].finish()
    assert done.code == 1, done.out  # for one of them cannot but fail
    assert_same_numbers(place, undisturbed, count)


@contextmanager
def placed(path: Path, spec: str = SPEC) -> Iterator[SlurmPlace]:
    """A place for several tests, of which no job and no process may be left."""
    path.mkdir(exist_ok=True)
    place = SlurmPlace(path, spec)
    try:
        yield place
        place.end_jobs()
        place.wait_until_left(patience=120)
    finally:
        place.end_jobs()
        place.clean_up()


# ------------------------------------------------------------------ what is done to jobs


def begun_process(place: SlurmPlace, name: str) -> int | None:
    """The process of a trial that has been trained a little."""
    if not list(place.runs.glob(_pattern(name))):
        return None
    folder = place.folder(name)
    owner, beat = read_owner(folder), read_heartbeat(folder)
    begun = folder.metrics_file.exists() and folder.metrics_file.read_bytes().count(b"\n") > 5
    return owner.pid if owner and beat and (begun or beat.done > 0) else None


def halt(place: SlurmPlace, *names: str) -> list[int]:
    """Halt trials in the middle, each as soon as it is there; their processes."""
    pids: dict[str, int] = {}

    def halt_some() -> bool:
        for name in names:
            if name not in pids and (pid := begun_process(place, name)):
                halting.halt(pid)
                pids[name] = pid
        return len(pids) == len(names)

    place.wait_for(halt_some, f"{names} to be begun")
    for name in names:
        assert place.folder(name).result() is None, f"{name} was over too soon"
    return [pids[name] for name in names]


def release(pids: list[int]) -> None:
    """Let halted processes go on once they have been asked to stop."""
    for pid in pids:
        wait_for(partial(is_asked_to_stop, pid), f"process {pid} to be asked to stop")
        with suppress(ProcessLookupError):
            halting.proceed(pid)


def is_asked_to_stop(pid: int) -> bool:
    """Whether SIGTERM waits for a halted process, or has been taken by one let go by Slurm."""
    facts = process_facts(pid)
    if facts.get("State", "Z")[0] != "T":
        return True
    pending = int(facts["SigPnd"], 16) | int(facts["ShdPnd"], 16)
    return bool(pending >> (signal.SIGTERM - 1) & 1)


def process_facts(pid: int) -> dict[str, str]:
    """What the system says of a process; empty if there is none."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    return process_facts(pid).get("State", "Z")[0] == "Z"


def send(task: ArrayTask, *names: str) -> None:
    """Send signals to what the script of a task runs; USR1 is what comes before the time limit."""
    # If others of the array wait, scancel sends the signal, is told that it could not, and sends it
    # again after five seconds.
    for name in names:
        run("timeout", 4, "scancel", "-b", "-s", name, task.id, check=False)
    time.sleep(_SECONDS_ON_THE_WAY)


def send_while_halted(place: SlurmPlace, trials: list[str], *signals: str) -> None:
    """Send signals to a task whose trials are halted, and let these go on when all have come."""
    pids = halt(place, *trials)
    (task,) = {place.task_of(trial) for trial in trials}
    send(task, *signals)
    release(pids)


def send_while_it_loads(place: SlurmPlace, trial: str, name: str) -> None:
    """Send a signal to a task that is loading torch, and is halted meanwhile."""
    task = place.wait_for(lambda: running_task(place, trial), f"a job of {trial}")
    loading: list[int] = place.wait_for(
        lambda: list(filter(loads_torch, processes_of(task))), f"torch of {trial}"
    )
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in loading:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if number == signal.SIGSTOP:
            send(task, name)


def send_before_they_begin(place: SlurmPlace, signals: dict[str, str]) -> None:
    """Send signals to the tasks of trials that have yet to come to our program; open the gate."""
    for trial, name in signals.items():
        task = place.task_of(trial)
        place.wait_for((place.path / f"started-{task.task}").exists, "its first line")
        send(task, name)
    (place.path / "open").touch()


def preempt(place: SlurmPlace, trials: list[str]) -> None:
    """Have a more urgent job need the memory that a task holds."""
    pids = halt(place, *trials)
    (task,) = {place.task_of(trial) for trial in trials}
    urgent(task.node)
    release(pids)


def urgent(node: str) -> str:
    """Submit a job that needs most of a node's memory for a moment; its number."""
    words = ["--partition=urgent", f"--nodelist={node}", "--mem=5500", "--time=1"]
    return run("sbatch", "--parsable", "--output=/dev/null", *words, "--wrap=sleep 1").strip()


def requeue_while_it_saves(place: SlurmPlace, trial: str) -> None:
    """Requeue a task that never comes to the end of a save, and so has to be killed."""
    (pid,) = halt(place, trial)
    folder = place.folder(trial).path
    while not unfinished_save(folder):
        halting.proceed(pid)
        while not unfinished_save(folder):
            assert not is_gone(pid), "it was over too soon"
        halting.halt(pid)  # which may be at the end of its save by then
    task = place.task_of(trial)
    run("scontrol", "requeue", task.id)
    while not is_gone(pid):  # Slurm lets halted processes go on when it ends them
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(0.0005)
    assert unfinished_save(folder), "it came to the end of its save"


def unfinished_save(folder: Path) -> bool:
    """Whether a checkpoint is being written, or was when its process was killed."""
    return any(name.startswith(".checkpoint.next") for name in os.listdir(folder))


def running_task(place: SlurmPlace, trial: str) -> ArrayTask | None:
    """The task of a trial if it runs."""
    task = place.task_of(trial)
    return task if task.state == "RUNNING" else None


def processes_of(task: ArrayTask) -> list[int]:
    """The processes of a task."""
    words = {f"SLURM_ARRAY_JOB_ID={task.job}", f"SLURM_ARRAY_TASK_ID={task.task}"}
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            environment = Path(f"/proc/{name}/environ").read_text(errors="replace").split("\0")
            if words <= set(environment):
                found.append(int(name))
    return found


def loads_torch(pid: int) -> bool:
    """Whether a process has begun to load torch."""
    try:
        return "libtorch" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


def submitted(place: SlurmPlace, *words: object) -> list[str]:
    """Submit; which trials that were, sorted."""
    answer = json.loads(place.submit(*words, "--quiet", "--json", code=None).out)
    return sorted(short(trial) for array in answer["arrays"] for trial in array["trials"])


def statuses(place: SlurmPlace) -> dict[str, Any]:
    """What ``deltagclip status`` says of each trial."""
    answer = json.loads(place.call("status", "--json").out)
    return {short(each["folder"]): each for each in answer["trials"]}


def short(folder: str) -> str:
    """``experiment/label/seed`` of a run folder."""
    experiment, label, run_name = Path(folder).parts[-3:]
    return f"{experiment}/{label}/{run_name.split('-')[1]}"


def _pattern(name: str) -> str:
    experiment, label, seed = f"{name}/0".split("/")[:3]
    return f"{experiment}/{label}/seed-{seed}-*"


def requeue_while_halted(place: SlurmPlace, trial: str) -> None:
    """Requeue a task whose trial is halted, and let that go on to save."""
    pids = halt(place, trial)
    run("scontrol", "requeue", place.task_of(trial).id)
    release(pids)


def kill(place: SlurmPlace, trial: str) -> None:
    """Kill the worker of a trial, as the system does for want of memory."""
    (pid,) = halt(place, trial)
    os.kill(pid, signal.SIGKILL)


@contextmanager
def node_down(node: str) -> Iterator[None]:
    """Take a node away, and bring it back."""
    run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        yield
    finally:
        # Slurm refuses if the node has come back by itself.
        run("scontrol", "update", f"nodename={node}", "state=resume", check=False)


def at_once(*deeds: Callable[[], None]) -> None:
    """Do things at the same time; the first that fails fails all."""
    with ThreadPoolExecutor(len(deeds)) as pool:
        for future in [pool.submit(deed) for deed in deeds]:
            future.result()


# ------------------------------------------------------------------ what is seen of them


def is_coming_back(place: SlurmPlace, trial: str) -> bool:
    """Whether the task of a trial waits to be started again."""
    task = place.task_of(trial)
    return task.is_pending and task.restarts > 0


def has_started(place: SlurmPlace, name: str) -> bool:
    """Whether a trial was ever trained."""
    return any(place.runs.glob(f"{_pattern(name)}/environment.json"))


def trial_elsewhere(place: SlurmPlace, experiment: str, node: str) -> str:
    """A trial of an experiment that runs on another node."""

    def find() -> str | None:
        for name, each in statuses(place).items():
            job = each["job"] if each["experiment"] == experiment else None
            if job and job["node"] not in ("", node):
                return name
        return None

    name: str = place.wait_for(find, "a job on another node")
    return name


def state_of(job: str) -> str:
    """What Slurm says of a job that is none of an array."""
    return run("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").strip()


def exit_code(task: ArrayTask) -> str:
    """What Slurm says of how a task ended."""
    return run("scontrol", "show", "job", task.id).partition("ExitCode=")[2].split()[0]


def log_of(place: SlurmPlace, task: ArrayTask) -> str:
    """What a task has printed; nothing if it was ended before."""
    return "".join(file.read_text() for file in place.runs.glob(f".slurm/*/logs/{task.id}.log"))


# ------------------------------------------------------------------ one sweep, struck in many ways

FIRST, SECOND = ["wide/sgd/0", "wide/sgd/1"], ["wide/sgd/2", "wide/sgd/3"]
USR1_TERM, TERM_TERM = "wide/delta-gclip/0", "wide/delta-gclip/1"
USR1_LOADING, TERM_LOADING = "wide/delta-gclip/2", "wide/delta-gclip/3"
TERM_EARLY, USR1_EARLY, CUT_SAVE, MOVED = (f"wide/gclip/{seed}" for seed in SEEDS)
KILLED, BROKEN, SPARED = "trouble/sgd/0", "trouble/broken/0", "trouble/adam/0"
PREEMPTED = ["steady/sgd/0", "steady/adam/0"]
ALL = [f"wide/{label}/{seed}" for label in ("sgd", "delta-gclip", "gclip") for seed in SEEDS]
ALL += [KILLED, BROKEN, SPARED, *PREEMPTED]

BACK = "The time is up: back into the queue."
NO_USE = "No trial came to a checkpoint in this job's time"


@dataclass
class Struck:
    """A sweep whose every job was struck; by the names of trials, what was to be seen.

    Attributes:
        place: where.
        stopped_early: the preempted trials that had a checkpoint, but no whole epoch.
        coming_back: what ``status`` said while the first task was coming back.
        tasks: as Slurm told of them when all were over.
        exits: the exit codes that it told of, likewise.
        logs: what the tasks had printed.
        statuses: what ``status`` said then.
        starts: how often each had been started by then.
        again: which were submitted after that.
        failed_again: which ``--retry-failed`` submitted while those were queued.
    """

    place: SlurmPlace
    stopped_early: list[str] = field(default_factory=list)
    coming_back: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, ArrayTask] = field(default_factory=dict)
    exits: dict[str, str] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, Any] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)
    failed_again: list[str] = field(default_factory=list)

    def stand(self, name: str) -> tuple[str, str]:
        """The state of a trial, and why."""
        return self.statuses[name]["state"], self.statuses[name]["reason"]


@pytest.fixture(scope="module")
def struck(
    timed: SlurmPlace, undisturbed: SlurmPlace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Struck]:
    """A sweep of which every job was struck in another way; all at once, for each has to wait."""
    with placed(tmp_path_factory.mktemp("struck")) as place:
        seen = Struck(place)
        experiments = ["wide", "trouble", "steady"]
        place.submit(*experiments)
        at_once(
            partial(send_while_it_loads, place, USR1_LOADING, "USR1"),
            partial(send_while_it_loads, place, TERM_LOADING, "TERM"),
            partial(send_before_they_begin, place, {TERM_EARLY: "TERM", USR1_EARLY: "USR1"}),
            partial(requeue_while_it_saves, place, CUT_SAVE),
            partial(requeue_while_halted, place, MOVED),
            partial(end_the_time_of_first, seen),
            partial(send_while_halted, place, SECOND, "USR1", "USR1"),
            partial(send_while_halted, place, [USR1_TERM], "USR1", "TERM"),
            partial(send_while_halted, place, [TERM_TERM], "TERM", "TERM"),
            partial(kill, place, KILLED),
            partial(preempt, place, PREEMPTED),
        )
        place.wait_for(lambda: is_coming_back(place, PREEMPTED[0]), "the requeue")
        seen.stopped_early = [
            name
            for name in PREEMPTED
            if (folder := place.folder(name)).checkpoint_file.exists()
            and not folder.metrics_file.read_bytes()
        ]
        homes = {name: place.task_of(name) for name in ALL}
        place.wait_until_quiet()
        over = {task.id: task for task in place.tasks()}
        for name, home in homes.items():
            task = seen.tasks[name] = over[home.id]
            seen.exits[name] = exit_code(task)
            seen.logs[name] = log_of(place, task)
            if has_started(place, name):
                seen.starts[name] = place.starts(name)
        seen.statuses = statuses(place)
        words = [*experiments, "--pack", "8", "--slurm", "setup=[]"]
        seen.again = submitted(place, *words)
        seen.failed_again = submitted(place, *words, "--retry-failed")
        yield seen


def end_the_time_of_first(seen: Struck) -> None:
    """Send the early signal to the first task, and see how ``status`` shows its coming back."""
    send_while_halted(seen.place, FIRST, "USR1")
    seen.place.wait_for(lambda: is_coming_back(seen.place, FIRST[0]), "the requeue")
    seen.coming_back = statuses(seen.place)


def test_a_packed_task_whose_time_is_up_saves_requeues_itself_and_goes_on(struck: Struck) -> None:
    """Both trials stop with a checkpoint; only this task of the array comes back, once."""
    for name in FIRST:
        assert struck.tasks[name].restarts == 1
        assert struck.starts[name] == 2
        assert struck.stand(name) == ("finished", "")
        assert "restarted 1 ×" in struck.coming_back[name]["reason"]
    log = struck.logs[FIRST[0]]
    assert log.count(BACK) == 1
    assert log.count("interrupted: stopped with a checkpoint") == 2
    assert "job " + struck.tasks[FIRST[0]].id + ", restarts 0" in log
    assert "job " + struck.tasks[FIRST[0]].id + ", restarts 1" in log


def test_a_second_signal_before_the_time_is_up_changes_nothing(struck: Struck) -> None:
    """Neither does it requeue the task twice, nor end its trials before they have saved."""
    for name in SECOND:
        assert struck.tasks[name].restarts == 1
        assert struck.starts[name] == 2
        assert struck.stand(name) == ("finished", "")
    assert struck.logs[SECOND[0]].count(BACK) == 1


@pytest.mark.parametrize("name", [USR1_TERM, TERM_TERM])
def test_a_task_that_is_ended_saves_and_does_not_requeue_itself(struck: Struck, name: str) -> None:
    """Even if its time was nearly up, and however often it is told."""
    assert struck.tasks[name].restarts == 0
    assert struck.exits[name] == "75:0"
    assert BACK not in struck.logs[name]
    assert struck.stand(name) == ("interrupted", "stopped with a checkpoint")
    assert name in struck.again


def test_a_preempted_task_saves_in_mid_epoch_and_leaves_the_requeue_to_slurm(
    struck: Struck,
) -> None:
    """Slurm requeues it itself; a requeue of our own would be a second one."""
    assert struck.stopped_early == PREEMPTED
    for name in PREEMPTED:
        assert struck.tasks[name].restarts == 1
        assert struck.starts[name] == 2
        assert struck.stand(name) == ("finished", "")
        assert BACK not in struck.logs[name]
        assert struck.logs[name].count("interrupted: stopped with a checkpoint") == 2


def test_a_task_that_is_requeued_by_hand_saves_and_goes_on(struck: Struck) -> None:
    """``scontrol requeue`` ends a task as a preemption does."""
    assert struck.tasks[MOVED].restarts == 1
    assert struck.starts[MOVED] == 2
    assert struck.stand(MOVED) == ("finished", "")
    assert "interrupted: stopped with a checkpoint" in struck.logs[MOVED]
    assert BACK not in struck.logs[MOVED]


def test_a_task_that_is_killed_while_it_saves_goes_on_from_the_checkpoint_before(
    struck: Struck,
) -> None:
    """Half a file counts for nothing, and is removed."""
    assert struck.tasks[CUT_SAVE].restarts == 1
    assert struck.starts[CUT_SAVE] == 2
    assert struck.stand(CUT_SAVE) == ("finished", "")
    assert not unfinished_save(struck.place.folder(CUT_SAVE).path)


def test_a_task_whose_time_is_up_before_its_trials_get_anywhere_is_not_requeued(
    struck: Struck,
) -> None:
    """Else it would come back for ever; its log and the status say why it does not."""
    assert struck.tasks[USR1_LOADING].restarts == 0
    assert struck.exits[USR1_LOADING] == "75:0"
    assert NO_USE in struck.logs[USR1_LOADING]
    assert BACK not in struck.logs[USR1_LOADING]
    state, reason = struck.stand(USR1_LOADING)
    assert state == "interrupted"
    assert "no checkpoint" in reason
    assert USR1_LOADING in struck.again


def test_a_task_that_is_ended_while_it_loads_torch_leaves_nothing_broken(struck: Struck) -> None:
    """It ends as if it had been stopped later, and is submitted again."""
    assert struck.tasks[TERM_LOADING].restarts == 0
    assert struck.exits[TERM_LOADING] == "75:0"
    assert BACK not in struck.logs[TERM_LOADING]
    assert "Traceback" not in struck.logs[TERM_LOADING]
    assert TERM_LOADING not in struck.starts
    assert TERM_LOADING in struck.again


def test_signals_before_the_program_runs_do_no_harm(struck: Struck) -> None:
    """The first lines of a script leave the early signal alone, and are ended by the other."""
    assert struck.tasks[USR1_EARLY].restarts == 0
    assert struck.starts[USR1_EARLY] == 1
    assert struck.stand(USR1_EARLY) == ("finished", "")
    assert struck.exits[TERM_EARLY] == "0:15"
    assert TERM_EARLY not in struck.starts
    assert struck.stand(TERM_EARLY)[0] == "lost"
    assert TERM_EARLY in struck.again


def test_a_worker_that_is_killed_and_a_trial_that_fails_leave_the_others_of_a_task_alone(
    struck: Struck,
) -> None:
    """Both are recorded, and the task says that something went wrong."""
    assert struck.stand(SPARED) == ("finished", "")
    assert struck.starts[SPARED] == 1
    state, reason = struck.stand(KILLED)
    assert (state, reason.partition(",")[0]) == ("interrupted", "killed by SIGKILL")
    state, reason = struck.stand(BROKEN)
    assert state == "failed"
    assert "ZeroDivisionError" in reason
    assert struck.tasks[BROKEN].state == "FAILED"
    assert struck.exits[BROKEN] == "1:0"
    assert struck.tasks[BROKEN].restarts == 0


def test_after_all_that_the_next_submission_is_of_what_was_ended_and_ends_as_undisturbed(
    struck: Struck, undisturbed: SlurmPlace
) -> None:
    """Of all trials to the bit, in which failed ones have no part unless that is asked for."""
    left = [USR1_TERM, TERM_TERM, USR1_LOADING, TERM_LOADING, TERM_EARLY, KILLED]
    assert struck.again == sorted(left)
    assert struck.failed_again == [BROKEN]
    struck.place.wait_until_quiet()
    assert_unharmed(struck.place, undisturbed, len(ALL) - 1)
    assert struck.place.states(BROKEN) == ["failed"]
    assert struck.place.starts(BROKEN) == 2
    assert [struck.place.starts(name) for name in left] == [2, 2, 1, 1, 1, 2]
    assert submitted(struck.place, "wide", "trouble", "steady") == []


# ------------------------------------------------------------------ the true time limit


@pytest.fixture(scope="module")
def timed(
    cluster: Cluster, undisturbed: SlurmPlace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SlurmPlace]:
    """A sweep whose job is halted until Slurm finds that its time is nearly up."""
    with placed(tmp_path_factory.mktemp("timed")) as place, ThreadPoolExecutor(1) as pool:
        # Slurm gives notice up to a minute too early: so of a limit of one, when a job begins.
        words = ["--optimizer", "sgd", "--seed", "0", "--slurm", "time=2"]
        place.submit("brief", *words)
        waiting = pool.submit(lambda: release(halt(place, "brief/sgd")))
        yield place
        waiting.result()


def test_the_true_time_limit_is_met_with_a_checkpoint(
    timed: SlurmPlace, undisturbed: SlurmPlace
) -> None:
    """Slurm gives notice, the trial saves, the task comes back and ends as undisturbed."""
    timed.wait_for(lambda: timed.results(), "its end")
    timed.wait_until_quiet()
    (task,) = timed.tasks()
    assert (task.restarts, task.state) == (1, "COMPLETED")
    assert timed.logs().count(BACK) == 1
    assert timed.starts("brief/sgd") == 2
    assert_unharmed(timed, undisturbed, 1)


# ------------------------------------------------------------------ cancelling


def test_cancelling_ends_exactly_what_was_meant(
    cluster: Cluster, undisturbed: SlurmPlace, tmp_path: Path
) -> None:
    """One task, an experiment, or all; never the jobs of another place, nor foreign ones."""
    with (
        placed(tmp_path / "here") as place,
        placed(tmp_path / "there") as other,
        foreign_job() as foreign,
    ):
        wide = ["--optimizer", "gclip", "--slurm", "throttle=3", "--slurm", "setup=[]"]
        held = ["--optimizer", "sgd", "--seed", "0", "--slurm", "sbatch=--hold"]
        place.submit("brief", *held)
        other.submit("wide", *held)
        place.submit("wide", *wide)  # at last, for its trials are to be halted before they end
        trials = [f"wide/gclip/{seed}" for seed in SEEDS]
        alone, first, second, waiting = trials
        pids = halt(place, *trials[:3])
        task = place.task_of(waiting)
        assert (task.state, task.reason) == ("PENDING", "JobArrayTaskLimit")
        run("scontrol", "hold", task.id)  # else it would begin in the place of the first

        run("scancel", place.task_of(alone).id)
        release(pids[:1])
        place.wait_for(lambda: not place.task_of(alone).is_alive, "its end")
        assert is_gone(pids[0])
        assert [place.task_of(name).state for name in (first, second)] == ["RUNNING"] * 2
        assert place.states(alone) == ["interrupted"]

        said = place.call("cancel", "wide", "--dry-run").out
        assert "Would end 2 running tasks and 1 waiting" in said
        said = place.call("cancel", "wide").out
        assert "Ended 2 running tasks and 1 waiting" in said
        release(pids[1:])
        place.wait_for(lambda: all(map(is_gone, pids)), "their end")
        place.wait_for(
            lambda: [each.state for each in place.tasks() if each.is_alive] == ["PENDING"],
            "the end of the others",
        )
        stand = statuses(place)
        for name in trials[:3]:
            assert stand[name]["state"] == "interrupted"
            assert place.folder(name).reason == "stopped with a checkpoint"
            assert place.folder(name).checkpoint_file.exists()
            assert place.task_of(name).restarts == 0
        assert (stand[waiting]["state"], stand[waiting]["reason"].split()[-2:]) == (
            "new",
            ["was", "cancelled"],
        )
        assert stand["brief/sgd/0"]["state"] == "queued"
        assert BACK not in place.logs()

        assert submitted(place, "wide", *wide, "--pack", 4) == trials
        assert "Ended 0 running tasks and 1 waiting" in place.call("cancel", "brief").out
        assert "No jobs wait or run." in place.call("cancel", "brief").out
        assert [each.state for each in other.tasks()] == ["PENDING"]
        assert state_of(foreign) == "RUNNING"
        place.wait_until_quiet()
        assert_unharmed(place, undisturbed, 4)
        assert [place.starts(name) for name in trials] == [2, 2, 2, 1]


@contextmanager
def foreign_job() -> Iterator[str]:
    """A job of the same user that is none of ours."""
    words = ["--partition=main", "--output=/dev/null", "--job-name=wide-0", "--wrap=sleep 600"]
    job = run("sbatch", "--parsable", *words).strip()
    try:
        yield job
    finally:
        run("scancel", job)


# ------------------------------------------------------------------ all of it


def test_a_sweep_survives_everything(
    cluster: Cluster, undisturbed: SlurmPlace, tmp_path: Path
) -> None:
    """24 trials in two partitions: preempted, out of time, robbed of a node, submitted again."""
    words = ["wide", "brief", "--pack", 2]
    own = "cpus: 1, time: 10, partition: preemptable, mem: 5000, throttle: 4"  # one a node
    gate = f"setup: ['{GATE}']"  # so nothing is over before it is watched
    spec = re.sub(r"slurm:\n( {6}.*\n)+", f"slurm: {{{own}, {gate}}}\n", SPEC)
    spec = spec.replace("time: 2}", f"time: 2, throttle: 2, {gate}}}")
    with placed(tmp_path / "here", spec) as place:
        assert len(submitted(place, *words)) == 24

        last = place.task_of("wide/gclip/3")
        assert last.is_pending
        run("scancel", last.id)
        assert submitted(place, *words) == ["wide/gclip/2", "wide/gclip/3"]

        preempted, cut = "wide/sgd/0", "brief/sgd/0"
        node = place.wait_for(lambda: place.task_of(preempted).node, "its start")
        robbed = trial_elsewhere(place, "wide", node)
        at_once(
            partial(preempt, place, [preempted]),
            partial(send_while_halted, place, [cut], "USR1"),
            partial(halt, place, robbed),
            (place.path / "open").touch,
        )
        with node_down(place.task_of(robbed).node):
            place.wait_for(lambda: is_coming_back(place, robbed), "its requeue")
        assert submitted(place, *words) == []
        homes = {place.task_of(name).id: name for name in (preempted, cut, robbed)}
        place.wait_until_quiet()
        restarted = {
            homes[task.id] for task in place.tasks() if homes.get(task.id) and task.restarts
        }
        assert restarted == {preempted, cut, robbed}
        assert all(place.starts(name) >= 2 for name in restarted)
        assert "DUE TO PREEMPTION" in place.logs()
        assert place.logs().count(BACK) == 1
        assert submitted(place, *words) == []
        assert_unharmed(place, undisturbed, 24)
