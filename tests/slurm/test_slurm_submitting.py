"""What is submitted, what Slurm refuses, what is submitted by hand, and what jobs make of names."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from halting import halt, proceed
from slurm_cases import FOLDER, Cluster, SlurmPlace, run
from sweep_cases import assert_same_numbers, assert_tells_people, draw_pictures

from deltagclip_cli.runs.hold import read_owner
from deltagclip_cli.slurm.client import ArrayTask

pytestmark = pytest.mark.slurm

HELD = ["--slurm", "sbatch=--hold"]
TINY = """\
experiments:
  tiny:
    model: {name: mlp, hidden: [16]}
    data: {name: synthetic, batch_size: 8, size: 4, train: 32, test: 16}
    epochs: 500
    optimizers:
      sgd: {name: sgd, lr: 0.1}
      adam: {name: adam, lr: 1e-3}
    slurm:
"""

# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("slurm", "words", "place", "refusal"),
    [
        ("partition: nope", "", "slurm", "Invalid partition name specified"),
        ("{partition: short, time: 10}", "", "slurm", "Requested time limit is invalid"),
        ("{mem: 100, sbatch: --mem-per-cpu=100}", "", "slurm", "mutually exclusive"),
        ("{nodes: 1, gpus: 9}", "", "slurm", "node configuration is not available"),
        ("sbatch: --gres=foo:1", "", "slurm", "Invalid generic resource (gres)"),
        ("constraint: nope", "", "slurm", "Invalid feature specification"),
        ("{cpus: 99, time: 5}", "", "slurm", "More processors requested than permitted"),
        (
            "optimizers: {sgd: {partition: nope}}",
            "--optimizer sgd",
            "slurm › optimizers › sgd",
            "Invalid partition name specified",
        ),
        ("time: 5", "--slurm mem=900G", "slurm", "Memory specification can not be satisfied"),
    ],
)
def test_what_slurm_refuses_is_said_in_its_words_with_the_line_that_caused_it(
    slurm: str, words: str, place: str, refusal: str, make_place: Callable[..., SlurmPlace]
) -> None:
    here = make_place(f"{TINY}      {slurm}\n")
    done = here.submit(*words.split(), code=2)
    assert_tells_people(done)
    _, cause, *told = done.out.splitlines()
    assert refusal in "\n".join(told)
    line, column = _position(here, place.split(" › "))
    asked = f" with {words}" if words.startswith("--slurm") else ""
    at = f"experiments.yaml:{line}:{column}: tiny › {place}{asked}"
    assert cause == f"error: {at}: sbatch refuses this."
    assert sorted(path.name for path in here.path.iterdir()) == ["experiments.yaml"]


def _position(place: SlurmPlace, keys: list[str]) -> tuple[int, int]:
    """Where the last of some keys stands, which is after the others."""
    text = (place.path / "experiments.yaml").read_text()
    at = text.index("    slurm:")
    for key in keys:
        at = text.index(f"{key}:", at)
    before = text[:at]
    return before.count("\n") + 1, at - before.rfind("\n")


# ---------------------------------------------------------------- what is submitted


@pytest.fixture
def small_arrays(cluster: Cluster) -> Iterator[None]:
    """A cluster whose arrays have at most four tasks."""
    extra = FOLDER / "extra.conf"
    if extra.exists():
        pytest.skip(f"{extra} is somebody's")
    extra.write_text("MaxArraySize=4\n")
    try:
        cluster.up()
        yield
    finally:
        extra.unlink()
        cluster.up()


def test_trials_go_into_arrays_by_what_they_need_and_never_into_too_large_ones(
    small_arrays: None, make_place: Callable[..., SlurmPlace]
) -> None:
    place = make_place(
        TINY.replace("    epochs", "    seeds: [0, 1, 2, 3, 4]\n    epochs")
        + "      {time: 10, throttle: 2, sbatch: [--hold, --nice=7], optimizers: "
        "{adam: {cpus: 2, pack: 2, partition: preemptable}}}\n"
    )
    done = place.submit("--slurm", "time=3")
    assert "10 to submit: 8 tasks in 3 arrays." in done.out
    shown = "%j|%K|%C|%l|%P|%y|%T|%r"
    arrays = [run("squeue", "-h", "-j", each.job, "-o", shown).strip() for each in place.arrays]
    rest = "PENDING|JobHeldUser"
    names = [each.job_name for each in place.arrays]
    assert arrays == [
        f"{names[0]}|0-3%2|1|3:00|main|7|{rest}",
        f"{names[1]}|0%2|1|3:00|main|7|{rest}",
        f"{names[2]}|0-2%2|2|3:00|preemptable|7|{rest}",
    ]
    heads = [each.read() for each in place.arrays]
    assert [len(folders) for _, folders in heads] == [4, 1, 5]
    assert len({folder for _, folders in heads for folder in folders}) == 10
    assert "queued: 10\n  10: JobHeldUser" in place.call("status").out


def test_two_sweeps_at_one_moment_submit_each_trial_once(
    make_place: Callable[..., SlurmPlace],
) -> None:
    place = make_place(f"{TINY}      sbatch: --hold\n")
    with ThreadPoolExecutor() as pool:
        sweeps = [pool.submit(place.submit) for _ in range(3)]
        told = sorted(each.result().out.count("There is nothing to submit.") for each in sweeps)
    assert told == [0, 1, 1]
    assert [(task.task, task.state) for task in place.tasks()] == [(0, "PENDING"), (1, "PENDING")]


# ---------------------------------------------------------------- by hand


def test_a_script_that_was_edited_and_submitted_by_hand_twice_runs_each_trial_once(
    make_place: Callable[..., SlurmPlace],
) -> None:
    place = make_place(f"{TINY}      {{cpus: 1, time: 10, sbatch: --hold}}\n")
    place.submit()
    (array,) = place.arrays
    assert "Ended 0 running tasks and 2 waiting" in place.call("cancel").out
    text = array.script.read_text()
    changes = {"--time=10": "--time=7", "--array=0-1": "--array=0-0", "#SBATCH --hold\n": ""}
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    array.script.write_text(text)
    jobs = [run("sbatch", "--parsable", array.script, cwd="/").strip() for _ in range(2)]
    place.wait_until_under_way("tiny/sgd")
    owner = read_owner(place.folder("tiny/sgd"))
    assert owner is not None
    halt(owner.pid)  # so it is not over before it is asked about
    assert "running: 1" in place.call("status").out
    assert "1 to submit" in place.submit().out  # only the trial that the edited script leaves out
    assert "There is nothing to submit." in place.submit().out
    proceed(owner.pid)
    place.wait_for(lambda: not _alive(place, jobs), "the end of both jobs")
    ended = [(task.job, task.task, task.state) for task in place.tasks() if task.job in jobs]
    assert ended == [(jobs[0], 0, "COMPLETED"), (jobs[1], 0, "COMPLETED")]
    limits = run("squeue", "-h", "-t", "all", "-j", ",".join(jobs), "-o", "%l").split()
    assert limits == ["7:00", "7:00"]
    assert place.states("tiny/sgd") == ["finished"]
    assert place.starts("tiny/sgd") == 1
    assert "queued: 1" in place.call("status").out


def _alive(place: SlurmPlace, jobs: list[str]) -> list[ArrayTask]:
    return [task for task in place.tasks() if task.is_alive and task.job in jobs]


# ---------------------------------------------------------------- names, disks and data

PICTURES = """\
experiments:
  pictures:
    model: {name: mlp, hidden: [4]}
    data: {name: image_folder, path: pictures, batch_size: 4}
    epochs: 2
    optimizers:
      sgd: {name: sgd, lr: 0.1}
    slurm:
      cpus: 1
      time: 10
