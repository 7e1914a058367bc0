"""Scalars of event files: all of them, what is superseded, and what damage leaves."""

from __future__ import annotations

import math
import os
import random
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_files import (
    LATER,
    NAME,
    points,
    run_of,
    scalar,
    session,
    start,
    steps,
    tensor,
    version,
    write,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util.tensor_util import make_ndarray, make_tensor_proto

from deltagclip_cli.core import open_file
from deltagclip_cli.results.read.events import event_files, read_events

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "vit-tiny"

Points = dict[str, list[tuple[float, float, float]]]


def accumulated(folder: Path) -> Points:
    """Step, time and value of all scalars, as TensorBoard reads them; tags without any left out."""
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    found = {
        tag: [(float(each.step), each.wall_time, each.value) for each in reader.Scalars(tag)]
        for tag in reader.Tags()["scalars"]
    }
    return {tag: each for tag, each in found.items() if each}


def ours(folder: Path) -> Points:
    return {
        tag: list(
            zip(each.steps.tolist(), each.wall_times.tolist(), each.values.tolist(), strict=True)
        )
        for tag, each in read_events(folder).scalars.items()
    }


def test_scalars_of_the_old_form_are_read(tmp_path: Path) -> None:
    write(tmp_path / NAME, version(), scalar("loss", 3, 0.5, wall_time=1e9 + 0.25))
    events = read_events(tmp_path)
    assert ours(tmp_path) == {"loss": [(3.0, 1e9 + 0.25, 0.5)]}
    assert list(events.problems) == []


def test_scalars_of_the_new_form_are_read(tmp_path: Path) -> None:
    later = tensor("loss", 2, 0.25, described=False)
    write(tmp_path / NAME, version(), tensor("loss", 1, 0.5), later)
    write(tmp_path / LATER, version(), tensor("loss", 3, 0.125))
    assert ours(tmp_path) == {"loss": [(1, 1, 0.5), (2, 2, 0.25), (3, 3, 0.125)]}


def test_all_scalars_of_the_new_form_are_read_as_tensorboard_reads_them(tmp_path: Path) -> None:
    write(tmp_path / NAME, version(), *(tensor("loss", step, 0.1 * step) for step in range(100)))
    reader = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    found = [(e.step, make_ndarray(e.tensor_proto).item()) for e in reader.Tensors("loss")]
    assert points(read_events(tmp_path)) == found


@pytest.mark.parametrize(
    "number", [np.float64(0.1), np.float16(-0.1), np.int64(7), np.bool_(True), np.array([[2.0]])]
)
def test_scalars_of_the_new_form_keep_the_precision_of_their_type(
    tmp_path: Path, number: Any
) -> None:
    event = tensor("loss", 1, 0.5)
    event.summary.value[0].tensor.CopyFrom(make_tensor_proto(number))
    write(tmp_path / NAME, version(), event)
    assert points(read_events(tmp_path)) == [(1, float(number.item()))]


def test_tensors_that_are_no_scalars_are_passed_over(tmp_path: Path) -> None:
    histogram = tensor("weights", 1, 0.5)
    histogram.summary.value[0].metadata.plugin_data.plugin_name = "histograms"
    nameless = tensor("mystery", 1, 0.5, described=False)
    vector, text, torn = (tensor(name, 1, 0.5) for name in ("vector", "text", "torn"))
    vector.summary.value[0].tensor.CopyFrom(make_tensor_proto([1.0, 2.0]))
    text.summary.value[0].tensor.CopyFrom(make_tensor_proto("abc"))
    torn.summary.value[0].tensor.CopyFrom(make_tensor_proto(np.float16(1)))
    torn.summary.value[0].tensor.half_val[0] = 70_000  # more than 16 bits hold
    write(tmp_path / NAME, version(), histogram, nameless, vector, text, torn, scalar("loss", 1))
    events = read_events(tmp_path)
    assert list(events.scalars) == ["loss"]
    assert list(events.problems) == []


def test_what_a_tag_is_was_said_in_the_first_file(tmp_path: Path) -> None:
    renamed = tensor("loss", 2, 0.25)
    renamed.summary.value[0].metadata.plugin_data.plugin_name = "mine"
    write(tmp_path / NAME, version(), tensor("loss", 1, 0.5))
    write(tmp_path / LATER, version(), renamed)
    assert points(read_events(tmp_path)) == [(1, 0.5), (2, 0.25)]


def test_files_without_a_version_and_without_metadata_are_read(tmp_path: Path) -> None:
    write(tmp_path / NAME, *run_of("loss", range(5)))
    assert steps(read_events(tmp_path)) == [0, 1, 2, 3, 4]


def test_files_of_tensorboards_writer_are_read(tmp_path: Path) -> None:
    writer = EventFileWriter(str(tmp_path))
    writer.add_event(scalar("loss", 1, 0.5))
    writer.close()
    assert points(read_events(tmp_path)) == [(1, 0.5)]


def test_every_point_is_read(tmp_path: Path) -> None:
    write(tmp_path / NAME, version(), *run_of("loss", range(10_001)))
    assert steps(read_events(tmp_path)) == list(range(10_001))


def test_values_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    values = [math.nan, math.inf, -math.inf, -0.0]
    write(tmp_path / NAME, version(), *(scalar("loss", i, v) for i, v in enumerate(values)))
    np.testing.assert_array_equal(read_events(tmp_path).scalars["loss"].values, values)


def test_tags_come_in_order_of_first_appearance(tmp_path: Path) -> None:
    write(tmp_path / NAME, version(), *(scalar(tag, 1) for tag in "zafz"))
    assert list(read_events(tmp_path).scalars) == ["z", "a", "f"]


def test_an_event_may_hold_several_scalars(tmp_path: Path) -> None:
    both = scalar("loss", 1, 0.5)
    both.summary.value.append(Summary.Value(tag="accuracy", simple_value=0.75))
    write(tmp_path / NAME, version(), both)
    assert ours(tmp_path) == {"loss": [(1, 0, 0.5)], "accuracy": [(1, 0, 0.75)]}


def test_arrays_are_float64_and_cannot_be_written_to(tmp_path: Path) -> None:
    write(tmp_path / NAME, version(), scalar("loss", 1))
    found = read_events(tmp_path).scalars["loss"]
    for numbers in (found.steps, found.wall_times, found.values):
        assert numbers.dtype == np.float64
        assert not numbers.flags.writeable


def test_only_event_files_directly_in_the_folder_are_read_in_order_of_name(tmp_path: Path) -> None:
    for name in (LATER, NAME, "x.tfevents.v2"):
        write(tmp_path / name, version(), scalar("loss", 1))
    (tmp_path / "metrics.jsonl").write_text("{}")
    write(tmp_path / "below" / NAME, version(), scalar("loss", 1))
    assert [path.name for path in event_files(tmp_path)] == [NAME, LATER, "x.tfevents.v2"]


def test_folders_named_like_event_files_are_passed_over_and_pipes_are_named(tmp_path: Path) -> None:
    (tmp_path / "tfevents").mkdir()
    os.mkfifo(tmp_path / "tfevents.pipe")
    (tmp_path / "tfevents.zero").symlink_to("/dev/zero")
    write(tmp_path / NAME, version(), scalar("loss", 1))
    events = read_events(tmp_path)
    assert steps(events) == [1]
    assert list(events.problems) == [
        f"{tmp_path}/tfevents.pipe: cannot be read: it is a named pipe, not a file.",
        f"{tmp_path}/tfevents.zero: cannot be read: it is a device, not a file.",
    ]


def test_hyperparameters_are_read(tmp_path: Path) -> None:
    options = {"lr": 0.1, "optimizer": "adam", "nesterov": True}
    write(tmp_path / NAME, version(), session(options), scalar("loss", 1))
    write(tmp_path / LATER, version(), session({"lr": 0.2}))
    assert read_events(tmp_path).options == {**options, "lr": 0.2}


def test_hyperparameters_that_make_no_sense_are_none(tmp_path: Path) -> None:
    torn = session({"lr": 0.1})
    torn.summary.value[0].metadata.plugin_data.content = b"\xff\xff"
    write(tmp_path / NAME, version(), torn, scalar("loss", 1))
    events = read_events(tmp_path)
    assert (events.options, steps(events)) == ({}, [1])


# Restarts


def test_a_restart_with_a_purge_step_drops_what_it_supersedes_of_all_tags(tmp_path: Path) -> None:
    write(tmp_path / NAME, version(), *run_of("loss", range(9), 1), *run_of("rare", [0, 8]))
    write(tmp_path / LATER, version(), start(5), *run_of("loss", range(5, 7), 2))
    events = read_events(tmp_path)
    assert points(events) == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2)]
    assert steps(events, "rare") == [0]
    assert ours(tmp_path) == accumulated(tmp_path)


