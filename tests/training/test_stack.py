"""Members of a stack: each as if it were alone there, whatever becomes of the others."""

from __future__ import annotations

import errno
import logging
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded_graph import Graph, capture_on_the_cpu
from tiny_data import write_bert, write_emotion
from torch import Tensor
from training_cases import (
    ADAM,
    DELTA_GCLIP,
    MOMENTUM,
    SGD,
    TINY,
    VAE,
    StopAt,
    assert_same_numbers,
    epochs,
    numbers,
    result,
    train,
    train_in_pieces,
)

from deltagclip_cli.core import ExitCode, TakenOverError, UsageError
from deltagclip_cli.runs.environment import circumstances, read_starts
from deltagclip_cli.runs.folder import RunFolder
from deltagclip_cli.runs.hold import hold
from deltagclip_cli.spec.code import CodeFolder
from deltagclip_cli.spec.schema import Experiment
from deltagclip_cli.spec.trial import Trial, make_trial
from deltagclip_cli.training import captured, member, stack, stacked_graphs
from deltagclip_cli.training.process import StopRequest
from deltagclip_cli.training.sinks import Sink
from deltagclip_cli.training.stack import run_stack
from deltagclip_cli.training.stacked_graphs import StackedGraphs
from deltagclip_cli.training.stacked_weights import Gathered, StackedWeights
from deltagclip_cli.training.trainer import Ending

HERE = Path(__file__).parent
SLOW = pytest.mark.slow
Give = Callable[[RunFolder], bool]


def never(folder: RunFolder) -> bool:
    return False


def stack_of(places: int, *optimizers: dict[str, Any], **settings: Any) -> list[Trial]:
    """A trial of each optimizer, with seeds from 0; other data than the tiny ones are whole."""
    data = settings.pop("data", {})
    written = {**TINY, **settings, "stack": places}
    written["data"] = data if "name" in data else {**TINY["data"], **data}
    experiment = Experiment.model_validate(
        {**written, "optimizers": {f"member-{n}": each for n, each in enumerate(optimizers)}},
        context=CodeFolder(HERE),
    )
    return [
        make_trial("tiny", experiment, label, seed)
        for seed, label in enumerate(experiment.optimizers)
    ]


def together(
    trials: Sequence[Trial],
    runs: Path,
    give_up: Give = never,
    *,
    sinks: Callable[[RunFolder], Sequence[Sink]] = lambda folder: (),
    data_dir: Path = Path("nowhere"),
    device: str = "cpu",
) -> dict[RunFolder, ExitCode]:
    """Run trials as members of one stack, in folders that are made for them."""
    folders = [RunFolder.of(runs, trial) for trial in trials]
    for folder, trial in zip(folders, trials, strict=True):
        if trial.code is not None:
            CodeFolder.of_spec(HERE, runs, "tiny").keep(trial.references)
        if not folder.trial_file.exists():
            with hold(folder, make=True) as held:
                held.keep(trial)
    return run_stack(
        folders,
        data_dir=data_dir,
        device=device,
        stop=StopRequest(),
        give_up=give_up,
        sinks=sinks,
    )


