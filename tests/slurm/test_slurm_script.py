"""The scripts of array jobs, word for word."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from slurm_fakes import is_shell

from deltagclip_cli.core import UsageError
from deltagclip_cli.launch.launcher import SweepRequest
from deltagclip_cli.plan.planned import look_up
from deltagclip_cli.slurm.array import Array, Head, render
from deltagclip_cli.slurm.submit import SlurmLauncher
from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.slurm_settings import Resources
from deltagclip_cli.spec.trial import expand
from deltagclip_cli.terminal.console import make_console

PLACE = "/runs/.slurm/20260101-000000-abcd/tiny-0"


def rendered(
    place: str = PLACE,
    folder: str = "/home/me",
    command: Sequence[str] = ("python", "-m", "deltagclip_cli", "job", f"{PLACE}.jsonl"),
    pack: int = 1,
    count: int = 3,
    **resources: Any,
) -> str:
    head = Head("tiny", pack, 1.0, count)
    asked = Resources.model_validate(resources)
    script = render(Array(Path(place)), head, asked, command, Path(folder))
    assert is_shell(script)
    return script


def options(script: str) -> list[str]:
    return [line[8:] for line in script.splitlines() if line.startswith("#SBATCH ")]


SMALLEST = """\
#!/bin/bash
# 3 trials of tiny, 1 a task. To submit it by hand:
#   sbatch /runs/.slurm/20260101-000000-abcd/tiny-0.sbatch
#SBATCH --job-name=tiny-0.20260101-000000-abcd
#SBATCH --array=0-2
#SBATCH --output=/runs/.slurm/20260101-000000-abcd/logs/%A_%a.log
#SBATCH --chdir=/home/me
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120

trap '' USR1  # comes before the time limit; the program has its own answer to it
exec python -m deltagclip_cli job /runs/.slurm/20260101-000000-abcd/tiny-0.jsonl
"""

FULLEST = """\
#!/bin/bash
# 7 trials of tiny, 2 a task. To submit it by hand:
#   sbatch /runs/.slurm/20260101-000000-abcd/tiny-0.sbatch
#SBATCH --job-name=tiny-0.20260101-000000-abcd
#SBATCH --array=0-3%4
#SBATCH --output=/runs/.slurm/20260101-000000-abcd/logs/%A_%a.log
#SBATCH --chdir=/home/me
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@60
#SBATCH --partition=gpu
#SBATCH --account=lab-1
#SBATCH --qos=high
#SBATCH --constraint="a100&nvlink"
#SBATCH --nodes=1
#SBATCH --mem=16G
#SBATCH --time=1-12:00:00
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:2
#SBATCH --exclude=n7
#SBATCH -L matlab
#SBATCH -k

trap '' USR1  # comes before the time limit; the program has its own answer to it
module load cuda
source '/my venv/bin/activate'
exec python -m deltagclip_cli job /runs/.slurm/20260101-000000-abcd/tiny-0.jsonl
"""


def test_what_is_not_asked_for_is_not_in_the_script() -> None:
    assert rendered() == SMALLEST


def test_everything_that_can_be_asked_for_has_its_line() -> None:
    resources = {
        "partition": "gpu",
        "account": "lab-1",
        "qos": "high",
        "constraint": "a100&nvlink",
        "nodes": 1,
        "gpus": 2,
        "cpus": 4,
        "mem": "16G",
        "time": "1-12:00:00",
        "notice": 60,
        "throttle": 4,
        "local_data": "$TMPDIR/data",
        "sbatch": ["--exclude=n7", "-L matlab", "-k"],
        "setup": ["module load cuda", "source '/my venv/bin/activate'"],
    }
    assert rendered(pack=2, count=7, **resources) == FULLEST


@pytest.mark.parametrize(
    ("resources", "line"),
    [
        ({"gpus": "a100"}, "--gres=gpu:a100"),
        ({"gpus": "a100:2"}, "--gres=gpu:a100:2"),
        ({"gpus": 0}, None),
        ({"mem": 0}, "--mem=0"),
        ({"mem": 500}, "--mem=500"),
        ({"time": 90}, "--time=90"),
        ({"time": "UNLIMITED"}, "--time=UNLIMITED"),
        ({"partition": "gpu,cpu"}, '--partition="gpu,cpu"'),
        ({"constraint": '"'}, '--constraint="\\""'),
        ({"constraint": "\\"}, '--constraint="\\\\"'),
        ({"sbatch": ["--comment='a b; c'"]}, "--comment='a b; c'"),
        ({"sbatch": ["--gres=tmp:5G"]}, "--gres=tmp:5G"),
        ({"gpus": 1, "sbatch": ["--gres=tmp:5G"]}, "--gres=gpu:1,tmp:5G"),
    ],
)
def test_a_setting_has_one_line(resources: dict[str, Any], line: str | None) -> None:
    plain, asked = options(rendered()), options(rendered(**resources))
    notice = "--signal=B:USR1@"
    more = [each for each in asked if each not in plain and not each.startswith(notice)]
    assert more == ([] if line is None else [line])


@pytest.mark.parametrize(
    ("resources", "seconds"),
    [
        ({}, 120),
        ({"time": "1:00:00"}, 120),
        ({"time": 8}, 120),
        ({"time": 4}, 60),
        ({"time": "2:00"}, 30),
        ({"time": "0:02"}, 1),
        ({"time": "2:00", "notice": 90}, 90),
        ({"notice": 600}, 600),
    ],
)
def test_the_notice_is_two_minutes_or_a_quarter_of_a_short_limit(
    resources: dict[str, Any], seconds: int
) -> None:
    assert f"--signal=B:USR1@{seconds}" in options(rendered(**resources))


@pytest.mark.parametrize(("count", "pack", "last"), [(1, 1, 0), (4, 4, 0), (5, 4, 1), (9, 3, 2)])
def test_there_are_as_many_tasks_as_packs_are_needed(count: int, pack: int, last: int) -> None:
    assert f"--array=0-{last}" in options(rendered(count=count, pack=pack))


NASTY = """it's a "run" $(touch X) `touch X`; %A #é"""


