"""``deltagclip verify``: what is found, and what is said of it."""

from __future__ import annotations

import json
import random
import re
import shutil
import time
from pathlib import Path

import pytest
from event_files import NAME, scalar, version, write
from run_cases import make_events
from verify_cases import PAGE, altered, digits_of, make_report, make_runs, say

from deltagclip_cli.core import files_seen
from deltagclip_cli.report.record import sealed
from deltagclip_cli.results.read.tree import Place
from deltagclip_cli.verify.verification import verify


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)


def test_one_altered_digit_is_found_in_every_file_that_is_read() -> None:
    folder = make_report("--checklist", "acl")[0]
    assert verify(PAGE).differences == []
    report = PAGE.parent
    files = [
        folder.metrics_file,
        folder.result_file,
        folder.trial_file,
        folder.environment_file,
        Path("runs/tiny/protocol.lock"),
        report / "comparison.json",
        report / "checklist-acl.md",
        report / "tables/tiny-values.tex",
    ]
    assert {path.name for path in folder.path.iterdir()} - {".lock", "log.txt"} == {
        path.name for path in files if path.parent == folder.path
    }
    for path in files:
        with altered(path, random.Random(path.name).choice(digits_of(path))):
            found = verify(PAGE).differences
            assert any(each.place.startswith(str(path)) for each in found), path
    for words in ("<td>", 'id="data">', '"text":"0', '"sha256', '"files":{', 'seal" content="'):
        if words in PAGE.read_text():
            with altered(PAGE, *digits_of(PAGE, words)):
                assert verify(PAGE).differences, words


@pytest.mark.slow
def test_any_altered_digit_of_a_page_is_found() -> None:
    make_report()
    chosen = random.Random(0)
    for place in chosen.sample(digits_of(PAGE), 100):
        with altered(PAGE, place):
            assert verify(PAGE).differences, PAGE.read_bytes()[place - 50 : place + 50]


def test_numbers_are_worked_out_even_if_all_checksums_were_made_anew() -> None:
    """Who knows how pages are sealed has to alter what the runs say, too."""
    make_report()
    text = PAGE.read_text()
    for sign in ("±", "\\u00b1"):  # as it is shown, and as it is carried
        text = text.replace(f"0.7250 {sign} 0.0050", f"0.7350 {sign} 0.0050")
    PAGE.write_text(sealed(text))
    (first, *_) = [each for each in verify(PAGE).differences if each.kind == "number"]
    assert str(first) == (
        "tiny › sentences › 1: adam has the best test/accuracy at the last epoch: 0.7350 ± 0.0050"
        " (mean ± standard error of 2 seeds). in the report, adam has the best test/accuracy at the"
        " last epoch: 0.7250 ± 0.0050 (mean ± standard error of 2 seeds). by the run folders."
    )


def test_the_command_says_which_file_run_table_and_number_differ() -> None:
    folder = make_report()[0]
    text = folder.metrics_file.read_text()
    folder.metrics_file.write_text(text.replace('"epoch": 1', '"epoch": 1 '))
    result = say("verify", str(PAGE))
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{folder.metrics_file}: changed: ")
    answer = json.loads(say("verify", str(PAGE), "--json").stdout)
    (difference,) = answer["differences"]
    assert difference["kind"] == "file" and difference["run"] == str(folder.path)
    assert not answer["verified"]


@pytest.mark.slow
def test_a_run_that_grew_is_told_from_one_that_was_changed() -> None:
    folder = make_report()[0]
    with folder.environment_file.open("a") as file:
        file.write("\n\n")
    (difference,) = verify(PAGE).differences
    assert difference.found.endswith(", of which 2 were added to what it was")


@pytest.mark.slow
def test_runs_that_went_came_or_were_moved_are_named() -> None:
    one, two, *_ = make_report()
    moved = one.path.with_name("seed-0-moved")
    one.path.rename(moved)
    shutil.copytree(two.path, two.path.with_name("seed-7-copy"))
    shutil.rmtree(two.path)
    said = [str(each) for each in verify(PAGE).differences if each.kind == "run"]
    assert said == [
        f"{one.path}: moved to {moved} (there for the report).",
        f"{two.path}: moved to {two.path.with_name('seed-7-copy')} (there for the report).",
    ]
    shutil.rmtree(moved)
    assert (
        f"{one.path}: not there any more (there for the report)." in say("verify", str(PAGE)).stdout
    )


