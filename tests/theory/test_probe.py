"""What a trial with a certificate records, and that it trains as it would without."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from certificate_cases import (
    ADAM,
    DELTA_GCLIP,
    DESCENT,
    lines,
    parts_of,
    records,
    train,
    trained,
    trial_of,
)

from deltagclip_cli.core import DeviceError
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.spec.trial import Trial
from deltagclip_cli.theory.landscape import Landscape
from deltagclip_cli.theory.probe import CertificateProbe
from deltagclip_cli.training import assembly
from deltagclip_cli.training.trainer import Ending


def numbers(folder: RunFolder, *, theory: bool = True) -> list[dict[str, Any]]:
    """What was recorded, without what a clock told."""
    return [
        {
            name: value
            for name, value in record.items()
            if name != "time" and "perf/" not in name and (theory or "theory/" not in name)
        }
        for record in records(folder)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [DELTA_GCLIP, ADAM])
@pytest.mark.parametrize("precision", ["fp64", "fp32"])
def test_a_certificate_changes_no_number_of_the_training(
    optimizer: dict[str, Any], precision: str, tmp_path: Path
) -> None:
    short = {"precision": precision, "epochs": 12}
    measured = trial_of(optimizer, certificate={"every": 2}, **short)
    plain = trial_of(optimizer, certificate=None, **short)
    assert measured.identity == plain.identity
    with_it = trained(measured, tmp_path / "with")
    without = trained(plain, tmp_path / "without")
    assert numbers(with_it, theory=False) == numbers(without)


def test_the_costly_numbers_are_there_at_the_start_at_every_tenth_step_and_at_the_end(
    finished: RunFolder,
) -> None:
    costly = ("lambda_min", "lambda_max", "lambda_error", "beta", "points")
    for name in costly:
        steps = [each["step"] for each in records(finished) if f"theory/{name}" in each]
        assert steps == [1, 11, 21, 31, 41, 51, 60]
    assert all("theory/distance" in each for each in records(finished))


def test_a_record_tells_of_the_weights_before_its_step(finished: RunFolder) -> None:
    first, second, *_ = records(finished)
    assert first["theory/distance"] == 0
    moved = first["optim/step_size"] * first["optim/grad_norm"]
    assert second["theory/distance"] == pytest.approx(moved, rel=1e-12)
    parts = parts_of(trial_of())
    landscape = Landscape(parts.model, parts.task, *next(parts.train.iterate(None, None)))
    assert first["theory/beta"] == pytest.approx(landscape.smoothness(), rel=1e-12)
    least, _ = landscape.kernel_extremes()
    assert first["theory/lambda_min"] == pytest.approx(least.value, rel=1e-12)


# λ_min falls and rises again: at step 3 the PL* ratio is below it at the start and at the end.
DIPPING = {
    "model": {"width": 16},
    "data": {"points": 3, "dimension": 2},
    "certificate": {"every": 1000},
}


def dipping(**settings: Any) -> Trial:
    return trial_of({**DESCENT, "lr": 0.5}, **{**DIPPING, **settings})


def measured(folder: RunFolder) -> list[int]:
    """The steps at which the costly numbers are there."""
    return [each["step"] for each in records(folder) if "theory/lambda_min" in each]


def test_where_the_ratio_is_below_the_kernel_s_eigenvalues_these_are_measured_again(
    tmp_path: Path,
) -> None:
    folder = trained(dipping(), tmp_path)
    first, *dip, last = measured(folder)
    assert (first, last) == (1, 60) and dip
    least = [each["theory/lambda_min"] for each in records(folder) if each["step"] in dip]
    assert max(least) < records(folder)[0]["theory/lambda_min"]
    assert str(lines(folder)["PL*"]) == "holds"


def test_what_is_measured_at_a_step_is_of_the_weights_before_it(tmp_path: Path) -> None:
    lazy = trained(dipping(), tmp_path / "lazy")
    every = trained(dipping(certificate={"every": 1}), tmp_path / "every")
    step = measured(lazy)[1]
    for name in ("theory/lambda_min", "theory/lambda_max", "theory/beta"):
        assert records(lazy)[step - 1][name] == records(every)[step - 1][name]


def test_a_kernel_is_measured_again_as_often_as_was_planned_at_the_most() -> None:
    parts = parts_of(trial_of())
    landscape = Landscape(parts.model, parts.task, *next(parts.train.iterate(None, None)))
    probe = CertificateProbe(landscape, every=3, epochs=7, precision="fp64")
    planned = again = 0
    for epoch in range(7):
        numbers = probe.before(epoch)
        planned += "theory/lambda_min" in numbers
        short = {"train/loss": 1.0, "optim/grad_norm": 1e-6, **numbers}
        again += "theory/lambda_min" in probe.after(short)
        assert again <= planned
    assert (planned, again) == (3, 2)  # none is left to be made after the last


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize(
    "trial", [trial_of(epochs=15, certificate={"every": 4}), dipping(epochs=15)]
)
def test_a_trial_that_is_stopped_again_and_again_measures_the_same_bits(
    trial: Trial, steps: int, tmp_path: Path
) -> None:
    whole = trained(trial, tmp_path / "whole")
    starts = 0
    ending = Ending.STOPPED
    while ending is Ending.STOPPED:
        starts += 1
        asked = iter(range(1, 100))
        torch.manual_seed(starts)
        ending = train(trial, tmp_path / "pieces", lambda asked=asked: next(asked) == steps)
    assert starts > 2
    assert numbers(RunFolder.of(tmp_path / "pieces", trial)) == numbers(whole)


@pytest.mark.slow
def test_a_trial_that_diverges_measures_what_there_is(tmp_path: Path) -> None:
    linear = {"name": "mlp", "hidden": []}  # whose gradients grow with its weights
    trial = trial_of({**DESCENT, "lr": 500.0}, model=linear, epochs=120, certificate={"every": 9})
    folder = trained(trial, tmp_path)
    assert folder.state == "diverged"
    found = records(folder)
    assert found[-1]["theory/distance"] > 1e3 * found[1]["theory/distance"] > 0
    judged = lines(folder)
    assert str(judged["rate"]) == str(judged["decay"]) == "premise not met"
    assert "broken at step" in judged["decay"].reason


def test_of_weights_that_are_not_finite_nothing_is_known() -> None:
    parts = parts_of(trial_of())
    landscape = Landscape(parts.model, parts.task, *next(parts.train.iterate(None, None)))
    with torch.no_grad():
        next(parts.model.parameters()).fill_(torch.inf)
    landscape.update()
    low, high = landscape.kernel_extremes()
    assert math.isnan(low.value) and math.isnan(high.value)
    assert math.isnan(landscape.smoothness())


# ------------------------------------------------------------------- lr: auto


@pytest.mark.parametrize("name", ["delta_gclip", "sgd"])
def test_an_automatic_rate_is_one_over_beta_and_is_recorded(name: str, tmp_path: Path) -> None:
    optimizer = {**(DELTA_GCLIP if name == "delta_gclip" else DESCENT), "lr": "auto"}
    folder = trained(trial_of(optimizer, epochs=3), tmp_path)
    first = records(folder)[0]
    assert first["optim/lr"] == 1 / first["theory/beta"]
    assert "lr: auto" in folder.trial_file.read_text()
    assert folder.trial().identity == trial_of(optimizer, epochs=3).identity


def test_an_automatic_rate_needs_no_certificate(tmp_path: Path) -> None:
    trial = trial_of({**DESCENT, "lr": "auto"}, epochs=2, certificate=None)
    folder = trained(trial, tmp_path)
    assert 0 < records(folder)[0]["optim/lr"] < 1


def test_a_schedule_starts_from_the_automatic_rate(tmp_path: Path) -> None:
    schedule = {"name": "multistep", "milestones": [1], "factor": 0.5}
    folder = trained(trial_of({**DESCENT, "lr": "auto"}, epochs=2, schedule=schedule), tmp_path)
    first, second = records(folder)
    assert second["optim/lr"] == first["optim/lr"] / 2


# --------------------------------------------------------------------- memory


def test_a_width_without_room_is_refused_with_one_that_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "free_bytes", lambda device: 10**8)
    with pytest.raises(DeviceError) as caught:
        parts_of(trial_of(model={"width": 100_000}))
    message = str(caught.value)
    assert message.startswith("model.width is 100000: training its 10,000,800,000 parameters")
    assert "0.1 GB are free" in message
    fits = int(message.rpartition("=")[2])
    assert 900 < fits < 1200  # 88 bytes for each of its width² parameters
    parts_of(trial_of(model={"width": fits}))
    with pytest.raises(DeviceError):
        parts_of(trial_of(model={"width": fits * 11 // 10}))


def test_without_numbers_of_the_theorem_a_wider_network_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assembly, "free_bytes", lambda device: 10**8)
    parts_of(trial_of(model={"width": 1500}, certificate=None))
    with pytest.raises(DeviceError):
        parts_of(trial_of(model={"width": 1500}))


def test_where_nobody_knows_the_memory_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "free_bytes", lambda device: None)
    parts_of(trial_of())
