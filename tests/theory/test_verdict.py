"""Every line of a certificate: that it holds where it must, and fails where it was made to."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from certificate_cases import (
    ADAM,
    DELTA_GCLIP,
    DESCENT,
    GCLIP,
    certified,
    change,
    lines,
    records,
    trained,
    trial_of,
    verdicts,
)

from deltagclip_cli.results.read.tree import read_trials
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.theory.certificate import certificate_of
from deltagclip_cli.theory.verdict import Verdict

NAMES = ("rate", "kernel", "step size", "PL*", "descent", "decay", "path", "ball")
HOLDS = dict.fromkeys(NAMES, "holds")
RATE = ("rate", "descent", "decay", "path", "ball")  # what hangs on η ≤ 1/β


def failing(folder: RunFolder) -> dict[str, str]:
    return {name: verdict for name, verdict in verdicts(folder).items() if verdict != "holds"}


def test_every_line_of_delta_gclip_holds_over_all_three_regimes(finished: RunFolder) -> None:
    assert verdicts(finished) == HOLDS
    certificate = certified(finished)
    assert certificate.holds
    regimes = certificate.trajectory.regimes
    assert regimes is not None
    assert sum(regimes.values()) == 60
    assert min(regimes.values()) > 0, regimes


def test_its_numbers_are_those_of_a_plain_loop_over_the_records(finished: RunFolder) -> None:
    """Everything once more from ``metrics.jsonl``, as the paper writes it."""
    found = records(finished)
    mu = min(each["theory/lambda_min"] for each in found if "theory/lambda_min" in each)
    beta = max(each["theory/beta"] for each in found if "theory/beta" in each)
    eta, delta = found[0]["optim/lr"], 0.25
    first = 8 * found[0]["train/loss"]
    t = len(found) - 1
    factor = 1 - eta * delta * mu
    record = certified(finished).record()
    of = {line["name"]: line for line in record["lines"]}
    assert record["mu"] == pytest.approx(mu, rel=1e-12)
    assert of["decay"]["bound"] == pytest.approx(factor**t * first, rel=1e-6)
    assert of["decay"]["measured"] == pytest.approx(8 * found[-1]["train/loss"], rel=1e-6)
    way = eta * math.sqrt(2 * beta * first) * sum(factor ** (s / 2) for s in range(t))
    assert of["path"]["bound"] == pytest.approx(way, rel=1e-6)
    radius = 2 * math.sqrt(2 * beta * first) / (delta * mu)
    assert of["ball"]["bound"] == pytest.approx(radius, rel=1e-6)
    ratios = [r["optim/grad_norm"] ** 2 / (2 * 8 * r["train/loss"]) for r in found]
    assert of["PL*"]["measured"] == pytest.approx(min(ratios), rel=1e-6)
    last = found[-2]
    h = last["optim/step_size"]
    gain = h * (1 - beta * h / 2) * last["optim/grad_norm"] ** 2
    assert of["descent"]["bound"] == pytest.approx(8 * last["train/loss"] - gain, rel=1e-6)
    assert of["rate"]["bound"] == pytest.approx(1 / beta, rel=1e-6)


# ------------------------------------------------------------- premises that fail


def test_a_rate_above_one_over_beta_is_a_premise_that_is_not_met(tmp_path: Path) -> None:
    folder = trained(trial_of({**DELTA_GCLIP, "lr": 3.0}), tmp_path)
    assert failing(folder) == dict.fromkeys(RATE, "premise not met")
    line = lines(folder)["rate"]
    assert line.measured == 3.0 > (line.bound or 0)
    assert lines(folder)["decay"].reason.startswith("η > 1/β (")


def test_a_schedule_that_raises_the_rate_is_found_at_its_step(tmp_path: Path) -> None:
    schedule = {"name": "multistep", "milestones": [20], "factor": 20.0}
    line = lines(trained(trial_of(schedule=schedule), tmp_path))["rate"]
    assert line.verdict is Verdict.NOT_MET
    assert line.step == 21


def test_a_schedule_below_one_over_beta_leaves_every_line_as_it_is(tmp_path: Path) -> None:
    schedule = {"name": "cosine", "warmup": 5}
    assert verdicts(trained(trial_of(schedule=schedule), tmp_path)) == HOLDS


def test_a_kernel_that_is_singular_is_a_premise_that_is_not_met(tmp_path: Path) -> None:
    """Two weights for each of two inputs and two outputs: 8 for 16 outputs."""
    model = {"name": "wide_mlp", "width": 2, "depth": 1}
    data = {"points": 8, "dimension": 2}
    folder = trained(trial_of({**DELTA_GCLIP, "lr": 0.05}, model=model, data=data), tmp_path)
    lost = ("kernel", "PL*", "decay", "path", "ball")
    assert failing(folder) == dict.fromkeys(lost, "premise not met")
    assert "λ_min = 0" in lines(folder)["PL*"].reason


# --------------------------------------------------------- lines that are violated


def test_a_step_below_the_floor_is_found(folder: RunFolder) -> None:
    rate = records(folder)[11]["optim/lr"]
    change(folder, 12, optim__step_size=0.9 * 0.25 * rate)
    assert failing(folder) == {"step size": "violated at step 12"}
    line = lines(folder)["step size"]
    assert line.measured == pytest.approx(0.225)
    assert line.bound == 0.25


def test_a_step_above_the_rate_is_found(folder: RunFolder) -> None:
    change(folder, 7, optim__step_size=1.5 * records(folder)[6]["optim/lr"])
    assert failing(folder)["step size"] == "violated at step 7"
    assert lines(folder)["step size"].bound == 1.0


def test_a_gradient_that_is_too_short_breaks_the_pl_inequality(folder: RunFolder) -> None:
    change(folder, 31, optim__grad_norm=1e-3)
    assert failing(folder)["PL*"] == "violated at step 31"


def test_where_the_kernel_was_not_measured_no_gradient_contradicts_it(folder: RunFolder) -> None:
    change(folder, 30, optim__grad_norm=1e-3)
    line = lines(folder)["PL*"]
    assert (str(line), line.bound) == ("not decided at step 30", certified(folder).theorem.mu)
    assert "λ_min was not measured at step 30" in line.reason
    assert not certified(folder).holds
    change(folder, 31, optim__grad_norm=1e-3)
    assert failing(folder)["PL*"] == "violated at step 31"


def test_what_is_violated_is_said_to_be_so_by_the_steps_that_were_measured(
    folder: RunFolder, tmp_path: Path
) -> None:
    change(folder, 50, train__loss=10.0)
    words = "by β and μ of 7 of 60 steps: between them β may be more, μ less"
    assert lines(folder)["decay"].reason == lines(folder)["descent"].reason == words
    dense = trained(trial_of(epochs=12, certificate={"every": 1}), tmp_path)
    change(dense, 11, train__loss=10.0)
    assert str(lines(dense)["decay"]) == "violated at step 11"
    assert lines(dense)["decay"].reason == ""


def test_a_loss_that_falls_too_little_breaks_the_descent(folder: RunFolder) -> None:
    found = records(folder)
    change(folder, 40, train__loss=found[38]["train/loss"])
    assert failing(folder) == {"descent": "violated at step 40"}


@pytest.mark.parametrize("loss", [10.0, None])
def test_a_loss_above_its_bound_breaks_the_decay(folder: RunFolder, loss: float | None) -> None:
    change(folder, 50, train__loss=loss)
    assert failing(folder)["decay"] == "violated at step 50"


def test_a_point_too_far_from_the_start_leaves_the_ball(folder: RunFolder) -> None:
    change(folder, 20, theory__distance=1e4)
    outside = {"path": "violated at step 20", "ball": "violated at step 20"}
    assert failing(folder) == outside


def test_the_sum_is_the_narrower_bound_of_the_distance(folder: RunFolder) -> None:
    of = lines(folder)
    change(folder, 3, theory__distance=of["ball"].bound)
    assert failing(folder) == {"path": "violated at step 3"}


# ------------------------------------------------------------ other optimizers


def test_gradient_descent_has_a_floor_of_one(tmp_path: Path) -> None:
    folder = trained(trial_of(DESCENT), tmp_path)
    assert verdicts(folder) == HOLDS
    assert certified(folder).theorem.delta == 1.0


@pytest.mark.slow
def test_gclip_has_no_floor_and_is_promised_no_rate(tmp_path: Path) -> None:
    folder = trained(trial_of(GCLIP), tmp_path)
    assert failing(folder) == dict.fromkeys(("decay", "path", "ball"), "premise not met")
    assert "without a floor" in lines(folder)["decay"].reason


@pytest.mark.parametrize(
    ("optimizer", "why"),
    [
        (ADAM, "adam is not gradient descent"),
        ({**DESCENT, "momentum": 0.5}, "momentum adds"),
        ({**DELTA_GCLIP, "weight_decay": 0.1}, "weight_decay adds"),
        ({**DELTA_GCLIP, "norm_scope": "parameter"}, "each tensor has a step size of its own"),
    ],
)
def test_of_what_is_not_plain_descent_only_the_kernel_is_judged(
    optimizer: dict[str, Any], why: str, tmp_path: Path
) -> None:
    folder = trained(trial_of(optimizer, epochs=12), tmp_path)
    judged = lines(folder)
    assert {name for name, line in judged.items() if line.verdict is Verdict.HOLDS} == {
        "kernel",
        "PL*",
    }
    assert all(why in judged[name].reason for name in (*RATE, "step size"))


# --------------------------------------------------------------------- rounding


@pytest.mark.parametrize(("doubts", "verdict"), [(2, "holds"), (8, "violated at step 31")])
def test_a_ratio_below_mu_violates_it_by_more_than_rounding_only(
    doubts: int, verdict: str, folder: RunFolder
) -> None:
    """At a loss of which rounding may have changed the root by a thousandth."""
    trajectory, mu = certified(folder).trajectory, certified(folder).theorem.mu
    loss = (trajectory.slack / 1e-3) ** 2
    ratio = mu * (1 - doubts * 1e-3)
    change(folder, 31, train__loss=loss / 8, optim__grad_norm=math.sqrt(2 * loss * ratio))
    assert certified(folder).trajectory.ratios[30] == pytest.approx(ratio)
    assert verdicts(folder)["PL*"] == verdict


@pytest.mark.slow
def test_losses_at_the_end_of_the_precision_violate_nothing(tmp_path: Path) -> None:
    """In float32 the loss stops falling, while the bound goes on and the gradient is noise."""
    often = {"precision": "fp32", "epochs": 1000, "certificate": {"every": 500}}
    trial = trial_of(DESCENT, checkpoint={"epochs": 1000}, **often)
    folder = trained(trial, tmp_path)
    assert records(folder)[-1]["train/loss"] < 1e-9
    assert verdicts(folder) == HOLDS


# ------------------------------------------------------------------------ files


def test_the_file_has_every_line_and_every_number(folder: RunFolder) -> None:
    certified(folder).write()
    read = json.loads(folder.certificate_file.read_text())
    assert read["identity"] == folder.trial().identity
    assert read["holds"] is True
    assert [line["name"] for line in read["lines"]] == list(HOLDS)
    assert read["measured_at"] == [1, 11, 21, 31, 41, 51, 60]
    assert read["regimes"].keys() == {"plain", "clipped", "floored"}
    assert read["lambda_min"]["least"] == read["mu"] > 0
    assert folder.state == "finished"


def test_of_a_run_that_goes_on_the_steps_so_far_are_judged(folder: RunFolder) -> None:
    whole = folder.metrics_file.read_text().splitlines(keepends=True)
    folder.metrics_file.write_text("".join(whole[:25]))
    folder.result_file.unlink()
    assert certified(folder).record()["steps"] == 25
    assert verdicts(folder) == HOLDS


def test_a_run_s_certificate_is_made_once_however_often_it_is_asked_for(folder: RunFolder) -> None:
    (run,) = read_trials([folder.path]).runs
    folder.trial_file.unlink()
    assert certificate_of(run) is certificate_of(run)
