"""Slurm's commands as small scripts that keep a queue in a file, for tests without a Slurm.

They take the words that ``deltagclip`` says to the real ones and refuse others. Nothing is ever
run: a test says what becomes of the jobs. ``tests/slurm`` has the real ones.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.slurm.array import FOLDER, Array, Head, ListedTrial, Marks
from deltagclip_cli.spec.trial import Trial

SILENCE = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol", "sacct")
FIELDS = "Name:|,ArrayJobID:|,ArrayTaskID:|,State:|,Reason:|,NodeList:|,RestartCnt:|"

# What every script begins with: a line of what it was told, and the failure that a test asked for.
_BEGIN = """\
#!/bin/sh
PATH=/usr/bin:/bin
cd {folder} || exit 99
program=${{0##*/}}
{{ printf '%s' "$program"; printf '\\t%s' "$@"; printf '\\n'; }} >> calls
/usr/bin/env > "environment-$program"
if [ -f "fail-$program" ]; then
  cat "fail-$program" >&2
  exit "$(cat "code-$program")"
fi
refuse() {{ echo "$program: error: $1" >&2; exit 1; }}
"""
_BODIES = {
    "sbatch": """\
[ "$#" = 2 ] && [ "$1" = --parsable ] || refuse "the fake takes --parsable FILE, not $*"
number=$(($(cat number) + 1))
name=$(sed -n 's/^#SBATCH --job-name=//p' "$2")
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$2")
[ -n "$last" ] || refuse "Invalid job array specification"
echo "$number" > number
cp "$2" "script-$number"
seq 0 "$last" | sed "s/.*/$name|$number|&|PENDING|Priority||0|/" >> queue
echo "$number$(cat suffix)"
""",
    "squeue": f"""\
[ "$1 $2 $3 $4" = "--noheader --array --all --states=all" ] || refuse "the fake does not take $*"
[ "$6" = "--Format={FIELDS}" ] || refuse "the fake does not know the format $6"
awk -F'|' -v names=",${{5#--name=}}," 'index(names, "," $1 ",")' queue
""",
    "scancel": """\
for job; do
  grep -q "^[^|]*|$job|" queue || refuse "Kill job error on job id $job: Invalid job id specified"
  sed -i "/^[^|]*|$job|[0-9]*|\\(PENDING\\|RUNNING\\)|/s/PENDING\\|RUNNING/CANCELLED/" queue
done
""",
    "scontrol": """\
case "$*" in
  "show config") echo "MaxArraySize            = $(cat largest)";;
  "show job "*) echo "   PreemptEligibleTime=2026-01-01T00:00:00 PreemptTime=$(cat preempted)";;
  "requeue "*) ;;
  *) refuse "the fake does not take $*";;
esac
""",
    "sacct": """\
[ -f records ] || refuse "Slurm accounting storage is disabled"
[ "$1 $2 $3 $4 $6 $7" = "-X -n -P -j -o JobID,State" ] || refuse "the fake does not take $*"
awk -F'[_|]' -v jobs=",$5," 'index(jobs, "," $1 ",")' records
""",
}


@dataclass(frozen=True)
class FakeTask:
    """A line of the queue."""

    name: str
    job: str
    task: str
    state: str = "PENDING"
    reason: str = "Priority"
    node: str = ""
    restarts: str = "0"

    @property
    def line(self) -> str:
        words = (self.name, self.job, self.task, self.state, self.reason, self.node, self.restarts)
        return "".join(f"{word}|" for word in words) + "\n"


class FakeSlurm:
    """The scripts, and the files in which they keep what they were told and are to tell.

    Args:
        folder: for those files; ``bin`` in it is for the PATH.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir(parents=True)
        self.answer(number="16", suffix="", queue="", calls="", preempted="None", largest="1001")
        for program in PROGRAMS:
            script = self.bin / program
            script.write_text(_BEGIN.format(folder=f"'{folder}'") + _BODIES[program])
            script.chmod(0o755)

    def answer(self, **files: str) -> None:
        """Set what is told: ``number`` of the last job, ``suffix`` behind it, ``largest``, ..."""
        for name, content in files.items():
            (self.folder / name).write_text(content, errors="surrogateescape")

    def fail(self, program: str, words: str = SILENCE, code: int = 1) -> None:
        """Let a command fail from now on; without words, work again."""
        for name, content in ((f"fail-{program}", f"{words}\n"), (f"code-{program}", str(code))):
            if words:
                (self.folder / name).write_text(content, errors="surrogateescape")
            else:
                (self.folder / name).unlink()

    def be_silent(self, *programs: str) -> None:
        """Let the controller be down."""
        for program in programs or ("sbatch", "squeue", "scancel", "scontrol"):
            self.fail(program)

    def remove(self, *programs: str) -> None:
        """Take commands away; all of them, if none is named."""
        for program in programs or PROGRAMS:
            (self.bin / program).unlink(missing_ok=True)

    def environment(self, program: str) -> dict[str, str]:
        """The variables that a command was last called with."""
        lines = (self.folder / f"environment-{program}").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def calls(self, *programs: str) -> list[list[str]]:
        """What the commands were told, in order, each with the name of the command first."""
        lines = (self.folder / "calls").read_text().splitlines()
        told = [line.split("\t") for line in lines]
        return [words for words in told if not programs or words[0] in programs]

    @property
    def queue(self) -> list[FakeTask]:
        lines = (self.folder / "queue").read_text().splitlines()
        return [FakeTask(*line.split("|")[:-1]) for line in lines]

    @queue.setter
    def queue(self, tasks: Sequence[FakeTask]) -> None:
        self.answer(queue="".join(task.line for task in tasks))

    def change(self, job: str = "", task: str = "", **fields: str) -> None:
        """Change what the queue says of some tasks, or of all."""
        self.queue = [
            replace(each, **fields) if job in ("", each.job) and task in ("", each.task) else each
            for each in self.queue
        ]

    def scripts(self) -> dict[str, str]:
        """The scripts that were submitted, by the numbers of their jobs."""
        files = sorted(self.folder.glob("script-*"))
        return {file.name.removeprefix("script-"): file.read_text() for file in files}


def write_array(
    runs: Path,
    trials: Sequence[Trial],
    *,
    name: str = "tiny-0",
    submission: str = "20260101-000000-abcd",
    pack: int = 1,
    job: str = "17",
    submitted: float | None = None,
    again: str = "",
) -> Array:
    """Leave behind what a submission of trials does that are as they are now."""
    array = Array(runs.absolute() / FOLDER / submission / name)
    at = time.time() - 10 if submitted is None else submitted
    entries = [
        ListedTrial(trial.folder, trial, again, Marks.of(RunFolder.of(runs, trial)))
        for trial in trials
    ]
    array.write(Head("tiny", pack, at, len(trials)), entries, "#!/bin/bash\n")
    if job:
        array.record_job(job)
    return array


def is_shell(script: str) -> bool:
    """Whether bash can read a script."""
    return not subprocess.run(["/bin/bash", "-n"], input=script, text=True).returncode
