"""The console that commands print to, and trials on it: bars, results, tables of many."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import rich.console
from rich import box
from rich.console import ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from deltagclip_cli.core import (
    EVALUATED,
    MARK,
    MOST_METRICS,
    NOTHING,
    SPEED,
    TEST_METRICS,
    TRAINED_METRICS,
    duration,
    listed,
    mark_of,
    measured_on,
    plural,
    printable,
    ranges,
    short,
    shown_metrics,
    with_error,
)
from deltagclip_cli.plan.planned import Mean, Planned, SettingSummary, summarize
from deltagclip_cli.runs.folder import Heartbeat, RunFolder, State
from deltagclip_cli.terminal.streams import write_json
from deltagclip_cli.training.sinks import Beginning, Record, Sink

if TYPE_CHECKING:
    from deltagclip_cli.plan.planned import Assignment
    from deltagclip_cli.results.read.run import Reading
    from deltagclip_cli.results.read.tree import Place
    from deltagclip_cli.spec.trial import Trial

SECONDS_BETWEEN_UPDATES = 0.1
STALE_SECONDS = 30.0
COLUMNS_OF_FILES = 160
_MOST_PROBLEMS = 20
_LOSS = "train/loss"
_MOST_COLUMNS_OF_LOSSES = 48


class Console(rich.console.Console):
    """A console that obeys no text: of titles, labels, errors and words of other programs alike."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render something, with what a terminal would obey written out."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control or text.isprintable() or text == "\n":
                yield segment
            else:
                lines = "\n".join(map(printable, text.split("\n")))
                yield Segment(lines, style)