def test_a_tag_whose_points_are_all_superseded_is_absent(tmp_path: Path) -> None:
    write(tmp_path / NAME, version(), scalar("gone", 5), scalar("loss", 1))
    write(tmp_path / LATER, version(), start(3))
    assert list(read_events(tmp_path).scalars) == ["loss"]


def test_new_scalars_are_superseded_as_old_ones_are(tmp_path: Path) -> None:
    write(tmp_path / NAME, version(), *(tensor("loss", step, 1) for step in range(9)))
    write(tmp_path / LATER, version(), start(5), tensor("loss", 7, 2))
    assert steps(read_events(tmp_path)) == [0, 1, 2, 3, 4, 7]


@pytest.mark.parametrize("seed", range(5))
def test_restarts_with_purge_steps_are_read_as_tensorboard_reads_them(
    tmp_path: Path, seed: int
) -> None:
    dice, step = random.Random(seed), 0
    for number in range(6):
        events = [version(), start(step)]
        for _ in range(dice.randrange(8)):
            step += dice.randrange(3) + 1
            tags = dice.sample(["a", "b", "c"], dice.randrange(4))
            events += [scalar(tag, step, dice.random(), dice.random()) for tag in tags]
        write(tmp_path / f"tfevents.{number}", *events)
        step = dice.randrange(step + 3)
    assert ours(tmp_path) == accumulated(tmp_path) != {}