@pytest.mark.slow
def test_runs_that_lie_elsewhere_now_are_found_from_the_page_or_by_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_report()
    shutil.move("runs", "moved")
    page = Path("moved/tiny/report/report.html")
    assert verify(page).differences == []
    monkeypatch.chdir("/")
    assert verify(tmp_path / page).differences == []
    alone = shutil.copy(tmp_path / page, tmp_path / "alone.html")
    found = verify(Path(alone), tmp_path / "moved")
    assert found.differences == []
    assert "The files beside the page are not there, and were not looked at." in found.notes
    refused = say("verify", str(alone))
    assert refused.exit_code == 2 and "--runs DIR" in refused.stderr


def test_a_report_of_other_peoples_logs_is_verified() -> None:
    for seed in range(2):
        make_events(Path(f"logs/adam/seed-{seed}"), {"test_acc": [0.1, 0.5 + seed / 10]})
    say("report", "logs", "--format", "none", "--output", "out")
    assert verify(Path("out")).differences == []
    events = Path("logs/adam/seed-0") / NAME
    write(events, version(wall_time=1e9), scalar("test_acc", 1, 0.75, wall_time=1e9 + 10))
    found = verify(Path("out")).differences
    assert str(events) == found[0].place
    assert any(each.kind == "number" for each in found)


def test_what_is_no_report_or_one_of_another_version_is_refused_in_words() -> None:
    make_report()
    old = '<dd>deltagclip 0.0.1</dd><script type="application/json" id="data">{}</script>'
    for content, words in {
        b"<p>hello": "no page of deltagclip report",
        b"\x00\xff": "no page of deltagclip report",
        old.encode(): "did not write that yet",
    }.items():
        Path("page.html").write_bytes(content)
        result = say("verify", "page.html")
        assert result.exit_code == 2 and words in result.stderr
    assert say("verify", "nowhere.html").exit_code == 2
    other = PAGE.read_text().replace('"thinned":', '"other":')
    Path("other.html").write_text(sealed(other))
    assert "made by another state of deltagclip" in say("verify", "other.html").stderr


def test_what_another_state_of_the_program_made_is_compared_and_said_to_be_that() -> None:
    make_report()
    text = PAGE.read_text()
    (here,) = re.findall(r'"code of deltagclip":"(\w+)"', text)
    PAGE.write_text(sealed(text.replace(here, "0" * 16)))
    found = verify(PAGE)
    assert found.differences == []
    assert "made by another state of deltagclip" in found.notes[0]
    PAGE.write_text(sealed(text.replace(here, "0" * 16).replace("<td>0.7250", "<td>0.7350")))
    assert [each.kind for each in verify(Path("runs/tiny")).differences] == ["page", "page"]


def test_every_file_of_a_run_that_is_read_is_noted() -> None:
    folder = make_runs()[0]
    with files_seen() as seen:
        Place(("tiny",), Path("runs")).read()
    names = {path.name for path in seen if path.parent == folder.path}
    assert names == {"trial.yaml", "environment.json", "metrics.jsonl", "result.json"}


@pytest.mark.slow
def test_options_that_make_no_sense_are_refused() -> None:
    make_report()
    assert "say both" in say("verify", str(PAGE), "--seed", "1").stderr
    refused = say("verify", str(PAGE), "--rerun", "9")
    assert refused.exit_code == 2 and "4 finished trials" in refused.stderr


@pytest.mark.slow
def test_logs_that_still_grew_are_judged_by_the_time_of_the_report() -> None:
    now = time.time()
    points = [scalar("test_acc", step, 0.5, wall_time=now - 100 + 10 * step) for step in range(10)]
    for seed in range(2):
        write(Path(f"logs/adam/seed-{seed}") / NAME, version(wall_time=now - 100), *points)
    say("report", "logs", "--format", "none", "--output", "out")
    page = Path("out/report.html")
    assert "still growing" in page.read_text()
    assert verify(page).differences == []
    text = page.read_text()
    page.write_text(sealed(re.sub(r'"read_at":[\d.]+', f'"read_at":{now + 1e4}', text)))
    assert verify(page).differences != []  # by then they would have ended
