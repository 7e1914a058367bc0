"""``deltagclip train``: what it makes of its words before, and instead of, training."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from invocation import Invoke
from tiny_spec import TINY, trial_of, write_spec

from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import create

TRAIN = ("train", "tiny", "--spec", "spec.yaml")


def dry(deltagclip: Invoke, *words: str) -> dict:
    shown = deltagclip(*TRAIN, "--dry-run", "--json", *words)
    assert shown.exit_code == 0, shown.output
    return json.loads(shown.stdout)


def test_a_dry_run_shows_the_resolved_trial_and_makes_nothing(
    deltagclip: Invoke, tmp_path: Path
) -> None:
    trial = trial_of(tmp_path)
    shown = deltagclip(*TRAIN, "--dry-run")
    assert shown.exit_code == 0
    first = shown.stdout.partition("\n")[0]
    assert first == f"# runs/{trial.folder} (new)"
    assert yaml.safe_load(shown.stdout) == trial.model_dump(mode="json")
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


def test_a_dry_run_as_json_is_for_programs(deltagclip: Invoke, tmp_path: Path) -> None:
    trial = trial_of(tmp_path)
    assert dry(deltagclip) == {
        "folder": f"runs/{trial.folder}",
        "state": "new",
        "trial": trial.model_dump(mode="json"),
    }


def test_the_first_experiment_is_taken_unless_another_is_named(deltagclip: Invoke) -> None:
    again = TINY[TINY.index("  tiny:") :].replace("  tiny:", "  again:", 1)
    Path("spec.yaml").write_text(TINY + again)
    shown = deltagclip("train", "--spec", "spec.yaml", "--dry-run", "--json")
    assert json.loads(shown.stdout)["trial"]["experiment"] == "tiny"


def test_the_first_optimizer_and_seed_are_taken_unless_others_are_named(deltagclip: Invoke) -> None:
    Path("spec.yaml").write_text(TINY.replace("epochs: 2", "epochs: 2\n    seeds: [4, 5]"))
    chosen = dry(deltagclip)["trial"]
    assert (chosen["label"], chosen["seed"]) == ("sgd", 4)
    chosen = dry(deltagclip, "--optimizer", "delta-gclip", "--seed", "9")["trial"]
    assert (chosen["label"], chosen["seed"]) == ("delta-gclip", 9)
    assert chosen["optimizer"]["delta"] == 1e-3


def test_set_and_runs_are_taken_into_account(deltagclip: Invoke) -> None:
    answer = dry(
        deltagclip, "--set", "epochs=9", "--set", "model.hidden=[]", "--runs", "else/where"
    )
    assert answer["trial"]["epochs"] == 9
    assert answer["trial"]["model"]["hidden"] == []
    assert answer["folder"].startswith("else/where/tiny/sgd/seed-0-")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("train", "tinny", "--spec", "spec.yaml"),
            "no experiment 'tinny'. experiments: tiny - did",
        ),
        (("train", "tiny"), "experiments.yaml: there is no such file"),
        ((*TRAIN, "--optimizer", "sgdd"), "no such optimizer. optimizers: sgd, delta-gclip - did"),
        ((*TRAIN, "--seed", "-1"), "--seed"),
        ((*TRAIN, "--seed", "one"), "--seed"),
        ((*TRAIN, "--set", "epochs"), "--set epochs: expected KEY=VALUE"),
        ((*TRAIN, "--set", "epochs=0"), "--set epochs=0: tiny: 'epochs' must be greater than 0"),
        ((*TRAIN, "--set", "model.name=mlpp"), "there is no model 'mlpp'"),
        ((*TRAIN, "--device", "tpu"), "--device tpu: expected auto, cpu, cuda or cuda:N"),
        ((*TRAIN, "--device", "cpu:x"), "--device cpu:x: expected auto, cpu, cuda or cuda:N"),
        ((*TRAIN, "--device", "meta"), "--device meta: expected auto, cpu, cuda or cuda:N"),
        ((*TRAIN, "--device", "cuda:99"), "--device cuda:99: torch sees"),
        ((*TRAIN, "--device", ""), "--device : expected auto"),
    ],
)
def test_a_wrong_input_is_refused_with_2_and_its_reason(
    deltagclip: Invoke, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    refused = deltagclip(*words)
    assert refused.exit_code == 2
    assert message in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.output
    assert "should not have happened" not in refused.output
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


@pytest.mark.parametrize("seed", [str(2**31), str(2**70)])
def test_a_seed_that_is_too_large_is_a_wrong_input(deltagclip: Invoke, seed: str) -> None:
    refused = deltagclip(*TRAIN, "--seed", seed, "--dry-run")
    assert refused.exit_code == 2
    assert "should not have happened" not in refused.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data={name: image_folder, path: nowhere, batch_size: 4}"], "nowhere"),
        (["data.batch_size=9"], "data.batch_size is 9, but synthetic has 8 samples"),
        (["data.train_samples=9"], "train"),
        (["data.normalize={mean: [0, 0], std: [1, 1]}"], ""),
        (["optimizers.sgd={name: adam, betas: [2, 0]}"], "optimizer 'adam' refuses its options"),
        (["optimizers.sgd={name: sgd, nesterov: true}"], "optimizer 'sgd' refuses its options"),
        (["schedule={name: reducelronplateau, warmup: 1}"], "schedule 'reducelronplateau'"),
        (["schedule={name: onecyclelr, max_lr: 1}"], "schedule 'onecyclelr' refuses its options: "),
        (["model={name: torchvision:resnet18, fly: 1}"], "fly"),
        (["model={name: torchvision:resnet18, weights: x}"], "weights"),
        (["model={name: torchvision:resnet18, num_classes: 3}"], "num_classes"),
        (["model.hidden=[0]"], ""),
        (["model=vit_tiny", "data.size=3"], ""),
        (["data={name: sphere, batch_size: 4, augment: flip}"], "augmentations"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_a_folder_is_made(
    deltagclip: Invoke,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("deltagclip_cli.training.assembly.choose_kernels", lambda *_: None)
    sets = [word for each in settings for word in ("--set", each)]
    refused = deltagclip(*TRAIN, *sets, "--device", "cpu", "--data", "data")
    assert refused.exit_code == 2, refused.output
    assert message in refused.stderr
    assert "should not have happened" not in refused.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_the_test_set_ends_no_training_unasked(
    deltagclip: Invoke, tmp_path: Path, command: str
) -> None:
    write_spec(tmp_path)
    early = ["--set", "early_stopping={metric: test/loss, patience: 2}", "--dry-run"]
    done = deltagclip(command, "tiny", "--spec", "spec.yaml", *early)
    assert done.exit_code == 2
    assert "tiny: early_stopping: test/loss would choose on the test set" in done.stderr
    assert "--select-on-test" in done.stderr
    assert (
        deltagclip(command, "tiny", "--spec", "spec.yaml", *early, "--select-on-test").exit_code
        == 0
    )


def test_a_folder_of_another_spec_is_refused(deltagclip: Invoke, tmp_path: Path) -> None:
    trial = trial_of(tmp_path)
    folder = RunFolder.of(tmp_path / "runs", trial)
    create(folder, trial_of(tmp_path, "optimizers.sgd.lr=0.7"))
    folder.result_file.write_text('{"status": "finished"}')
    refused = deltagclip(*TRAIN)
    assert refused.exit_code == 2
    assert "made from another spec: optimizer.lr (0.7 then, 0.1 now)" in refused.stderr


def test_a_worker_wants_a_run_folder(deltagclip: Invoke, tmp_path: Path) -> None:
    refused = deltagclip("worker", "nowhere")
    assert refused.exit_code == 2
    assert "nowhere: not a run folder" in refused.stderr
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "nowhere").mkdir()
    assert "nowhere: not a run folder" in deltagclip("worker", "nowhere").stderr
    assert not any((tmp_path / "nowhere").iterdir())


def test_a_worker_of_a_folder_near_the_root_is_refused_like_any_other(deltagclip: Invoke) -> None:
    refused = deltagclip("worker", "/")
    assert refused.exit_code == 2
    assert "not a run folder" in refused.stderr


def test_a_task_that_does_not_fit_the_model_says_which_does(
    deltagclip: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltagclip_cli.training.assembly.choose_kernels", lambda *_: None)
    refused = deltagclip(*TRAIN, "--set", "task=autoencode", "--device", "cpu")
    assert refused.exit_code in (1, 2)
    assert "task autoencode needs a model that" in refused.stderr
    assert "Choose the model vae, or the task classify." in refused.stderr


def test_a_bug_of_ours_is_told_from_a_mistake_of_the_users(
    deltagclip: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("deltagclip_cli.spec.trial.make_trial", broken)
    failed = deltagclip(*TRAIN, "--dry-run")
    assert failed.exit_code == 1
    assert failed.stderr.startswith("error: this should not have happened: RuntimeError: a bug")
    assert "--debug" in failed.stderr
    shown = deltagclip(*TRAIN, "--dry-run", "--debug", catch=True)
    assert isinstance(shown.exception, RuntimeError)


def test_ctrl_c_is_130(deltagclip: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deltagclip_cli.spec.trial.make_trial", interrupted)
    assert deltagclip(*TRAIN, "--dry-run").exit_code == 130


@pytest.fixture
def finished(trained: Path, tmp_path: Path, deltagclip: Invoke) -> Path:
    """A copy of the finished trial's runs folder, in the folder that the command is called in."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return tmp_path / "runs"