def test_without_a_version_equal_steps_are_kept_where_tensorboard_keeps_them(
    tmp_path: Path,
) -> None:
    write(tmp_path / NAME, *(scalar("loss", step) for step in (1, 2, 2, 2)))
    assert ours(tmp_path) == accumulated(tmp_path)
    assert steps(read_events(tmp_path)) == [1, 2, 2, 2]


def test_the_end_of_a_session_supersedes_nothing(tmp_path: Path) -> None:
    end = start(0)
    end.session_log.status = end.session_log.STOP
    write(tmp_path / NAME, version(), *run_of("loss", [1, 2, 3]), end)
    assert steps(read_events(tmp_path)) == [1, 2, 3]


def test_a_later_file_supersedes_from_its_first_step_on(tmp_path: Path) -> None:
    write(tmp_path / NAME, version(), *run_of("loss", [1, 2, 3, 4, 5, 6], 1))
    write(tmp_path / LATER, version(), *run_of("loss", [4, 5, 6], 2, begin=10))
    events = read_events(tmp_path)
    assert points(events) == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    assert list(events.problems) == []


def test_a_later_part_of_the_same_file_supersedes_too(tmp_path: Path) -> None:
    again = run_of("loss", [2, 3], 2)
    write(tmp_path / NAME, version(), *run_of("loss", [1, 2, 3, 4], 1), *again)
    assert points(read_events(tmp_path)) == [(1, 1), (2, 2), (3, 2)]


def test_a_restart_between_the_steps_that_were_logged_drops_the_later_ones(tmp_path: Path) -> None:
    write(tmp_path / NAME, version(), *run_of("loss", [10, 20, 30], 1))
    write(tmp_path / LATER, version(), *run_of("loss", [15, 25], 2, begin=30))
    events = read_events(tmp_path)
    assert steps(events) == [10, 15, 25]
    assert list(events.problems) == [LOST.format(tmp_path / LATER, "from 20 to 30")]


LOST = "{}: a restart went back and did not write all steps again; of loss, steps {} are left out."


def test_what_a_restart_in_one_file_drops_is_named(tmp_path: Path) -> None:
    again = run_of("loss", [2], 2)
    write(tmp_path / NAME, version(), *run_of("loss", [1, 2, 3], 1), *again)
    problem = LOST.format(tmp_path / NAME, "from 3 to 3")
    assert list(read_events(tmp_path).problems) == [problem]


def test_of_many_tags_that_a_restart_drops_the_first_are_named(tmp_path: Path) -> None:
    points_of_tags = [scalar(tag, 9) for tag in "abcde"]
    write(tmp_path / NAME, version(), *points_of_tags)
    write(tmp_path / LATER, version(), start(3), scalar("a", 9))
    (problem,) = read_events(tmp_path).problems
    assert "of b, c, d and e, steps from 9 to 9 are left out" in problem


