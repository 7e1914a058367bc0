"""What the starts of a trial tell of its threads, and of all else that changes its bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deltagclip_cli.runs.environment import (
    THREADS,
    circumstances,
    circumstances_of_all,
    decided_threads,
    read_starts,
)
from deltagclip_cli.runs.folder import RunFolder

ON_CPU: dict[str, Any] = {
    "deltagclip_cli": "0.1.0",
    "packages": {"torch": "2.15.0", "transformers": None, "numpy": "2.4"},
    "cuda": "13.0",
    "cudnn": 92600,
    "device": "cpu x86_64",
    "processor": "Xeon (AVX512)",
    "threads": 2,
    "variables": {},
    "host": "node1",
}
ON_GPU = {**ON_CPU, "device": "cuda:1 NVIDIA H200"}
ODD = ["x", 3, None, {"threads": True, "packages": [1], "device": 7, "variables": "no", "torch": 1}]


def test_on_a_cpu_threads_and_processor_change_the_bits() -> None:
    assert circumstances(ON_CPU) == {
        "device": "CPU",
        "threads": "2",
        "processor": "Xeon (AVX512)",
        "torch": "2.15.0",
        "deltagclip_cli": "0.1.0",
        "variables": "none",
        "program": "eager",  # that of starts that say nothing of it
    }


def test_on_a_gpu_its_libraries_do_but_not_which_of_a_kind_it_is() -> None:
    told = circumstances(ON_GPU)
    libraries = {"CUDA", "cuDNN", "torch", "deltagclip_cli"}
    assert told.keys() == {"device", *libraries, "variables", "program"}
    assert told == circumstances({**ON_GPU, "device": "cuda:0 NVIDIA H200", "threads": 7})
    assert told != circumstances({**ON_GPU, "device": "cuda:0 NVIDIA A100"})


def test_a_trial_that_went_on_in_other_circumstances_has_both() -> None:
    later = {**ON_CPU, "packages": {"torch": "2.16.0"}, "host": "node2"}
    found = circumstances_of_all([ON_CPU, ON_CPU, later, ON_CPU])
    assert found == {**circumstances(ON_CPU), "torch": "2.15.0, then 2.16.0"}


@pytest.mark.parametrize(
    "text", ["", "[{", "{}", "7", "[" * 100_000, json.dumps(ODD), '[{"threads": -1}]', "\ud800"]
)
def test_a_damaged_file_tells_nothing_and_stops_nothing(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path)
    folder.environment_file.write_text(text, errors="surrogatepass")
    starts = read_starts(folder)
    circumstances_of_all(starts)
    assert decided_threads(starts, None) == THREADS
    assert decided_threads(starts, 3) == 3


def test_the_threads_are_those_of_the_last_start_that_tells() -> None:
    starts = [{"threads": 4}, {"threads": 2}, {}, {"threads": "8"}]
    assert decided_threads(starts, 3) == 2
