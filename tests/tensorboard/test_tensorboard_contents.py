"""What is written for TensorBoard: means, bands, charts, hyper-parameters, and where it goes."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from event_files import NAME
from made_runs import group, run
from run_cases import make_events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2, metadata
from tensorboard_cases import METRICS, contents_of, points_of, runs_in, sweep, values_of

from deltagclip_cli.results.read.run import Outcome, Run
from deltagclip_cli.tensorboard.contents import Contents, Files
from deltagclip_cli.tensorboard.server import LogFolder

NASTY = ["../../x", "/etc", "..", ".", "", "a/b\\c", "<script>alert(1)</script>", "x" * 5000]
NASTY += ["é" * 200, "a\x1b[31mb\nc", "δ (実験)", "A", "a"]


def content(shown: dict[str, Files], run: str, tmp_path: Path) -> EventAccumulator:
    """What is written for one of TensorBoard's runs."""
    written = shown[run].written
    assert written is not None
    folder = tmp_path / "content" / run
    folder.mkdir(parents=True)
    (folder / "0.tfevents").write_bytes(written)
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def layout_run(shown: dict[str, Files]) -> str:
    (found,) = (path for path in shown if path.startswith("!layout-"))
    return found


def charts(shown: dict[str, Files], tmp_path: Path) -> layout_pb2.Layout:
    events = content(shown, layout_run(shown), tmp_path).Tensors(metadata.CONFIG_SUMMARY_TAG)
    return layout_pb2.Layout.FromString(events[0].tensor_proto.string_val[0])


def shown_of(*runs: Run) -> dict[str, Files]:
    return Contents(0.0).of(runs)


# ------------------------------------------------------------------------------------ runs


def test_every_run_is_there_and_every_setting_has_a_mean_and_curves_for_charts(
    tmp_path: Path,
) -> None:
    sweep(tmp_path / "runs")
    runs = contents_of(tmp_path / "runs")
    expected = {f"tiny/{label}{end}" for label in ("sgd", "delta-gclip") for end in ("", "/mean")}
    expected |= {f"tiny/{label}/seed-{i}" for label in ("sgd", "delta-gclip") for i in range(3)}
    assert {path for path in runs if not path.startswith("!layout-")} == expected


def test_means_and_bands_are_those_of_numpy(tmp_path: Path) -> None:
    folders = sweep(tmp_path / "runs")
    LogFolder(tmp_path / "board").update(runs_in(tmp_path / "runs"))
    trials = [folder.trial() for folder in folders]
    for metric in METRICS[:3]:
        table = np.array([values_of(t, 4)[metric] for t in trials if t.label == "sgd"])
        mean, error = table.mean(axis=0), table.std(axis=0, ddof=1) / np.sqrt(3)
        shown = points_of(tmp_path / "board/tiny/sgd/mean", metric)
        assert [step for step, _ in shown] == [1, 2, 3, 4]
        assert [value for _, value in shown] == pytest.approx(mean, rel=1e-6)
        chart = tmp_path / "board" / "tiny/sgd"
        margins = {"tiny": mean, "tiny ± standard error": None}
        assert [v for _, v in points_of(chart, f"tiny/{metric}")] == pytest.approx(margins["tiny"])
        for word, expected in (("lower", mean - error), ("upper", mean + error)):
            shown = points_of(chart, f"tiny ± standard error/{metric} {word}")
            assert [value for _, value in shown] == pytest.approx(expected, rel=1e-6)


def test_what_is_made_for_charts_begins_with_its_curves(tmp_path: Path) -> None:
    """TensorBoard orders runs by their first events, and gives all that have no time one colour."""
    sweep(tmp_path / "runs")
    shown = contents_of(tmp_path / "runs")
    for label in ("sgd", "delta-gclip"):
        assert content(shown, f"tiny/{label}", tmp_path).FirstEventTimestamp() == 1e9 + 1


def test_what_is_not_finite_is_in_no_mean_and_one_seed_has_a_band_without_width(
    tmp_path: Path,
) -> None:
    shown = shown_of(
        run("sgd", 0, [1.0, float("nan"), 3.0]), run("sgd", 1, [2.0, float("inf"), 5.0])
    )
    shown = content(shown, "tiny/sgd/mean", tmp_path).Scalars("test/accuracy")
    assert [(each.step, each.value) for each in shown] == [(1, 1.5), (3, 4.0)]
    alone = shown_of(run("sgd", 0, [1.0, 2.0]))
    assert "tiny/sgd/mean" not in alone
    found = content(alone, "tiny/sgd", tmp_path / "alone")
    for tag in found.Tags()["scalars"]:
        assert [each.value for each in found.Scalars(tag)] == [1.0, 2.0]
    assert len(found.Tags()["scalars"]) == 3