BATTERY: dict[str, tuple[Sequence[dict[str, Any]], dict[str, Any]]] = {
    "odd sizes": (
        (DELTA_GCLIP, MOMENTUM),
        {
            "model": {"name": "mlp", "hidden": [13], "activation": "gelu"},
            "data": {"size": 7},
            "epochs": 1,
        },
    ),
    "kan": ((DELTA_GCLIP, ADAM), {"model": {"name": "kan", "hidden": [8]}}),
    "vae": (({**DELTA_GCLIP, "lr": 1e-3}, ADAM), VAE),
    "averages": (
        (
            {**ADAM, "clip_grad_norm": 0.5, "schedule": {"name": "cosine", "unit": "step"}},
            {**DELTA_GCLIP, "groups": {"last": {"match": ["3.*"], "lr": 0.1}}},
        ),
        {"ema": 0.9, "accumulate": 2, "evaluate_every": 3, "log_every": 1},
    ),
    "half precision": ((DELTA_GCLIP, SGD), {"precision": "bf16"}),
    "closures": (({"name": "lbfgs", "lr": 0.1}, SGD), {"epochs": 1}),
    "other weights": (({"name": "own_stack_parts.py:Replacing", "lr": 0.1},) * 2, {"epochs": 2}),
    "an operation that is not exact": (({"name": "inexact_parts.py:LateSGD", "lr": 0.1},) * 2, {}),
    "own draws": ((DELTA_GCLIP, ADAM), {"model": {"name": "own_stack_parts.py:Drawing"}}),
    "language": (
        (ADAM, {**DELTA_GCLIP, "lr": 0.5}),
        {
            "model": {"name": "gpt", "layers": 1, "heads": 2, "width": 8, "dropout": 0.2},
            "data": {
                "name": "tokens",
                "path": "sums.txt",
                "window": 16,
                "batch_size": 16,
                "tokenizer": "characters",
                "splits": {"test": 0.1},
            },
            "task": {"name": "language_model"},
            "epochs": 1,
        },
    ),
    "images": (
        (DELTA_GCLIP, ADAM),
        {
            "model": {"name": "vit_tiny"},
            "data": {
                "size": 16,
                "channels": 3,
                "train": 6,
                "test": 4,
                "batch_size": 3,
                "augment": ["flip"],
            },
            "epochs": 2,
        },
    ),
    "certificates": (
        (DELTA_GCLIP, {**DELTA_GCLIP, "gamma": 0.3}),
        {
            "model": {"name": "wide_mlp", "width": 16},
            "data": {"name": "sphere", "points": 8, "dimension": 4, "batch_size": "full"},
            "task": {"name": "classify", "loss": "squared", "reduction": "sum"},
            "precision": "fp64",
            "certificate": {"every": 1},
        },
    ),
}


def compare_with_pieces(case: str, folder: Path, device: str = "cpu") -> None:
    """Compare members of a stack with themselves, alone there and stopped every other step."""
    optimizers, settings = BATTERY[case]
    (folder / "sums.txt").write_text("".join(f"{n} and 1 make {n + 1}\n" for n in range(60)))
    trials = stack_of(4, *optimizers, **settings)
    codes = together(trials, folder / "whole", data_dir=folder, device=device)
    assert set(codes.values()) == {ExitCode.OK}
    for trial in trials:
        assert train_in_pieces(trial, folder / "pieces", 2, folder, device) > 1
        here, whole = (RunFolder.of(folder / each, trial) for each in ("pieces", "whole"))
        assert_same_numbers(here, whole)


def test_a_member_has_the_same_bits_alone_and_in_pieces(tmp_path: Path) -> None:
    compare_with_pieces("odd sizes", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", list(BATTERY)[1:])
def test_members_have_the_same_bits_alone_and_in_pieces(tmp_path: Path, case: str) -> None:
    compare_with_pieces(case, tmp_path)


def test_one_that_diverges_or_fails_leaves_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wild = {"name": "sgd", "lr": 1e30}
    trials = stack_of(5, SGD, wild, SGD, SGD, epochs=2)
    folders = [RunFolder.of(tmp_path / "runs", trial) for trial in trials]
    errors = {
        folders[2]: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        folders[3]: TakenOverError("somebody else has it"),
    }

    class Failing(Sink):
        def __init__(self, error: Exception) -> None:
            self.error = error

        def batch(self, step: int, samples: int) -> None:
            if step == 3:
                raise self.error

    caplog.set_level(logging.INFO, "deltagclip_cli")
    codes = together(
        trials,
        tmp_path / "runs",
        sinks=lambda folder: [Failing(errors[folder])] if folder in errors else [],
    )
    assert [codes[folder] for folder in folders] == [
        *(ExitCode.OK, ExitCode.FAILED, ExitCode.STOPPED, ExitCode.CLAIMED),
    ]
    assert [folder.result() is not None for folder in folders] == [True, True, False, False]
    assert result(folders[1])["status"] == "diverged"
    assert folders[2].stopped_file.exists()
    assert train(trials[0], tmp_path / "alone") is Ending.FINISHED
    assert_same_numbers(folders[0], RunFolder.of(tmp_path / "alone", trials[0]))
    logs = [folder.log_file.read_text() for folder in folders]
    assert [log.count("epoch 2/2") for log in logs] == [1, 0, 0, 0]
    for folder, trial in zip(folders[2:], trials[2:], strict=True):
        assert train(trial, tmp_path / "runs") is Ending.FINISHED
        assert folder.result() is not None


def test_members_share_the_data_and_keep_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Trial] = []
    load = member.load_placed

    def counted(trial: Trial, *words: Any, **options: Any) -> Any:
        loads.append(trial)
        return load(trial, *words, **options)

    monkeypatch.setattr(member, "load_placed", counted)
    trials = stack_of(3, SGD, SGD, SGD)
    first, *others = trials
    assert train(trials[2], tmp_path, stop=StopAt(1)) is Ending.STOPPED
    together([trials[2], first, others[0]], tmp_path)
    assert len(loads) == 2
    starts = [read_starts(RunFolder.of(tmp_path, trial))[-1] for trial in trials]
    assert [each["stack"] for each in starts] == [
        {"place": n, "at_once": 3, "places": 3} for n in range(3)
    ]
    assert {each["program"] for each in starts} == {"stacked"}


