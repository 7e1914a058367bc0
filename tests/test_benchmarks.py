"""The benchmarks as a command, and their figures in the documentation."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import docs
from benchmarks.harness import results
from benchmarks.harness.runs import Benchmark, find_benchmarks, run
from benchmarks.targets import TARGETS

ROOT = Path(__file__).parents[1]
FAKES = {
    "good": 'yield Figure.as_long("it", [1.5, 2.0, 2.5], "the floor")',
    "broken": 'yield Figure("seen before", 1.0)\n    raise RuntimeError("it broke")',
    "slow": "import time\n    time.sleep(60)\n    yield",
    "rivalless": "import a_rival_that_is_not_there\n    yield",
    "lacking": 'raise Skipped("needs a Slurm that answers")\n    yield',
}


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Benchmark]:
    """Benchmarks of a folder of their own."""
    folder = tmp_path / "fakes"
    folder.mkdir()
    for name, body in FAKES.items():
        head = f'"""The {name} one.\n\nMore."""\nfrom benchmarks.harness import Figure, Skipped\n'
        (folder / f"{name}.py").write_text(f"{head}def measure(session):\n    {body}\n")
    (folder / "helper.py").write_text('"""No benchmark."""\n')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return find_benchmarks(folder)


def test_a_benchmark_yields_figures_in_a_process_of_its_own(fakes: dict[str, Benchmark]) -> None:
    assert sorted(fakes) == sorted(FAKES)
    assert fakes["good"].title == "The good one."
    end = run(fakes["good"], "cpu", quick=True, limit=60)
    assert end.state == "measured", end.reason
    assert [str(each) for each in end.figures] == ["2.00 (1.750 to 2.25) × as long"]


def test_one_that_takes_too_long_is_ended(fakes: dict[str, Benchmark]) -> None:
    end = run(fakes["slow"], "cpu", quick=True, limit=0.2)
    assert (end.state, end.reason) == ("failed", "took more than 0.2 s")
    assert end.seconds < 30


def test_where_a_rival_is_missing_it_is_named(fakes: dict[str, Benchmark]) -> None:
    end = run(fakes["rivalless"], "cpu", quick=True, limit=60)
    reason = "needs the package a_rival_that_is_not_there, which is not installed"
    assert (end.state, end.reason) == ("skipped", reason)


def test_one_for_a_processor_is_skipped_on_a_gpu(fakes: dict[str, Benchmark]) -> None:
    end = run(fakes["good"], "cuda", quick=True, limit=60)
    assert (end.state, end.reason) == ("skipped", "is for --device cpu")


def test_one_that_fails_does_not_stop_the_others_and_the_exit_code_tells(
    fakes: dict[str, Benchmark],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(program, "find_benchmarks", lambda: fakes)
    output = str(tmp_path / "output")
    names = ["broken", "good", "lacking"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *names, "--quick", "--output", output])
    with pytest.raises(SystemExit, match="1"):
        program.main()
    said = capsys.readouterr().out
    assert "seen before" in said and "RuntimeError: it broke" in said
    assert "skipped: needs a Slurm that answers" in said
    assert "1 measured: good\n1 skipped: lacking\n1 failed: broken" in said
    assert max(map(len, said.splitlines()[:-1])) <= 80  # the last has a path
    assert [each.name for each in (tmp_path / "output").iterdir()] == ["good.json"]
    content = json.loads((tmp_path / "output" / "good.json").read_text())
    assert content["command"] == "python -m benchmarks good --quick"
    assert content["figures"][0]["value"] == 2.0


def test_a_name_that_is_none_is_refused_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "vae_epochs"])
    with pytest.raises(SystemExit, match="2"):
        program.main()
    assert (
        "no benchmark is called 'vae_epochs'; did you mean 'vae_epoch'?" in capsys.readouterr().err
    )


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    output = str(tmp_path / "file" / "output")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "tables", "--output", output])
    monkeypatch.setattr(program, "run", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(SystemExit, match="2"):
        program.main()
    assert f"cannot write to {output}: " in capsys.readouterr().err


@pytest.mark.parametrize("content", ['{"figures": [{"na', "[]", "3", "{}", '{"figures": [{}]}'])
def test_a_damaged_file_of_results_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tables.json").write_text(content)
    with pytest.raises(SystemExit, match=r"tables\.json is damaged: .*\n  Measure it again"):
        results.read("tables", "cpu", tmp_path)


def test_all_benchmarks_have_one_shape() -> None:
    found = find_benchmarks()
    assert len(found) >= 20
    for each in found.values():
        assert each.title.endswith("."), each.name
        assert set(each.devices) <= {"cpu", "cuda"}
    for target in TARGETS:  # on_a_gpu.py projects the time of the paper from results of others
        assert target.benchmark in {*found, "paper_time"}, target


def test_stored_results_say_what_they_were_measured_on() -> None:
    names = {*find_benchmarks(), "on_a_gpu"}
    for file in results.STORED.glob("*.json"):
        content = json.loads(file.read_text())
        assert file == results.file_of(content["benchmark"], content["device"])
        assert content["benchmark"] in names
        assert {"machine", "versions", "commit", "date", "command", "load"} <= set(content)
        pairs = [(each["name"], each.get("against")) for each in content["figures"]]
        assert pairs and len(pairs) == len(set(pairs)), file
        for each in TARGETS:  # a figure that was renamed would count as not measured
            if (each.benchmark, each.device) == (content["benchmark"], content["device"]):
                assert docs.measured_of(each), f"{file} has no figure of {each}"


def test_the_documentation_has_the_figures_of_the_results() -> None:
    old = [str(file.relative_to(ROOT)) for file, _ in docs.stale()]
    assert not old, f"run python -m benchmarks.docs: {old} differ"


def test_a_figure_changes_the_page_and_an_unmeasured_one_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (
        "It takes <!-- figure: vae_epoch | VAE epoch / a bare* --><!-- end --> times as long.\n"
        "<!-- figures: vae_epoch; runner_epoch -->\nold\n<!-- end -->\n"
    )
    monkeypatch.setattr(results, "STORED", tmp_path)
    assert docs.filled(page).count("not measured") == 3
    content = {
        "device": "cpu",
        "date": "2026-11-30",
        "load": 0.1,
        "machine": {"processor": "AMD EPYC", "cores": 2},
        "versions": {"python": "3.11.7", "torch": "2.14.1"},
        "commit": {"name": "abc1234", "day": "2026-11-30", "changed": False},
        "figures": [
            {"name": "VAE epoch", "value": 1.026, "against": "a bare loop", "low": 1, "high": 2},
        ],
    }
    (tmp_path / "vae_epoch.json").write_text(json.dumps(content))
    made = docs.filled(page)
    assert "<!-- figure: vae_epoch | VAE epoch / a bare* -->1.026<!-- end -->" in made
    assert "| VAE epoch | a bare loop | 1.026 (1.000 to 2.00) × as long |" in made
    assert (
        "`python -m benchmarks vae_epoch` on 2026-11-30 at commit abc1234: 2 cores of an AMD EPYC,"
        " Python 3.11.7, torch 2.14.1." in made
    )
    assert docs.filled(made) == made
