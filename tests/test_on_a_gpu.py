"""The script that measures on a GPU, as far as it can be tried without one."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.harness.runs import find_benchmarks

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RECORD = """
import os, sys, time
with open(sys.argv[sys.argv.index("--records") + 1], "w") as file:
    file.write('{"seen": 1}\\n{"cut o')
print("said before", flush=True)
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("on_a_gpu", BENCHMARKS / "on_a_gpu.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "on_a_gpu", module)
    spec.loader.exec_module(module)
    return module


def results_of(script: ModuleType, output: Path, *words: str) -> tuple[int, dict[str, dict]]:
    sys.argv = ["on_a_gpu.py", "--output", str(output), "--device", "cpu", "--quick", *words]
    with pytest.raises(SystemExit) as ended:
        script.main()
    return int(ended.value.code or 0), json.loads((output / "results.json").read_text())


@pytest.mark.parametrize(
    ("then", "status"),
    [
        ("time.sleep(60)", "timed out"),
        ("os.abort()", "failed"),
        ("import resource as r; r.setrlimit(r.RLIMIT_AS, (2**28, 2**28)); bytes(2**30)", "failed"),
        ("os.fork() or time.sleep(60)", "done"),
    ],
    ids=["hangs", "crashes", "fills the memory", "leaves a process"],
)
def test_a_part_keeps_what_it_recorded_and_the_next_one_runs(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, status: str
) -> None:
    (tmp_path / "first.py").write_text(RECORD + then)
    (tmp_path / "second.py").write_text(RECORD)
    monkeypatch.setattr(script, "SCRIPTS", {n: f"{tmp_path}/{n}.py" for n in ("first", "second")})
    limit = 3.0 if status == "timed out" else 60.0  # Python has begun by then
    monkeypatch.setattr(script, "PARTS", [script.Part("first", limit), script.Part("second", 60.0)])
    monkeypatch.setattr(script, "PATIENCE", {"cpu": 1})
    monkeypatch.setattr(sys, "argv", [])
    code, results = results_of(script, tmp_path / "out")
    assert code == (status != "done")
    first, second = results["parts"].values()
    assert (first["status"], second["status"]) == (status, "done")
    assert first["records"] == second["records"] == [{"seen": 1}]
    assert "said before" in first.get("last_words", "said before")


def test_what_has_no_time_left_is_not_begun(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    code, results = results_of(script, tmp_path, "--minutes", "0")
    assert code == 1
    assert {part["status"] for part in results["parts"].values()} == {"no time"}


def test_the_limits_of_all_parts_fit_into_nine_minutes(script: ModuleType) -> None:
    assert sum(part.limit for part in script.PARTS) + script.SECONDS_TO_END <= 9 * 60


def test_every_part_is_there(script: ModuleType) -> None:
    benchmarks = find_benchmarks()
    for name in [script.BESIDE, *(part.name for part in script.PARTS)]:
        assert name in script.SCRIPTS or "cuda" in benchmarks[name].devices, name
    assert set(script.BESIDE_PARTS) < {part.name for part in script.PARTS}


def test_what_runs_beside_others_ends_with_them_and_keeps_what_it_recorded(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("tests", "optimizer_step", script.BESIDE, "last")
    for name in names:
        (tmp_path / f"{name}.py").write_text(RECORD + ("time.sleep(60)" * (name == script.BESIDE)))
    monkeypatch.setattr(script, "SCRIPTS", {each: f"{tmp_path}/{each}.py" for each in names})
    shown = ("tests", "optimizer_step", "last")
    monkeypatch.setattr(script, "PARTS", [script.Part(name, 60.0) for name in shown])
    monkeypatch.setattr(sys, "argv", [])
    code, results = results_of(script, tmp_path / "out")
    assert code == 0
    assert [*results["parts"]] == [*shown[:2], script.BESIDE, "last"]
    assert results["parts"][script.BESIDE]["status"] == "ended"
    assert all(part["records"] == [{"seen": 1}] for part in results["parts"].values())


def test_only_what_this_python_lacks_is_installed_and_beside_it(
    script: ModuleType, tmp_path: Path
) -> None:
    for name in ("missing_here", "rich"):
        write_wheel(tmp_path, name)
    with (tmp_path / "log.txt").open("wb") as log:
        installed = script.install_missing(tmp_path, tmp_path / "site", log)
    assert installed == ["missing_here-1.0-py3-none-any.whl"]
    assert (tmp_path / "site" / "missing_here.py").is_file()
    assert not (tmp_path / "site" / "rich.py").exists()


def write_wheel(folder: Path, name: str) -> None:
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")


# Parts that take minutes on a CPU, for they compile, or train each network several times.
LONG = ("same_bits", "paper_stacks", "programs", "exact_against_fast")


@pytest.mark.slow
@pytest.mark.long
def test_the_whole_script_works_on_a_cpu(script: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra 'bert' is not installed")
    chosen = [part.name for part in script.PARTS if part.name not in LONG]
    command = ["bash", str(BENCHMARKS / "on_a_gpu.sh"), "--output", str(tmp_path)]
    command += [word for name in chosen for word in ("--only", name)]
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # none spins, see conftest.py
    done = subprocess.run(
        [*command, "--device", "cpu", "--quick"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, **threads},
        capture_output=True,
        text=True,
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert done.returncode == 0, (done.stdout, done.stderr, results)
    parts = results["parts"]
    ended = {name: part["status"] for name, part in parts.items()}
    assert set(ended.values()) <= {"done", "ended"}, ended
    assert any("torch" in seen for seen in parts["machine"]["records"])
    (counts,) = [seen["counts"] for seen in parts["tests"]["records"] if "counts" in seen]
    assert set(counts) <= {"skipped", "passed"} and counts["skipped"] > 250
    measured = {
        name: [seen["figure"]["name"] for seen in part["records"] if "figure" in seen]
        for name, part in parts.items()
    }
    for name, figures in measured.items():
        skipped = any("skipped" in seen for seen in parts[name]["records"])  # as without MPS
        assert figures or skipped or name in script.SCRIPTS, name
    for name in ("waits", "paper_epochs"):
        networks = {"ResNet-18", "ViT-Tiny", "ViT-Small", "KAN", "VAE", "DistilBERT"}
        assert {each.partition(":")[0] for each in measured[name]} >= networks
        assert json.loads((tmp_path / "results" / f"{name}.json").read_text())["figures"]
    assert "all of the paper, all seeds" in measured["paper_time"]
    assert all(seen["figure"]["value"] == 0 for seen in parts["waits"]["records"])