def make_console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; in a file or a pipe, wide enough for every table."""
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = COLUMNS_OF_FILES
    return console


def waiting(
    console: rich.console.Console, words: str, *, quiet: bool = False
) -> AbstractContextManager[Any]:
    """Show on a terminal what something slow is at, while the context lasts."""
    if quiet or not console.is_terminal:
        return nullcontext()
    return console.status(words)


def read_shown(place: Place, *, quiet: bool) -> Reading:
    """Read the runs of a place, and show on a terminal that this is under way."""
    with waiting(make_console(stderr=True), "reading runs", quiet=quiet):
        return place.read()


def print_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print the answer for a program."""
    write_json(json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")


def print_problems(problems: Sequence[str], *, all_in: str = "--json") -> None:
    """Print what is in doubt to stderr, of very many the first; ``all_in`` has all of them."""
    console = make_console(stderr=True)
    for problem in problems[:_MOST_PROBLEMS]:
        console.print(problem, style="yellow", soft_wrap=True)
    if len(problems) > _MOST_PROBLEMS:
        more = len(problems) - _MOST_PROBLEMS
        console.print(f"and {more} more of these; {all_in} has all", style="yellow")


class _ProgressWithLosses(Progress):
    """Shows the losses of the epochs so far below the bar, as soon as they make a curve."""

    losses: Sequence[float | None] = ()

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return what is on the screen now, for rich."""
        yield from super().get_renderables()
        if len(self.losses) > 1:
            from deltagclip_cli.terminal.sparkline import Sparkline

            row = Table.grid(padding=(0, 1))
            first, last = map(short, (self.losses[0], self.losses[-1]))
            row.add_row(_LOSS, first, Sparkline(self.losses, _MOST_COLUMNS_OF_LOSSES), last)
            yield row


class ProgressBar(Sink):
    """Shows epoch, loss, accuracy, samples per second and the time that is left.

    The losses shown are those of the last whole epoch: reading the current one would make the
    trainer wait for the device.
    """

    def __init__(self, console: rich.console.Console) -> None:
        self._losses: list[float | None] = []
        self._progress = _ProgressWithLosses(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[metrics]}"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            expand=True,
            transient=True,  # what is said at the end takes its place
        )
        words = "loading torch and the data"
        self._task = self._progress.add_task(words, total=None, metrics="", speed="")

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, beginning: Beginning) -> None:
        """Show a trial from where it begins."""
        self._course = course = beginning.course
        self._progress.reset(
            self._task,
            description=course.told(min(beginning.step + 1, course.steps)),
            total=course.steps,
            completed=beginning.step,
        )
        self._losses = [each[_LOSS] for each in beginning.records if _LOSS in each]
        self._progress.losses = self._losses
        self._shown_at = 0.0

    def batch(self, step: int, samples: int) -> None:
        if time.monotonic() - self._shown_at >= SECONDS_BETWEEN_UPDATES:
            self._shown_at = time.monotonic()
            words = self._course.told(step)
            self._progress.update(self._task, description=words, completed=step)

    def epoch(self, record: Record) -> None:
        if _LOSS in record:
            self._losses.append(record[_LOSS])
        self._progress.update(
            self._task,
            description=self._course.told(record["step"]),
            completed=record["step"],
            metrics=_shown(record),
            speed=f"{record[SPEED]:,.0f}/s",
        )


@contextmanager
def shown_progress(
    console: rich.console.Console, *, quiet: bool = False
) -> Iterator[Sequence[ProgressBar]]:
    """Give the sinks that show a trial on a terminal or in a notebook; none in a file."""
    if console.is_jupyter and not quiet:
        from deltagclip_cli.terminal.notebook import NotebookBar

        with NotebookBar(console) as shown:
            yield [shown]
    elif quiet or not console.is_terminal:
        yield []
    else:
        with ProgressBar(console) as bar:
            yield [bar]


def _shown(record: Record) -> str:
    # Of constant width, so that the bar beside it keeps its length.
    labels = {"train/loss": ("loss", 9), "test/loss": (" test", 9), "test/accuracy": (" acc", 6)}
    return "".join(
        f"{label} {math.nan if record[name] is None else record[name]:<{width}.4g}"
        for name, (label, width) in labels.items()
        if name in record
    )


def running_table(
    rows: Iterable[tuple[str, str, Heartbeat | None]],
    losses: Sequence[Sequence[float | None]] = (),
    columns: int = 0,
) -> Table:
    """Return a table of running trials: where each runs, its name, and how far it is, if known.

    Args:
        losses: of the epochs of each trial so far, which are drawn.
        columns: the width of a drawing.
    """
    from deltagclip_cli.terminal.sparkline import Sparkline

    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    are_drawn = any(len(each) > 1 for each in losses)
    for _ in range(6 if are_drawn else 5):
        table.add_column(no_wrap=True, justify="right")
    for number, (where, name, beat) in enumerate(rows):
        cells: list[RenderableType] = [*_cells(beat)]
        if are_drawn and beat is not None:
            cells.insert(1, Sparkline(losses[number], columns))
        table.add_row(Text(where, "cyan"), Text(name), *cells)
    return table


def _cells(beat: Heartbeat | None) -> list[Text]:
    if beat is None:
        return [Text("starting", "dim")]
    loss = beat.metrics.get("train/loss")
    accuracy = beat.metrics.get("test/accuracy", beat.metrics.get("train/accuracy"))
    cells = [
        f"{beat.step:,}/{beat.steps:,}" if beat.unit == "step" else f"{beat.epoch}/{beat.epochs}",
        "" if loss is None else f"loss {short(loss)}",
        "" if accuracy is None else f"acc {short(accuracy)}",
    ]
    if beat.age_seconds > STALE_SECONDS:
        return [*map(Text, cells), Text("silent for", "yellow"), Text(duration(beat.age_seconds))]
    speed, left = beat.samples_per_second, beat.seconds_left
    cells.append("" if speed is None else f"{speed:,.0f}/s")
    cells.append("" if left is None else duration(left))
    return [*map(Text, cells)]


def print_summary(
    console: rich.console.Console,
    trial: Trial,
    folder: RunFolder,
    result: Mapping[str, Any],
    runs: Path,
) -> None:
    """Print the last and best metrics of a trial, its regimes, its folder and the next command."""
    console.print(_metrics_table(trial, result))
    for line in _facts(result):
        console.print(Text(line))
    console.print(Text(f"run folder   {folder.path}"), soft_wrap=True)
    console.print(
        Text(f"TensorBoard  tensorboard --logdir {runs / trial.experiment}"), soft_wrap=True
    )


def _metrics_table(trial: Trial, result: Mapping[str, Any]) -> Table:
    title = f"{trial.experiment} · {trial.label} · seed {trial.seed}"
    table = Table(box=box.SIMPLE_HEAD, title=Text(title, style="bold"), title_justify="left")
    table.add_column("metric")
    table.add_column("last", justify="right")
    table.add_column("best", justify="right")
    table.add_column(f"at {trial.clock}", justify="right")
    for name in shown_metrics(result["best"], TRAINED_METRICS, "train", *EVALUATED):
        best, last = result["best"][name], result["last"].get(name)
        shown = "not finite" if last is None else short(last)
        table.add_row(name, shown, short(best["value"]), f"{best[trial.clock]:,}")
    return table


def _facts(result: Mapping[str, Any]) -> list[str]:
    seconds = result["seconds"]["epochs"]
    steps = plural(result["steps"], "step")
    facts = [f"epochs       {result['epochs']:.7g} ({steps}, {seconds:.1f} s)"]
    before = [name for name, best in result["best"].items() if best["epoch"] < result["epochs"]]
    if tested := [name for name in before if measured_on(name) == "test"]:
        facts.insert(0, f"best         of {listed(tested)}: {MARK}")
    if result["regimes"]:
        kinds = ", ".join(f"{count} {name}" for name, count in result["regimes"].items())
        facts.append(f"steps        {kinds}")
    if early := result.get("ended_early"):
        best, count = early["best"], plural(early["evaluations"], "evaluation")
        facts.append(
            f"ended early  {early['metric']} became no better for {count}, "
            f"since step {best['step']:,}{mark_of(early['metric'])}"
        )
    if result["diverged"]:
        at = result["diverged"]
        facts.append(
            f"diverged     the loss in {at['where']} was not finite at step {at['step']}"
            f" (epoch {at['epoch']})"
        )
    return facts


STYLES = {
    State.FINISHED: "green",
    State.DIVERGED: "magenta",
    State.FAILED: "red",
    State.INTERRUPTED: "yellow",
    State.NEW: "yellow",
    State.QUEUED: "blue",
    State.LOST: "red",
    State.RUNNING: "cyan",
    State.PRUNED: "dim",
}


def summary_tables(planned: Sequence[Planned]) -> list[Table]:
    """A table of each experiment: means over seeds, and how many trials ended how."""
    by_experiment: dict[str, list[SettingSummary]] = {}
    for setting in summarize(planned):
        by_experiment.setdefault(setting.experiment, []).append(setting)
    return [_summary_table(name, settings) for name, settings in by_experiment.items()]


def counted(states: Mapping[Any, int]) -> str:
    """``3 finished, 1 failed``."""
    return ", ".join(f"{count} {state}" for state, count in states.items())


def _summary_table(experiment: str, settings: Sequence[SettingSummary]) -> Table:
    measured = [name for each in settings for name in each.metrics]
    metrics = shown_metrics(measured, TEST_METRICS, "test", "test_ema")[:MOST_METRICS]
    finished = sum(each.states.get(State.FINISHED, 0) for each in settings)
    total = sum(sum(each.states.values()) for each in settings)
    table = titled_table(
        f"{experiment}: {finished} of {plural(total, 'trial')} finished",
        caption="n finished trials; mean ± standard error",
    )
    table.add_column("optimizer", no_wrap=True)
    table.add_column("n", justify="right")
    for name in metrics:
        table.add_column(name, justify="right", no_wrap=True)
    if finished < total:
        table.add_column("others")
    for title, each in _named(settings):
        if each is None:
            table.add_row(title)
            continue
        others = {state: n for state, n in each.states.items() if state is not State.FINISHED}
        table.add_row(
            title,
            str(each.states.get(State.FINISHED, 0)),
            *(_mean(each.metrics.get(name)) for name in metrics),
            *([counted(others)] if finished < total else []),
        )
    return table


def _mean(found: Mean | None) -> str:
    return NOTHING if found is None else with_error(found.value, found.standard_error)


N = TypeVar("N", "Planned", "SettingSummary")


def _named(rows: Sequence[N]) -> Iterator[tuple[Text, N | None]]:
    """A name for each row; where an optimizer has several settings, below a row of its own."""
    before = None
    for row in rows:
        if row.variant and row.label != before:
            yield Text(row.label), None
        yield Text(f"  {row.variant}" if row.variant else row.label), row
        before = row.label


def print_plan(
    console: rich.console.Console, planned: Sequence[Planned], places: Mapping[str, Assignment]
) -> None:
    """Print what a sweep would do, a row for each setting; ``places`` are by run folder."""
    by_experiment: dict[str, dict[str, list[Planned]]] = {}
    for each in planned:
        groups = by_experiment.setdefault(each.trial.experiment, {})
        groups.setdefault(each.trial.setting_hash, []).append(each)
    for experiment, groups in by_experiment.items():
        table = titled_table(experiment)
        table.add_column("optimizer", no_wrap=True)
        for column in ("seeds", "state", "runs on"):
            table.add_column(column)
        table.add_column("time", justify="right", no_wrap=True)
        firsts = [group[0] for group in groups.values()]
        for name, first in _named(firsts):
            cells = _plan_cells(groups[first.trial.setting_hash], places) if first else []
            table.add_row(name, *cells)
        console.print(table)


def _plan_cells(group: Sequence[Planned], places: Mapping[str, Assignment]) -> list[Text]:
    found = [place for each in group if (place := places.get(each.trial.folder))]
    # A stack of several takes its time once.
    times = {each.unit: each.seconds for each in found if each.seconds is not None}
    counts = Counter(each.state for each in group)
    return [
        Text(ranges([each.trial.seed for each in group])),
        Text(counted(counts)),
        Text(", ".join(dict.fromkeys(str(each) for each in found))),
        Text(duration(sum(times.values())) if times else ""),
    ]


def titled_table(title: str, caption: str | None = None) -> Table:
    """An empty table with its title above and its caption below."""
    return Table(
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        title=Text(title, style="bold"),
        title_justify="left",
        min_width=max(
            map(len, [title, *(caption or "").splitlines()])
        ),  # else they would be wrapped
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