def test_the_answer_of_a_training_is_json(trained: Path) -> None:
    answer = json.loads((trained / "answer.json").read_text())
    assert answer["status"] == "finished"
    assert answer["epochs"] == 2
    assert set(answer["best"]) >= {"train/loss", "test/accuracy"}


def test_a_finished_trial_is_shown_and_not_run_again(deltagclip: Invoke, finished: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    shown = deltagclip(*TRAIN)
    assert shown.exit_code == 0
    assert "is finished already; --force runs it again" in shown.stdout
    assert "test/accuracy" in shown.stdout
    assert "tensorboard --logdir runs/tiny" in shown.stdout
    assert shown.stderr == ""
    assert files == {path: path.stat().st_mtime_ns for path in files}


def test_a_finished_trial_as_json_is_its_result_and_nothing_else(
    deltagclip: Invoke, finished: Path
) -> None:
    shown = deltagclip(*TRAIN, "--json")
    (result,) = finished.rglob("result.json")
    answer = json.loads(shown.stdout)
    assert answer == {"folder": answer["folder"], **json.loads(result.read_text())}
    assert Path(answer["folder"]).is_dir()


def test_quiet_says_nothing_of_a_finished_trial(deltagclip: Invoke, finished: Path) -> None:
    assert deltagclip(*TRAIN, "--quiet").output == ""


def test_a_dry_run_knows_the_state(deltagclip: Invoke, finished: Path) -> None:
    assert dry(deltagclip)["state"] == "finished"
    assert dry(deltagclip, "--set", "epochs=3")["state"] == "new"


def test_a_worker_of_a_finished_trial_has_nothing_to_do(deltagclip: Invoke, finished: Path) -> None:
    (result,) = finished.rglob("result.json")
    before = result.stat().st_mtime_ns
    assert deltagclip("worker", str(result.parent)).exit_code == 0
    assert result.stat().st_mtime_ns == before


def test_a_diverged_trial_is_told_with_1(deltagclip: Invoke, finished: Path) -> None:
    (file,) = finished.rglob("result.json")
    result = json.loads(file.read_text())
    at = {"epoch": 2, "step": 3, "where": "training"}
    result |= {"status": "diverged", "diverged": at}
    result["last"]["train/loss"] = None
    file.write_text(json.dumps(result))
    shown = deltagclip(*TRAIN)
    assert shown.exit_code == 1
    assert "the loss in training was not finite at step 3 (epoch 2)" in shown.stdout
    assert "not finite" in shown.stdout


def test_into_a_pipe_no_colours_are_written(trained: Path) -> None:
    for words in (["validate", "absent.yaml"], list(TRAIN), ["list", "tasks"]):
        done = subprocess.run(
            [sys.executable, "-m", "deltagclip_cli", *words],
            cwd=trained,
            capture_output=True,
            timeout=300,
        )
        assert b"\x1b" not in done.stdout + done.stderr
        assert done.stdout + done.stderr
