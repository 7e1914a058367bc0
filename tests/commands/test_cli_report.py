"""``deltagclip report``: what it writes where, and what is said of what is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import webbrowser
from html import unescape
from pathlib import Path

import pytest
from event_files import NAME
from invocation import Invoke
from run_cases import lines, make_events, make_run, record
from tiny_spec import TINY, trials_of
from typer.testing import Result

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import HeldFolder

NASTY = ["<script>alert(1)</script>", "a&b $x_1$ 100%", "{{7*7}}", "%{y}</title>"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that was read before."""


def make_runs(*sets: str, text: str = TINY, status: str | None = "finished") -> list[RunFolder]:
    """Run folders of two optimizers with three seeds, in ``runs``."""
    trials = trials_of(Path(), "seeds=[0,1,2]", *sets, text=text)
    return [make_run(Path("runs"), trial, _metrics(trial.seed), status=status) for trial in trials]


def _metrics(seed: int) -> bytes:
    accuracies = [{"test/accuracy": 0.5 + epoch / 10 + seed / 100} for epoch in (1, 2)]
    return lines(*(record(epoch, **each) for epoch, each in enumerate(accuracies, 1)))


def written(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def page(folder: str | Path) -> str:
    return (Path(folder) / "report.html").read_text(encoding="utf-8")


def assert_refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.output


# ------------------------------------------------------------- what is written


def test_a_report_of_an_experiment_lies_in_its_folder(deltagclip: Invoke) -> None:
    make_runs()
    result = deltagclip("report", "tiny", "--format", "pdf,svg")
    assert result.exit_code == 0, result.output
    assert written(Path("runs/tiny/report")) == {
        "report.html",
        "comparison.json",
        "figures/tiny-curves.pdf",
        "figures/tiny-curves.svg",
        *(
            f"tables/tiny-{kind}.{ending}"
            for kind in ("values", "cost")
            for ending in ("md", "tex")
        ),
    }


def test_one_line_says_what_was_written(deltagclip: Invoke) -> None:
    make_runs()
    result = deltagclip("report", "tiny", "--format", "pdf,svg")
    (line,) = result.stdout.splitlines()
    assert line.startswith("runs/tiny/report/report.html (")
    assert line.endswith(" MB), 2 tables (md, tex), 1 figure (pdf, svg)")
    assert deltagclip("report", "tiny", "--quiet", "--format", "none").stdout == ""


def test_without_figures_there_are_none_and_matplotlib_is_not_loaded(deltagclip: Invoke) -> None:
    make_runs()
    program = (
        "import sys; from deltagclip_cli.commands.app import app\n"
        "try: app(['report', 'tiny', '--format', 'none'])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ})
    assert not Path("runs/tiny/report/figures").exists()


def test_the_json_beside_the_page_is_that_of_compare(deltagclip: Invoke) -> None:
    make_runs()
    words = ["tiny", "--metric", "test/loss", "--at", "best", "--baseline", "sgd", "--ddof", "0"]
    words.append("--select-on-test")
    deltagclip("report", *words, "--format", "none")
    compared = deltagclip("compare", *words, "--json").stdout
    assert json.loads(Path("runs/tiny/report/comparison.json").read_text()) == json.loads(compared)


def test_the_same_runs_make_the_same_bytes(deltagclip: Invoke) -> None:
    make_runs()
    for folder in ("one", "two"):
        deltagclip("report", "tiny", "--output", folder, "--format", "pdf,png,svg")
    for name in written(Path("one")):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes(), name


def test_all_experiments_together_lie_in_the_runs_folder(deltagclip: Invoke) -> None:
    make_runs()
    assert deltagclip("report", "--format", "none").exit_code == 0
    assert "<title>All experiments</title>" in page("runs/report")
    assert deltagclip("report", "--format", "none").exit_code == 0  # of the runs, not of itself


def test_a_path_to_an_experiment_is_as_good_as_its_name(deltagclip: Invoke) -> None:
    make_runs()
    assert deltagclip("report", "runs/tiny/", "--format", "none").exit_code == 0
    assert "<title>tiny</title>" in page("runs/tiny/report")


def test_other_programs_logs_are_left_as_they_are(deltagclip: Invoke) -> None:
    for seed in range(2):
        make_events(Path(f"logs/my net/sgd/seed{seed}"), {"test_acc": [0.1, 0.2 + seed / 10]})
    before = written(Path("logs"))
    assert deltagclip("report", "logs/my net", "--format", "none").exit_code == 0
    assert written(Path("logs")) == before == {f"my net/sgd/seed{s}/{NAME}" for s in range(2)}
    assert "<title>my net</title>" in page("runs/report/my-net")


def test_the_same_command_means_the_same_the_second_time(deltagclip: Invoke) -> None:
    make_runs()
    make_events(Path("logs/sgd/seed0"), {"test_acc": [0.1, 0.2]})
    for folder in ("logs", "runs", "./runs", "runs/tiny/sgd"):
        for _ in range(2):
            result = deltagclip("report", folder, "--format", "none")
            assert result.exit_code == 0, result.stderr
    assert {path.name for path in Path("runs").iterdir()} == {"tiny", "report"}
    assert "<title>tiny</title>" not in page("runs/report")


def test_a_grid_gets_a_heat_map_without_being_asked(deltagclip: Invoke) -> None:
    make_runs("grid={delta-gclip: {lr: [0.1, 0.2], gamma: [1.0, 2.0]}}")
    deltagclip("report", "tiny", "--format", "none")
    assert "lr down, gamma across" in page("runs/tiny/report")


def test_settings_that_lack_one_of_the_keys_are_in_no_heat_map(deltagclip: Invoke) -> None:
    for name in ("lr1_g3", "lr1_g4", "lr2_g3", "lr2_g4", "lr1", "lr2"):
        make_events(Path(f"logs/gclip_{name}/0"), {"test/loss": [1.0, 0.5]})
    names = r"(?P<optimizer>[a-z]+)_lr(?P<lr>\d)(_g(?P<gamma>\d))?/(?P<seed>\d)"
    result = deltagclip("report", "logs", "--group", names, "--format", "none")
    assert result.exit_code == 0, result.output
    assert "lr down, gamma across" in page("runs/report/logs")


def test_a_few_settings_of_a_large_grid_make_no_map(deltagclip: Invoke) -> None:
    make_runs("seeds=[0]", "grid={delta-gclip: {zip: {lr: [0.1, 0.2, 0.3], gamma: [1, 2, 3]}}}")
    deltagclip("report", "tiny", "--format", "none")
    assert "gamma across" not in page("runs/tiny/report")


def test_a_report_of_runs_that_all_diverged_is_one(deltagclip: Invoke) -> None:
    make_runs(status="diverged")
    assert deltagclip("report", "tiny", "--format", "none").exit_code == 0
    assert "Every run diverged." in page("runs/tiny/report")


def test_the_browser_is_opened_with_the_page(
    deltagclip: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_runs()
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: not opened.append(address))
    deltagclip("report", "tiny", "--open", "--format", "none")
    assert opened == [Path("runs/tiny/report/report.html").resolve().as_uri()]


def test_where_there_is_no_browser_the_page_is_named(
    deltagclip: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_runs()
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    result = deltagclip("report", "tiny", "--open", "--format", "none")
    assert result.exit_code == 0
    assert "no browser here; the page is runs/tiny/report/report.html" in result.stderr


# -------------------------------------------------------------- what is missing


def test_with_no_run_at_its_end_a_page_says_what_there_is(deltagclip: Invoke) -> None:
    first, *_ = make_runs(status=None)
    HeldFolder(first).record_failure(RuntimeError("x"), "out of memory <b>")
    result = deltagclip("report", "tiny", "--format", "none")
    assert result.exit_code == 1
    assert "No run has come to its end" in result.stderr
    assert "No run has come to its end" in page("runs/tiny/report")
    assert "out of memory &lt;b&gt;" in page("runs/tiny/report")
    assert "5 unfinished, 1 failed" in page("runs/tiny/report")


def test_with_no_epoch_at_its_end_a_page_says_what_there_is(deltagclip: Invoke) -> None:
    for trial in trials_of(Path()):
        make_run(Path("runs"), trial, b"")
    result = deltagclip("report", "tiny")
    assert result.exit_code == 1
    assert "No run has finished its first epoch" in page("runs/tiny/report")
    assert written(Path("runs/tiny/report")) == {"report.html"}


def test_one_seed_is_a_report_without_bands(deltagclip: Invoke) -> None:
    make_run(Path("runs"), trials_of(Path())[0], _metrics(0), status="finished")
    assert deltagclip("report", "tiny").exit_code == 0
    assert "(one seed)" in page("runs/tiny/report")


def test_runs_that_lack_the_metric_are_named_by_the_table(deltagclip: Invoke) -> None:
    *_, last = make_runs()
    last.metrics_file.write_bytes(lines(*(record(epoch) for epoch in (1, 2))))
    deltagclip("report", "tiny", "--format", "none")
    assert "1 run had no value to count; the table says why." in page("runs/tiny/report")


def test_a_metric_that_no_run_has_is_refused(deltagclip: Invoke) -> None:
    make_runs()
    result = deltagclip("report", "tiny", "--metric", "test/f1")
    assert_refused(result, "--metric test/f1: no run has that metric", "test/loss")
    assert not Path("runs/tiny/report").exists()


@pytest.mark.slow
def test_sixty_optimizers_have_a_page_and_figures(deltagclip: Invoke) -> None:
    rates = [k / 100 for k in range(1, 60)]
    make_runs("seeds=[0]", f"grid={{sgd: {{lr: {rates}}}}}")
    assert deltagclip("report", "tiny").exit_code == 0
    figures = {"tiny-curves.pdf", "tiny-settings.pdf"}
    assert written(Path("runs/tiny/report/figures")) == figures


# --------------------------------------------------------------- what is nasty


@pytest.mark.slow
@pytest.mark.parametrize("name", NASTY)
def test_nasty_names_are_text_and_stay_in_the_folder(deltagclip: Invoke, name: str) -> None:
    for seed in range(2):
        folder = Path(f"logs/{name.replace('/', '∕')}/{seed}")
        make_events(folder, {"test/loss": [1.0, 0.5], f"test/{name}": [1.0, 0.5]})
    before = set(Path().rglob("*"))
    result = deltagclip("report", "logs", "--group", "(?P<optimizer>.*)/(?P<seed>.*)")
    assert result.exit_code == 0, result.output
    html = page("runs/report/logs")
    shown = name.replace("/", "∕")
    assert shown in unescape(html)
    assert ("<" in name or "&" in name) != (shown in html)
    made = set(Path().rglob("*")) - before
    assert all(path.is_relative_to("runs") or path.is_relative_to(".cache") for path in made)
    plain = re.compile(r"[\w=+-]+\.(html|json|tex|md|pdf)")
    assert all(plain.fullmatch(Path(path).name) for path in written(Path("runs/report/logs")))


def test_a_name_that_leads_out_is_no_experiment(deltagclip: Invoke) -> None:
    make_runs()
    for seed in range(2):
        make_events(Path(f"../outside/sgd/{seed}"), {"test/loss": [1.0, 0.5]})
    assert deltagclip("report", "../outside", "--format", "none").exit_code == 0
    assert {path.name for path in Path("../outside").iterdir()} == {"sgd"}
    assert "<title>outside</title>" in page("runs/report/outside")
    assert_refused(deltagclip("report", "../../x"), "../../x: neither an experiment")


# ---------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "gif"], "--format gif: 'gif' is none of pdf, png, svg"),
        (["--format", "pdf,,svg"], "'' is none of pdf, png, svg"),
        (["--format", "none", "--style", "x"], "--style and --format none: say one of them"),
        (["--style", "missing.mplstyle"], "--style missing.mplstyle: cannot be read"),
        (["--heatmap", "lr"], "--heatmap lr: say two settings"),
        (["--runs", "nowhere", "x"], "x: neither an experiment in nowhere"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_written(
    deltagclip: Invoke, words: list[str], message: str
) -> None:
    make_runs()
    assert_refused(deltagclip("report", *words), message)
    assert not Path("runs/report").exists()


def test_a_line_of_a_style_file_that_is_wrong_is_named(deltagclip: Invoke) -> None:
    make_runs()
    Path("my.mplstyle").write_text("font.size: 9\nfont.sise: 9\n")
    result = deltagclip("report", "tiny", "--style", "my.mplstyle")
    assert_refused(result, "--style my.mplstyle", "line 2", "font.sise")


def test_files_of_somebody_are_not_replaced(deltagclip: Invoke) -> None:
    make_runs()
    Path("mine").mkdir()
    Path("mine/report.html").write_text("mine")
    result = deltagclip("report", "tiny", "--output", "mine", "--format", "none")
    assert_refused(result, "mine/report.html: it is no report's", "--output DIR")
    assert written(Path("mine")) == {"report.html"}
    assert Path("mine/report.html").read_text() == "mine"


def test_a_folder_that_nobody_can_make_is_refused(deltagclip: Invoke) -> None:
    make_runs()
    Path("file").write_text("mine")
    result = deltagclip("report", "tiny", "--output", "file/report", "--format", "none")
    assert_refused(result, "file/report: the report cannot be written there", "--output DIR")
