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

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RECORDS_AND_HANGS = """
import sys, time
with open(sys.argv[sys.argv.index("--records") + 1], "w") as file:
    file.write('{"seen": 1}\\n{"cut o')
print("said before", flush=True)
time.sleep(60)
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


@pytest.mark.slow
def test_a_part_that_hangs_is_ended_and_keeps_what_it_recorded(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpu_parts.py").write_text(RECORDS_AND_HANGS)
    monkeypatch.setattr(script, "HERE", tmp_path)
    monkeypatch.setattr(script, "PARTS", [script.Part("waits", 3.0)])
    monkeypatch.setattr(sys, "argv", [])
    code, results = results_of(script, tmp_path / "out")
    part = results["parts"]["waits"]
    assert code == 1
    assert part["status"] == "timed out"
    assert part["records"] == [{"seen": 1}]
    assert "said before" in part["last_words"]


def test_what_has_no_time_left_is_not_begun(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    code, results = results_of(script, tmp_path, "--minutes", "0")
    assert code == 1
    assert {part["status"] for part in results["parts"].values()} == {"no time"}


def test_the_limits_of_all_parts_fit_into_nine_minutes(script: ModuleType) -> None:
    assert sum(part.limit for part in script.PARTS) + script.SECONDS_TO_END <= 9 * 60


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


@pytest.mark.slow
def test_the_whole_script_works_on_a_cpu(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra 'bert' is not installed")
    command = ["bash", str(BENCHMARKS / "on_a_gpu.sh"), "--output", str(tmp_path)]
    done = subprocess.run(
        [*command, "--device", "cpu", "--quick"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert done.returncode == 0, (done.stdout, done.stderr, results)
    parts = results["parts"]
    assert all(part["status"] == "done" for part in parts.values())
    assert parts["machine"]["records"][1]["torch"]
    (counts,) = [seen["counts"] for seen in parts["tests"]["records"] if "counts" in seen]
    assert sum(counts.values()) > 200
    models = {"resnet18", "vit_tiny", "kan", "vae", "distilbert"}
    for name in ("waits", "trainings", "same-bits"):
        records = parts[name]["records"]
        assert models <= {seen["model"] for seen in records}
        assert not any(seen.get("error") for seen in records), records
    assert all(seen["same"] for seen in parts["same-bits"]["records"])
    assert all(seen["samples_per_second"] > 0 for seen in parts["trainings"]["records"])