def test_files_that_overlap_in_time_are_no_restart(tmp_path: Path) -> None:
    write(tmp_path / NAME, version(), *run_of("loss", [0, 1, 2, 6, 7, 8], 1))
    write(tmp_path / LATER, version(), *run_of("loss", [3, 4, 5, 7], 2))
    events = read_events(tmp_path)
    assert steps(events) == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8]
    assert points(events)[7:9] == [(7, 1), (7, 2)]
    assert events.scalars["loss"].wall_times.tolist() == steps(events)
    assert list(events.problems) == [
        f"{tmp_path / LATER}: two writers wrote loss at the same time; the points of both are kept."
    ]


def test_a_file_may_overlap_with_one_and_supersede_another(tmp_path: Path) -> None:
    write(tmp_path / "tfevents.1", version(), *run_of("loss", [1, 2, 3], 1))
    write(tmp_path / "tfevents.2", version(), *run_of("loss", [2, 5], 2, begin=10))
    write(tmp_path / "tfevents.3", version(), *run_of("loss", [3, 4], 3, begin=9.5))
    events = read_events(tmp_path)
    assert points(events) == [(1, 1), (2, 2), (3, 3), (4, 3), (5, 2)]


def test_the_last_step_written_again_replaces_the_older_one(tmp_path: Path) -> None:
    write(tmp_path / NAME, version(), *run_of("loss", [1, 2], 1))
    write(tmp_path / LATER, version(), *run_of("loss", [2], 2))
    assert points(read_events(tmp_path)) == [(1, 1), (2, 2)]


def test_several_points_of_one_step_in_one_file_are_all_kept(tmp_path: Path) -> None:
    write(tmp_path / NAME, version(), *(scalar("loss", 0, value) for value in range(5)))
    assert points(read_events(tmp_path)) == [(0, value) for value in range(5)]


def test_a_later_file_replaces_all_points_of_its_step_by_all_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / NAME, version(), *(scalar("loss", 0, value) for value in (1, 2, 3)))
    write(tmp_path / LATER, version(), *(scalar("loss", 0, value) for value in (4, 5)))
    assert points(read_events(tmp_path)) == [(0, 4), (0, 5)]


def test_writers_of_different_tags_do_not_disturb_each_other(tmp_path: Path) -> None:
    write(tmp_path / NAME, version(), *run_of("loss", range(5)))
    write(tmp_path / LATER, version(), *run_of("test", [0, 2]))
    events = read_events(tmp_path)
    assert steps(events) == [0, 1, 2, 3, 4]
    assert steps(events, "test") == [0, 2]


# Damage


def whole_file(folder: Path) -> tuple[Path, bytes]:
    path = write(folder / NAME, version(), *run_of("loss", range(3), 0.5), tensor("loss", 3, 1))
    return path, path.read_bytes()


def boundaries(content: bytes) -> list[int]:
    """Where records begin, and where the last one ends."""
    places = [0]
    while places[-1] < len(content):
        (length,) = struct.unpack_from("<Q", content, places[-1])
        places.append(places[-1] + 16 + length)
    return places


def test_a_file_cut_off_anywhere_gives_all_whole_records_before_that(tmp_path: Path) -> None:
    path, content = whole_file(tmp_path)
    ends = boundaries(content)
    for size in range(len(content)):
        path.write_bytes(content[:size])
        events = read_events(tmp_path)
        records = sum(end <= size for end in ends[1:])
        assert len(steps(events)) == max(0, records - 1)
        cut = (
            f"{path}: ends in the middle of a record, after {records} whole ones; "
            "it is cut off, or still being written."
        )
        assert list(events.problems) == ([] if size in ends else [cut])


def test_a_byte_changed_anywhere_gives_all_records_before_that(tmp_path: Path) -> None:
    path, content = whole_file(tmp_path)
    ends = boundaries(content)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 0x41
        path.write_bytes(changed)
        events = read_events(tmp_path)
        records = sum(end <= place for end in ends[1:])
        assert len(steps(events)) == max(0, records - 1)
        damaged = f"{path}: damaged after record {records}; what follows was not read."
        assert list(events.problems) == [damaged]


def test_records_that_make_no_sense_never_raise(tmp_path: Path) -> None:
    sane = tensor("loss", 1, 0.5).SerializeToString()
    for place in range(len(sane)):
        for flip in (0x01, 0x08, 0x80, 0xFF):
            changed = bytearray(sane)
            changed[place] ^= flip
            (tmp_path / NAME).unlink(missing_ok=True)
            write(tmp_path / NAME, version(), scalar("first", 1), bytes(changed))
            assert steps(read_events(tmp_path), "first") == [1]