def test_the_mean_of_other_peoples_runs_lies_under_their_own_tags(tmp_path: Path) -> None:
    for seed in range(2):
        make_events(tmp_path / "logs" / f"adam_seed{seed}", {"Loss/train": [3.0 + seed, 1.0]})
    shown = contents_of(tmp_path / "logs")
    found = content(shown, "logs/adam/mean", tmp_path)
    assert [each.value for each in found.Scalars("Loss/train")] == [3.5, 1.0]


def test_parts_of_a_run_are_shown_below_it(tmp_path: Path) -> None:
    """They may have the same tags, such as Keras' two folders."""
    for seed in range(2):
        for part, loss in (("train", 3.0 + seed), ("validation", 4.0)):
            make_events(tmp_path / "logs" / f"adam_seed{seed}" / part, {"epoch_loss": [loss, 1.0]})
    shown = contents_of(tmp_path / "logs")
    file = tmp_path / "logs" / "adam_seed0" / "validation" / NAME
    assert shown["logs/adam/seed-0/validation"] == Files([file])
    assert shown["logs/adam/seed-0"].links == []
    mean = content(shown, "logs/adam/mean", tmp_path)
    assert [each.value for each in mean.Scalars("train/loss")] == [3.5, 1.0]
    assert [each.value for each in mean.Scalars("val/loss")] == [4.0, 1.0]


def test_a_mean_has_the_tag_of_the_runs_that_have_the_metric(tmp_path: Path) -> None:
    make_events(tmp_path / "logs/adam_seed0", {"lr": [0.1, 0.1]})
    make_events(tmp_path / "logs/adam_seed1", {"test_loss": [3.0, 1.0]})
    shown = contents_of(tmp_path / "logs")
    tags = content(shown, "logs/adam/mean", tmp_path).Tags()["scalars"]
    assert sorted(tags) == ["lr", "test_loss"]


def test_one_seed_that_was_run_twice_has_no_mean() -> None:
    again = replace(run("sgd", 0, [1.0, 2.0]), folder=Path("again"))
    assert "tiny/sgd/mean" not in shown_of(run("sgd", 0, [1.0, 2.0]), again)


def test_a_run_that_is_called_mean_does_not_hide_the_mean(tmp_path: Path) -> None:
    for name in ("mean", "other"):
        make_events(tmp_path / f"logs/adam/{name}", {"test/loss": [3.0, 1.0]})
    runs = contents_of(tmp_path / "logs", pattern="(?P<optimizer>adam)")
    assert {"logs/adam/mean", "logs/adam/mean [2]"} <= set(runs)


def test_a_run_folder_that_is_no_text_is_shown(tmp_path: Path) -> None:
    make_events(Path(os.fsdecode(os.fsencode(tmp_path) + b"/logs/run\xff")), {"test/loss": [1.0]})
    assert len(contents_of(tmp_path / "logs")) == 3


def test_a_metric_that_nobody_knows_is_shown_and_charted(tmp_path: Path) -> None:
    make_events(tmp_path / "logs" / "adam", {"zeal (m/s)": [3.0, 1.0]})
    shown = contents_of(tmp_path / "logs")
    (category,) = charts(shown, tmp_path).category
    assert category.chart[0].title == "zeal (m/s), mean over seeds"
    (tag,) = category.chart[0].multiline.tag
    found = content(shown, "logs/adam", tmp_path).Tags()["scalars"]
    assert [each for each in found if re.match(tag, each)] == ["logs/zeal [m/s]"]


def test_runs_without_any_curve_are_there_without_charts() -> None:
    shown = shown_of(run("sgd", 0, []), run("sgd", 1, []))
    assert {path for path in shown if "/" in path} == {"tiny/sgd/seed-0", "tiny/sgd/seed-1"}


def test_only_the_best_setting_of_each_optimizer_is_in_the_charts(tmp_path: Path) -> None:
    groups = [group(name, lr=lr) for name in ("adam", "sgd") for lr in ("1", "2", "3")]
    runs = [run(each, 0, [0.5, number / 10]) for number, each in enumerate(groups)]
    shown = shown_of(*runs)
    assert {p for p in shown if p.count("/") == 1} == {"tiny/adam lr=3", "tiny/sgd lr=3"}
    assert charts(shown, tmp_path).category[0].title == (
        "tiny · best setting of each by test/accuracy, chosen on the test set"
    )