"""
CANARY = "touch ..${PWD%${PWD#?}}canary"
ODD = f"a 'b' \"c\" $({CANARY.replace('/', '')}) `{CANARY}` %j %% $HOME #d;&|ü*[1-2] ~"


@pytest.fixture
def make_read_only() -> Iterator[Callable[[Path], None]]:
    """Makes a folder one that nobody can write."""
    mounted: list[Path] = []

    def make(folder: Path) -> None:
        for options in (["--bind", folder, folder], ["-o", "remount,bind,ro", folder]):
            done = subprocess.run(["mount", *options], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no disk can be made read-only here: {done.stderr.strip()}")
            if folder not in mounted:
                mounted.append(folder)

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def test_no_name_is_ever_a_command_and_nothing_is_written_where_jobs_are_submitted(
    make_place: Callable[..., SlurmPlace],
    make_read_only: Callable[[Path], None],
    tmp_path: Path,
) -> None:
    place = make_place(PICTURES, ODD)
    place.runs, data = tmp_path / f"runs {ODD}", tmp_path / f"data {ODD}"
    local = tmp_path / f"local {ODD.replace('$', '')}"  # there, variables are meant
    greeting = tmp_path / "greeting"
    settings = {
        "account": f"x {ODD}".lower(),  # as Slurm keeps it
        "local_data": f"{local}-$SLURM_JOB_ID",
        "sbatch": [f"--comment={_double_quoted(ODD)}"],
        "setup": [f"export GREETING=$(echo 'it'\"'\"'s {ODD.replace(chr(39), '')}')",
                  f'printf %s "$GREETING" > "{greeting}"'],
    }  # fmt: skip
    words = ["--runs", place.runs, "--data", data]
    for key, value in settings.items():
        words += ["--slurm", f"{key}={json.dumps(value)}"]
    draw_pictures(data)
    place.call("data", "prepare", "--data", data)
    make_read_only(place.path)
    done = place.submit(code=2)
    assert_tells_people(done)
    assert "runs" in done.out and "Read-only file system" in done.out
    place.submit(*words)
    (array,) = place.arrays
    place.wait_until_quiet()
    (task,) = place.tasks()
    assert task.state == "COMPLETED", place.report()
    assert place.states("pictures/sgd") == ["finished"]
    assert [file.name for file in array.logs.iterdir()] == [f"{task.id}.log"]
    assert greeting.read_text() == f"it's {ODD.replace(chr(39), '')}"
    asked = run("squeue", "-h", "-t", "all", "-j", task.id, "-o", "%a\n%k\n%Z").splitlines()
    assert asked == [f"x {ODD}".lower(), ODD, str(place.path)]
    number = run("squeue", "-h", "-t", "all", "-j", task.id, "-o", "%A").strip()
    (copy,) = Path(f"{local}-{number}").glob(".decoded/*.pt")
    (original,) = data.glob(".decoded/*.pt")
    assert copy.read_bytes() == original.read_bytes()
    assert f"copying data to {local}-{number}" in place.logs()
    assert not [*tmp_path.rglob("*canary"), *Path.home().glob("*canary")]
    assert "finished" in place.call("status", "--runs", place.runs).out


def _double_quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.parametrize("name", ["a\\b", "a\ntouch canary\n"], ids=["backslash", "line break"])
def test_names_that_slurm_cannot_take_are_refused_before_anything_is_made(
    name: str, make_place: Callable[..., SlurmPlace]
) -> None:
    place = make_place(f"{TINY}      time: 10\n")
    runs = place.path / name
    done = place.submit("--runs", runs, code=2)
    assert_tells_people(done)
    assert "--runs DIR" in done.out
    assert not runs.exists()
    assert_tells_people(place.submit("--runs", runs, "--dry-run", code=2))


def test_a_folder_with_a_line_break_is_no_place_to_submit_from(
    make_place: Callable[..., SlurmPlace], tmp_path: Path
) -> None:
    place = make_place(f"{TINY}      time: 10\n", "a\ntouch canary\n")
    done = place.submit("--runs", tmp_path / "runs", code=2)
    assert_tells_people(done)
    assert not (tmp_path / "runs").exists()


def test_a_job_without_data_says_what_to_run_and_its_trial_can_be_submitted_again(
    make_place: Callable[..., SlurmPlace],
) -> None:
    place = make_place(PICTURES.replace("image_folder, path: pictures", "mnist"))
    place.submit("--data", "nowhere")
    place.wait_until_quiet()
    (task,) = place.tasks()
    assert (task.state, task.reason) == ("FAILED", "NonZeroExitCode")
    assert "deltagclip data prepare" in place.logs()
    assert "Traceback" not in place.logs()
    assert not (place.path / "nowhere").exists(), "nothing is downloaded"
    assert place.states("pictures/sgd") == ["interrupted"]
    status = place.call("status").out
    assert "failed" not in status
    assert "interrupted: 1" in status
    assert "1 to submit" in place.submit("--data", "nowhere", *HELD).out


# ---------------------------------------------------------------- once more


def test_what_is_forced_or_retried_goes_on_after_a_requeue_and_does_not_begin_again(
    place: SlurmPlace, undisturbed: SlurmPlace
) -> None:
    shutil.copytree(undisturbed.runs / "long", place.runs / "long")
    failed, forced = place.folder("long/sgd"), place.folder("long/delta-gclip")
    before = forced.result_file.stat().st_mtime_ns
    for file in failed.path.iterdir():
        if file != failed.trial_file:
            file.unlink()
    failed.error_file.write_text("it failed\n")
    assert "There is nothing to submit." in place.submit("long", code=1).out
    assert "1 to submit" in place.submit("long", "--retry-failed").out
    assert "1 to submit" in place.submit("long", "--force", "--yes").out  # the other is queued
    place.wait_for(lambda: forced.result() is None, "the deletion")
    place.wait_until_under_way("long/sgd", "long/delta-gclip", epochs=150)
    assert not failed.error_file.exists()
    for label in ("sgd", "delta-gclip"):
        run("scontrol", "requeue", place.task_of(f"long/{label}").id)
    place.wait_for(lambda: not place.workers(), "the end of both")
    reached = {name: _epochs(place, name) for name in ("long/sgd", "long/delta-gclip")}
    place.wait_until_quiet()
    assert_same_numbers(place, undisturbed, count=2)
    assert forced.result_file.stat().st_mtime_ns > before
    for name, epochs in reached.items():
        assert 150 <= epochs < 3000
        assert place.starts(name) == 2
        log = place.folder(name).log_file.read_text()
        assert log.count(" epoch 1/3000 ") == 1, "it did not begin again"
    assert [task.restarts for task in place.tasks()] == [1, 1]


def _epochs(place: SlurmPlace, name: str) -> int:
    return place.folder(name).metrics_file.read_bytes().count(b"\n")