def test_names_that_mean_something_to_a_shell_or_to_slurm_are_names() -> None:
    place = f"/{NASTY}/.slurm/s/tiny-0"
    script = rendered(place, f"/{NASTY}\\", ["python", f"{place}.jsonl", NASTY])
    escaped = NASTY.replace('"', '\\"')
    assert f'--chdir="/{escaped}\\\\"' in options(script)
    pattern = escaped.replace("%", "%%")
    assert f'--output="/{pattern}/.slurm/s/logs"/%A_%a.log' in options(script)
    *_, last = script.splitlines()
    quoted = NASTY.replace("'", "'\"'\"'")
    assert last == f"exec python '/{quoted}/.slurm/s/tiny-0.jsonl' '{quoted}'"


@pytest.mark.parametrize(
    ("part", "broken"),
    [
        *((part, path) for part in ("place", "folder") for path in ("\nrm -rf b", "a\rb", "\x1b")),
        ("place", "a\\b"),  # in the name of a log, this means that nothing is replaced in it
    ],
)
def test_a_path_that_would_be_several_lines_or_no_name_of_a_log_is_refused(
    part: str, broken: str
) -> None:
    with pytest.raises(UsageError, match="with such a name"):
        rendered(**{part: f"/{broken}/.slurm/s/tiny-0"})


def test_nothing_is_run_by_a_script_but_its_command(tmp_path: Path) -> None:
    """Bash, given the script, is to do the setup lines, and then to become the command."""
    place = str(tmp_path / "$(touch X)`touch X`'\"; touch X #" / ".slurm" / "s" / "tiny-0")
    command = ["/bin/sh", "-c", 'printf "%s\\n" "$WORD" "$$" "$@"', "sh", place, "$HOME", "a\nb"]
    script = rendered(place, place, command, setup=["export WORD=set", "cd /"])
    done = subprocess.run(
        ["/bin/bash", "-c", 'echo $$; exec /bin/bash "$@"', "bash", "/dev/stdin"],
        input=script,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    first, word, process, *words = done.stdout.splitlines()
    assert (word, words) == ("set", [place, "$HOME", "a", "b"])
    assert process == first, "it is the command that Slurm's signals must reach"
    assert list(tmp_path.iterdir()) == []


PAGE = Path(__file__).parents[2] / "docs" / "guides" / "cluster.md"
OF_THE_PAGE = """\
experiments:
  my-experiment:
    model: {name: mlp, hidden: [4]}
    data: {name: synthetic, batch_size: 4, size: 4, train: 8, test: 8}
    epochs: 1
    seeds: SEEDS
    optimizers:
      sgd: {name: sgd, lr: 0.1}
      adam: {name: adam, lr: 1e-3}
"""


def test_the_page_shows_the_script_of_its_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, script = re.findall(r"```(?:yaml|sh)\n((?: {4}slurm:|#!/bin/bash).*?)```",
                                  PAGE.read_text(), re.DOTALL)  # fmt: skip
    monkeypatch.setattr(sys, "executable", "/home/me/.venv/bin/python")
    text = OF_THE_PAGE.replace("SEEDS", str(list(range(24))))
    (tmp_path / "experiments.yaml").write_text(text + settings)
    spec = load_spec(tmp_path / "experiments.yaml")
    trials = expand("my-experiment", spec.experiments["my-experiment"])
    runs, data = Path("/home/me/runs"), Path("/home/me/data")
    request = SweepRequest(spec=spec, runs=runs, data=data, console=make_console())
    batch = SlurmLauncher(request).batches(look_up(list(trials), runs), 1001)[0]
    rendered = batch.script.replace(batch.array.path.parent.name, "20261123-180000-3f2a81c0")
    assert rendered.replace(f"--chdir={Path.cwd()}", "--chdir=/home/me") == script