@pytest.mark.slow
def test_two_that_had_the_same_place_take_turns(tmp_path: Path) -> None:
    trials = stack_of(2, SGD, {**SGD, "lr": 0.1}, {**SGD, "lr": 0.3})
    pair = [trials[0], trials[2]]  # whose seeds both wish for place 0
    for trial in pair:
        assert train(trial, tmp_path / "whole") is Ending.FINISHED
        assert train(trial, tmp_path / "pair", stop=StopAt(2)) is Ending.STOPPED
    assert set(together(pair, tmp_path / "pair").values()) == {ExitCode.OK}
    for trial in pair:
        here, whole = (RunFolder.of(tmp_path / each, trial) for each in ("pair", "whole"))
        assert_same_numbers(here, whole)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": {"name": "own_stack_parts.py:Branching"}}, "values that differ between members"),
        ({"model": {"name": "own_stack_parts.py:Noisy"}}, "draws random numbers by an operation"),
        ({"model": {"name": "own_stack_parts.py:Normed"}}, "has a BatchNorm1d, whose statistics"),
        ({"model": {"name": "own_stack_parts.py:Convolved"}}, "has 2 convolutions, which a stack"),
        (
            {"optimizer": {"name": "own_stack_parts.py:SecondOrder", "lr": 0.1}},
            "differentiates gradients, of which a stack keeps no graph",
        ),
    ],
)
def test_what_does_not_stack_is_refused(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    optimizer = settings.get("optimizer", SGD)
    (trial,) = stack_of(2, optimizer, **{k: v for k, v in settings.items() if k != "optimizer"})
    with pytest.raises(UsageError) as caught:
        train(trial, tmp_path)
    assert words in str(caught.value)
    if "values that differ" in words:  # the line in the user's file
        assert "if outputs.sum() > 0:" in str(caught.value)
    assert "Leave stack out" in str(caught.value)
    assert words in RunFolder.of(tmp_path, trial).error_file.read_text()


def test_trials_that_do_not_stack_with_each_other_are_refused(tmp_path: Path) -> None:
    narrow, wide = stack_of(2, SGD), stack_of(2, SGD, model={"name": "mlp", "hidden": [9]})
    with pytest.raises(UsageError, match="2 trials cannot be members of one stack"):
        together([*narrow, *wide], tmp_path)
    with pytest.raises(UsageError, match="more than its places"):
        together(stack_of(2, SGD, SGD, SGD), tmp_path)


@pytest.mark.slow
def test_memory_that_is_full_halves_what_is_computed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, widths = StackedWeights._forward, list[int]()

    def full(self: StackedWeights, rows: Any, start: int, stop: int) -> Any:
        widths.append(stop - start)
        outcome = forward(self, rows, start, stop)
        if stop - start > 2 and len(widths) > 5:  # behind it, as gradients need as much again
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return outcome

    settings: dict[str, Any] = {"model": {"name": "own_stack_parts.py:Drawing"}, "epochs": 2}
    trials = stack_of(4, SGD, ADAM, SGD, DELTA_GCLIP, **settings)
    together(trials, tmp_path / "wide")
    monkeypatch.setattr(StackedWeights, "_forward", full)
    assert set(together(trials, tmp_path / "short").values()) == {ExitCode.OK}
    assert widths[:6] == [4] * 6 and set(widths[6:]) == {2}
    for trial in trials:
        short, wide = (RunFolder.of(tmp_path / each, trial) for each in ("short", "wide"))
        assert read_starts(short)[-1]["stack"]["at_once"] == 2
        assert circumstances(read_starts(short)[-1])["stack"] == "2 of 4 at once"
        assert "of the stack's 4 places, 2 are computed at once" in short.log_file.read_text()
        for ours, theirs in zip(numbers(short), numbers(wide), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4)


def test_members_wait_for_those_behind_them(tmp_path: Path) -> None:
    trials = stack_of(3, SGD, SGD, SGD, epochs=4)
    assert train(trials[1], tmp_path, stop=StopAt(5)) is Ending.STOPPED
    passes: list[tuple[int, ...]] = []
    attempt = stack.Stack._attempt

    def seen(self: stack.Stack, weights: StackedWeights, group: Any) -> Any:
        passes.append(tuple(sorted(each.step for each in group.values())))
        return attempt(self, weights, group)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stack.Stack, "_attempt", seen)
        together(trials, tmp_path)
    assert all(step == 16 for steps in passes[-2:] for step in steps)
    assert {len(steps) for steps in passes} <= {1, 2, 3}
    together_from = next(n for n, steps in enumerate(passes) if len(steps) == 3)
    alone = sum(len(steps) < 3 for steps in passes[together_from:])
    assert alone <= len(passes) // 3


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Let a CPU capture the steps of stacks; all graphs that are made."""
    capture_on_the_cpu(monkeypatch)
    monkeypatch.setattr(member, "wanted_program", lambda trial, parts: "captured")
    look, gpu = captured._obstacle, torch.device("cuda")
    monkeypatch.setattr(captured, "_obstacle", lambda optimizer, device: look(optimizer, gpu))
    return Graph.made


def never_capture(patched: pytest.MonkeyPatch) -> None:
    """Let all steps be warm ones, which launch what captured ones do."""
    for module in (captured, stacked_graphs):
        patched.setattr(module, "WARM_STEPS", 1_000_000)


OURS = {**DELTA_GCLIP, "foreach": True}  # whose step sizes stay tensors, as on a GPU
ADAGRAD = {"name": "adagrad", "lr": 1e-2}  # whose own steps cannot be captured
LONG: dict[str, Any] = {"model": {"name": "own_stack_parts.py:Drawing"}, "epochs": 8}
"""Trials whose kinds of steps are captured and then replayed; all of them draw at random."""


@pytest.mark.parametrize(
    "settings",
    [
        {"accumulate": 3},  # a step has batches of unlike sizes, whose gradients are added
        pytest.param({"precision": "bf16", "model": TINY["model"]}, marks=SLOW),
        pytest.param({"model": {"name": "kan", "hidden": [8]}}, marks=SLOW),
        pytest.param({"ema": 0.9, "schedule": {"name": "cosine", "unit": "step"}}, marks=SLOW),
    ],
    ids=["draws", "bf16", "kan", "averages"],
)
def test_captured_steps_have_the_bits_of_others(
    settings: dict[str, Any], tmp_path: Path, graphs: list[Graph]
) -> None:
    """One member leaves when all are replayed, and goes on alone."""
    clipped = {**MOMENTUM, "clip_grad_norm": 0.5}
    trials = stack_of(4, OURS, ADAGRAD, clipped, SGD, **{**LONG, **settings})
    with pytest.MonkeyPatch.context() as patched:
        never_capture(patched)
        together(trials, tmp_path / "plain")
    assert not graphs
    asked, leaving = list[RunFolder](), RunFolder.of(tmp_path / "captured", trials[1])

    def leaves(folder: RunFolder) -> bool:
        asked.append(folder)
        return folder == leaving and asked.count(folder) == 9

    codes = together(trials, tmp_path / "captured", leaves)
    assert [each for each in codes if codes[each] is not ExitCode.OK] == [leaving]
    assert len(graphs) == 2 + 1 + 1 + 2, "for each shape, and the steps of three optimizers"
    assert min(graph.replays for graph in graphs) >= 4
    together(trials[1:2], tmp_path / "captured")
    for trial in trials:
        ours, plain = (RunFolder.of(tmp_path / each, trial) for each in ("captured", "plain"))
        assert_same_numbers(ours, plain)


@pytest.mark.slow
def test_no_replay_writes_what_somebody_still_holds(tmp_path: Path, graphs: list[Graph]) -> None:
    held: list[tuple[Tensor, Tensor]] = []
    give = stack._give

    def kept(weights: Any, gradients: Any) -> None:
        held.extend((each, each.clone()) for each in gradients)
        give(weights, gradients)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stack, "_give", kept)
        together(stack_of(2, SGD, SGD, **LONG), tmp_path)
    assert sum(graph.replays for graph in graphs) > 20
    assert all(torch.equal(each, value) for each, value in held)


@pytest.mark.slow
def test_a_stack_that_cannot_be_captured_is_launched_as_usual(
    tmp_path: Path,
    graphs: list[Graph],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    @contextmanager
    def refused(graph: Graph, **options: object) -> Iterator[None]:
        with graph:
            yield
        graph.undo()
        raise RuntimeError("operation not permitted when stream is capturing")

    trials = stack_of(3, SGD, ADAGRAD, **{**LONG, "precision": "bf16"})
    with pytest.MonkeyPatch.context() as patched:
        never_capture(patched)
        together(trials, tmp_path / "plain")
    monkeypatch.setattr(torch.cuda, "graph", refused)
    together(trials, tmp_path / "refused")
    assert [each for each in caplog.messages if "not captured" in each] == [
        f"{step} is not captured in a graph, but launched as usual: "
        "operation not permitted when stream is capturing"
        for step in ("The stack's step", "The step")  # of all, and of the only one that could be
    ]
    for trial in trials:
        refusing, plain = (RunFolder.of(tmp_path / each, trial) for each in ("refused", "plain"))
        assert_same_numbers(refusing, plain)


@pytest.mark.slow
def test_graphs_are_given_up_where_memory_is_short(
    tmp_path: Path, graphs: list[Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, widths = StackedGraphs.differentiate, list[int]()
    compute = StackedWeights.compute

    def full(self: StackedGraphs, *arguments: Any) -> Any:
        if len(graphs) == 2 and graphs[1].replays > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(self, *arguments)

    def seen(self: StackedWeights, batch: Any, start: int, stop: int) -> Any:
        widths.append(stop - start)
        return compute(self, batch, start, stop)

    monkeypatch.setattr(StackedGraphs, "differentiate", full)
    monkeypatch.setattr(StackedWeights, "compute", seen)
    codes = together(stack_of(4, ADAGRAD, ADAGRAD, **LONG), tmp_path)
    assert set(codes.values()) == {ExitCode.OK}
    assert widths[-1] == 2 and len(graphs) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", ["own draws", "averages", "half precision", "kan"])
def test_captured_stacks_on_a_gpu_have_the_bits_of_others(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    optimizers, settings = BATTERY[case]
    trials = stack_of(4, *optimizers, **{**settings, "epochs": 10})
    monkeypatch.setattr(member, "wanted_program", lambda trial, parts: "captured")
    with pytest.MonkeyPatch.context() as patched:
        never_capture(patched)
        together(trials, tmp_path / "plain", device="cuda")
    replays: list[Gathered] = []
    step = stacked_graphs._Graph.step

    def counted(self: stacked_graphs._Graph, batch: Gathered) -> Any:
        replays.append(batch)
        return step(self, batch)

    monkeypatch.setattr(stacked_graphs._Graph, "step", counted)
    codes = together(trials, tmp_path / "captured", device="cuda")
    assert set(codes.values()) == {ExitCode.OK}
    assert len(replays) > 20 and "not captured" not in caplog.text
    for trial in trials:
        ours, plain = (RunFolder.of(tmp_path / each, trial) for each in ("captured", "plain"))
        assert_same_numbers(ours, plain)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", BATTERY)
def test_members_on_a_gpu_have_the_same_bits_alone_and_in_pieces(tmp_path: Path, case: str) -> None:
    compare_with_pieces(case, tmp_path, "cuda")


@pytest.mark.slow
def test_a_stack_agrees_with_single_trials(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 8, "log_every": 1, "data": {"train": 400, "test": 200}}
    trials = stack_of(3, DELTA_GCLIP, DELTA_GCLIP, DELTA_GCLIP, **settings)
    together(trials, tmp_path)
    accuracies = []
    for trial in trials:
        single = trial.model_copy(update={"stack": None})
        train(single, tmp_path)
        both = [RunFolder.of(tmp_path, each) for each in (trial, single)]
        losses = [epochs(folder, "step/train/loss")[:20] for folder in both]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        accuracies.append([result(folder)["last"]["test/accuracy"] for folder in both])
    assert accuracies == [pytest.approx([each[1]] * 2, abs=0.02) for each in accuracies]


@pytest.mark.slow
def test_texts_of_any_length_stack(tmp_path: Path) -> None:
    data_dir, pretrained = write_emotion(tmp_path / "data"), write_bert(tmp_path / "bert")
    trials = stack_of(
        *(3, {"name": "adamw", "lr": 3e-3}, {**DELTA_GCLIP, "lr": 0.5}),
        model={"name": "bert", "pretrained": str(pretrained)},
        data={"name": "emotion", "batch_size": 16},
        epochs=2,
    )
    codes = together(trials, tmp_path / "whole", data_dir=data_dir)
    assert set(codes.values()) == {ExitCode.OK}
    train_in_pieces(trials[0], tmp_path / "pieces", 3, data_dir)
    pieces, whole = (RunFolder.of(tmp_path / each, trials[0]) for each in ("pieces", "whole"))
    assert_same_numbers(pieces, whole)
    assert epochs(whole, "train/loss")[-1] < epochs(whole, "train/loss")[0]


@pytest.mark.slow
@pytest.mark.long
def test_fifty_random_kills_leave_the_bits_of_an_undisturbed_stack(tmp_path: Path) -> None:
    chance = random.Random(0)
    trials = stack_of(
        *(5, DELTA_GCLIP, ADAM, MOMENTUM, {**DELTA_GCLIP, "gamma": 0.3}),
        model={"name": "mlp", "hidden": [13], "activation": "gelu"},
        data={"size": 7},
        epochs=60,
    )
    together(trials, tmp_path / "whole")
    kills = 0
    while unfinished := [
        trial for trial in trials if not RunFolder.of(tmp_path / "runs", trial).result_file.exists()
    ]:
        company = chance.sample(unfinished, chance.randint(1, len(unfinished)))
        steps = chance.randint(1, 30) if kills < 50 else None
        kills += is_killed(company, tmp_path / "runs", steps, 0.005 * chance.random())
    assert kills == 50
    for trial in trials:
        killed, whole = (RunFolder.of(tmp_path / each, trial) for each in ("runs", "whole"))
        assert_same_numbers(killed, whole)


def is_killed(trials: Sequence[Trial], runs: Path, steps: int | None, seconds: float) -> bool:
    """Run a stack in a process of its own, killed some time after so many steps of all members."""

    class Dying(Sink):
        left = steps

        def batch(self, step: int, samples: int) -> None:
            if Dying.left is not None:
                Dying.left -= 1
                if not Dying.left:  # a signal that nobody handles, wherever the process is then
                    signal.setitimer(signal.ITIMER_REAL, 1e-6 + seconds)

    pid = os.fork()
    if not pid:
        try:
            together(trials, runs, sinks=lambda folder: [Dying()])
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])