def test_a_record_that_is_no_event_is_damage(tmp_path: Path) -> None:
    path = write(tmp_path / NAME, version(), scalar("loss", 1), b"\xff\xff", scalar("loss", 2))
    events = read_events(tmp_path)
    assert steps(events) == [1]
    assert list(events.problems) == [f"{path}: damaged after record 2; what follows was not read."]


def test_damage_in_one_file_does_not_keep_the_next_from_being_read(tmp_path: Path) -> None:
    path = write(tmp_path / NAME, version(), scalar("loss", 1))
    path.write_bytes(path.read_bytes() + bytes(100))
    write(tmp_path / LATER, version(), scalar("loss", 2))
    events = read_events(tmp_path)
    assert steps(events) == [1, 2]
    assert list(events.problems) == [f"{path}: damaged after record 2; what follows was not read."]


def test_records_of_no_length_and_empty_files_are_nothing_special(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    write(tmp_path / LATER, version(), b"", scalar("loss", 1))
    events = read_events(tmp_path)
    assert steps(events) == [1]
    assert list(events.problems) == []


@pytest.mark.parametrize("length", [2**31, 2**40, 2**63, 2**64 - 1])
@pytest.mark.parametrize("sealed", [True, False])
def test_a_gigantic_length_takes_no_memory(tmp_path: Path, length: int, sealed: bool) -> None:
    header = struct.pack("<Q", length)
    checksum = struct.pack("<I", masked_crc32c(header) if sealed else 0)
    path = write(tmp_path / NAME, version(), scalar("loss", 1))
    path.write_bytes(path.read_bytes() + header + checksum + bytes(50))
    read_events(tmp_path)
    tracemalloc.start()
    try:
        events = read_events(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert steps(events) == [1]
    assert ("cut off" if sealed else "damaged after record 2") in events.problems[0]


def test_a_tensor_that_claims_to_be_gigantic_takes_no_memory(tmp_path: Path) -> None:
    event = tensor("loss", 1, 0.5)
    event.summary.value[0].tensor.tensor_shape.dim.add(size=2**40)
    write(tmp_path / NAME, version(), event, scalar("other", 1))
    assert list(read_events(tmp_path).scalars) == ["other"]


def test_a_link_that_leads_nowhere_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to(tmp_path / "gone")
    write(tmp_path / LATER, version(), scalar("loss", 1))
    events = read_events(tmp_path)
    assert steps(events) == [1]
    assert list(events.problems) == [
        f"{tmp_path / NAME}: cannot be read: No such file or directory."
    ]


def test_a_file_that_must_not_be_read_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / NAME, version(), scalar("loss", 1))
    write(tmp_path / LATER, version(), scalar("loss", 2))

    def guarded(path: Path) -> Any:
        if path.name == NAME:
            raise PermissionError(13, "Permission denied")
        return open_file(path)

    monkeypatch.setattr("deltagclip_cli.results.read.events.open_file", guarded)
    events = read_events(tmp_path)
    assert steps(events) == [2]
    assert list(events.problems) == [f"{tmp_path / NAME}: cannot be read: Permission denied."]


def test_a_folder_that_cannot_be_listed_is_a_problem(tmp_path: Path) -> None:
    events = read_events(tmp_path / "missing")
    assert dict(events.scalars) == {}
    assert list(events.problems) == [
        f"{tmp_path / 'missing'}: cannot be listed: No such file or directory."
    ]


def test_neither_torch_nor_tensorflow_is_loaded(tmp_path: Path) -> None:
    write(tmp_path / "run" / NAME, version(), scalar("loss", 1), tensor("new", 1, 0.5))
    for name in ("torch", "tensorflow"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('loaded ' + __name__)")
    code = """if True:
        import pathlib, sys
        from deltagclip_cli.results.read.events import read_events
        assert not {"tensorboard", "google.protobuf"} & set(sys.modules)
        assert list(read_events(pathlib.Path("run")).scalars) == ["loss", "new"]
    """
    package = Path(sys.modules["deltagclip_cli"].__file__ or "").parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(package)])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference runs are not on this machine")
@pytest.mark.parametrize("number", [0, 20, 54])
def test_reference_runs_are_read_as_tensorboard_reads_them(number: int) -> None:
    folder = sorted({path.parent for path in REFERENCE.rglob("*tfevents*")})[number]
    assert ours(folder) == accumulated(folder)
    assert sum(map(len, ours(folder).values())) == 600