def test_a_diverged_run_says_so_in_its_name() -> None:
    shown = shown_of(run("sgd", 0, [1.0], Outcome.DIVERGED), run("sgd", 1, [1.0], Outcome.FAILED))
    assert {path for path in shown if "seed" in path} == {
        "tiny/sgd/seed-0 diverged",
        "tiny/sgd/seed-1 failed",
    }


# ---------------------------------------------------------------------------------- charts


def test_train_and_test_of_all_optimizers_are_in_one_chart_and_each_has_a_band(
    tmp_path: Path,
) -> None:
    sweep(tmp_path / "runs")
    shown = contents_of(tmp_path / "runs")
    main, rest = charts(shown, tmp_path).category
    assert (main.title, main.closed) == ("tiny", False)
    assert (rest.title, rest.closed) == ("tiny · all else", True)
    titles = [chart.title for chart in main.chart]
    assert titles[:2] == [
        "accuracy: test, mean over seeds",
        "loss: train and test, mean over seeds",
    ]
    losses = main.chart[1].multiline.tag
    for optimizer in ("sgd", "delta-gclip"):
        tags = content(shown, f"tiny/{optimizer}", tmp_path).Tags()["scalars"]
        charted = {tag for tag in tags if any(re.match(each, tag) for each in losses)}
        assert charted == {"tiny/train/loss", "tiny/test/loss"}
        for chart in main.chart[2:]:
            (series,) = chart.margin.series
            assert {series.value, series.lower, series.upper} <= set(tags)
    assert len(main.chart) == 2 + 3


def test_charts_of_one_experiment_show_nothing_of_another(tmp_path: Path) -> None:
    names = ("tiny", "tiny.", "tinyX", "t.ny", "a|tiny")
    shown = shown_of(*(run(group("sgd", experiment=name), 0, [1.0]) for name in names))
    curves = {path: content(shown, path, tmp_path) for path in shown if path.count("/") == 1}
    assert len(curves) == len(names)
    for category in charts(shown, tmp_path).category:
        (regex,) = category.chart[0].multiline.tag
        found = [
            path
            for path, each in curves.items()
            for tag in each.Tags()["scalars"]
            if re.match(regex, tag)
        ]
        assert len(found) == 1


def test_a_chart_does_not_take_a_metric_for_one_whose_name_goes_on(tmp_path: Path) -> None:
    shown = shown_of(run("sgd", 0, [], test__loss=[1.0], test__loss_of_teacher=[1.0]))
    tags = content(shown, "tiny/sgd", tmp_path).Tags()["scalars"]
    (first, *_) = charts(shown, tmp_path).category[0].chart
    assert [tag for tag in tags for each in first.multiline.tag if re.match(each, tag)] == [
        "tiny/test/loss"
    ]


# ----------------------------------------------------------------------------------- names


def test_no_name_leads_out_of_the_folder_or_is_anothers(tmp_path: Path) -> None:
    runs = [
        run(group(optimizer, experiment=experiment), 0, [1.0])
        for experiment in NASTY
        for optimizer in NASTY[:5]
    ]
    shown = shown_of(*runs)
    paths = [Path(path) for path in shown]
    assert len({str(path).casefold() for path in paths}) == len(paths)
    assert not any(path.is_absolute() or ".." in path.parts for path in paths)
    assert len([path for path in paths if path.name == "seed-0"]) == len(runs)
    board = tmp_path / "deep" / "er" / "board"
    LogFolder(board).update(runs)
    outside = [p for p in tmp_path.rglob("*") if board not in p.parents and p not in board.parents]
    assert outside == [board]


def test_two_runs_of_one_seed_both_have_a_place_and_keep_it() -> None:
    one, two, three = (run("sgd", 0, [value]) for value in (1.0, 2.0, 3.0))
    for number, each in enumerate((one, two, three)):
        object.__setattr__(each, "folder", Path(f"folder-{number}"))
    contents = Contents(0.0)
    before = contents.of([two])
    after = contents.of([one, two, three])
    assert {path for path in before if "seed" in path} == {"tiny/sgd/seed-0"}
    assert {path for path in after if "seed" in path} == {
        "tiny/sgd/seed-0",
        "tiny/sgd/seed-0 [2]",
        "tiny/sgd/seed-0 [3]",
    }


# ------------------------------------------------------------------------- limits, addresses
