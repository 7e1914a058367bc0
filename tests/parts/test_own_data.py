"""What data functions of one's own may return, and what is refused in words."""

from __future__ import annotations

import logging
import os
import random
import signal
import zlib
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from datasets import ClassLabel, DatasetDict, Features, Value
from datasets import Dataset as Faces
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from deltagclip_cli.core import DataError
from deltagclip_cli.parts.datasets.adopted import adopted
from deltagclip_cli.parts.datasets.batches import Batches
from deltagclip_cli.parts.datasets.dataset import Dataset, Split
from deltagclip_cli.parts.datasets.fetched import FetchedBatches, Items
from deltagclip_cli.parts.nested import leaves
from deltagclip_cli.source.loading import load_own
from deltagclip_cli.spec.data_settings import Data
from deltagclip_cli.training.assembly import make_batches
from deltagclip_cli.training.loaded import fingerprint, fitted, load_dataset

CPU = torch.device("cpu")
VECTORS = torch.arange(40.0).view(10, 4)
REAL = torch.linspace(0, 1, 10)[:, None]
CLASSES = torch.arange(10) % 3
DATA = Data.model_construct(name="t.py:own", options={}, batch_size=4, evaluation_batch_size=4)


def taken(made: Any) -> Dataset:
    found = adopted(made, "t.py:own")
    assert isinstance(found, Dataset)
    return found


def pairs(inputs: Any = VECTORS, targets: Any = REAL) -> Any:
    return ((inputs, targets), (inputs, targets))


class Samples:
    """A map-style data set, of no class of torch's."""

    def __init__(self, samples: list[Any], **attributes: Any) -> None:
        self.samples = samples
        vars(self).update(attributes)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> Any:
        sample = self.samples[place]
        if isinstance(sample, Exception):
            raise sample
        return sample() if callable(sample) else sample


ROWS = [(torch.full((2,), float(n)), n % 3) for n in range(7)]


def test_pairs_of_tensors_are_train_and_test() -> None:
    made = taken(((VECTORS, REAL), (VECTORS[:4], REAL[:4])))
    assert (len(made.train), len(made.test), made.validation) == (10, 4, None)
    assert (made.shape, made.targets_shape, made.classes) == ((4,), (1,), 1)
    assert (made.mean, made.std) == (None, None)


def test_a_mapping_names_the_splits() -> None:
    pair = (VECTORS, CLASSES)
    made = taken({"test": pair, "train": pair, "validation": (VECTORS[:3], CLASSES[:3] + 4)})
    assert list(made.splits) == ["train", "test", "validation"]
    assert len(made.splits["validation"]) == 3
    assert made.classes == 7, "of all splits"
    assert taken({"train": pair, "test": pair, "classes": 9}).classes == 9
    assert taken({"train": pair, "test": pair, "validation": None}).validation is None


def test_a_data_set_of_ours_is_taken_as_it_is() -> None:
    made = Dataset(Split(VECTORS, CLASSES), Split(VECTORS, CLASSES), 3, None, None)
    assert taken(made) is made
    assert taken((made.train, made.test)).train is made.train


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.arange(10, dtype="float64"), torch.float64),
        (np.arange(10, dtype=">f4"), torch.float32),
        (np.arange(10, dtype="uint16"), torch.int32),
        (np.arange(10, dtype="uint32"), torch.int64),
        (np.arange(10, dtype="uint64"), torch.int64),
        (np.arange(10, dtype="int8"), torch.int8),
        (np.arange(10)[::-1], torch.int64),
        (np.arange(20)[::2], torch.int64),
        (np.arange(10) > 3, torch.bool),
        (np.arange(10, dtype="complex64"), torch.complex64),
        (np.broadcast_to(np.float32(1), (10, 2)), torch.float32),
    ],
)
def test_arrays_become_tensors_of_the_same_numbers(array: Any, dtype: torch.dtype) -> None:
    made = taken(pairs(array)).train
    assert isinstance(made, Split) and made.inputs.dtype == dtype
    np.testing.assert_array_equal(made.inputs.numpy(), array)


def test_an_array_that_is_mapped_into_memory_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(10.0))
    made = taken(pairs(np.load(tmp_path / "x.npy", mmap_mode="r"))).train
    assert isinstance(made, Split) and made.inputs.tolist() == [*range(10)]


Two = namedtuple("Two", ["left", "right"])


def test_inputs_and_targets_may_be_trees() -> None:
    inputs = {"ids": CLASSES[:, None], "more": Two(VECTORS, np.arange(10.0))}
    made = taken(pairs(inputs, (REAL, {"mask": VECTORS > 3})))
    assert made.shape == {"ids": (1,), "more": ((4,), ())}
    assert made.targets_shape == ((1,), {"mask": (4,)})
    assert made.classes == 0, "unknown"
    batches = make_batches(DATA, made, "train", CPU, torch.float32)
    order = torch.arange(9, -1, -1)
    found = list(batches.iterate(order, None))
    assert [len(next(leaves(each))) for each, _ in found] == batches.sizes == [4, 4, 2]
    assert torch.equal(torch.cat([x["more"][0] for x, _ in found]), VECTORS.flip(0))
    assert torch.equal(torch.cat([y[1]["mask"] for _, y in found]), VECTORS.flip(0) > 3)
    assert found[0][0]["more"][1].dtype == torch.float32, "as the parameters"
    [last] = batches.iterate(order, None, 2)
    assert torch.equal(last[1][0], found[2][1][0])


def test_whole_numbers_among_targets_are_classes_for_losses() -> None:
    made = taken(pairs(VECTORS, (CLASSES.to(torch.uint8), VECTORS.long().int())))
    batches = make_batches(DATA, made, "train", CPU, torch.float32)
    [(_, (first, second)), *_] = batches.iterate(None, None)
    assert first.dtype == second.dtype == torch.int64


@pytest.mark.parametrize("shape", [(), (5,)])
def test_images_go_the_way_of_ours(shape: tuple[int, ...]) -> None:
    images = torch.randint(256, (10, 3, 6, 6), dtype=torch.uint8)
    targets = torch.rand(10, *shape) if shape else CLASSES
    made = taken(pairs(images, targets))
    assert made.mean is not None and len(made.mean) == 3
    data = Data.model_validate({"name": "sphere", "batch_size": 4, "augment": "flip"})
    batches = make_batches(data, made, "train", CPU, torch.float32)
    assert isinstance(batches, Batches)
    [(inputs, _), *_] = batches.iterate(None, torch.Generator())
    assert inputs.dtype == torch.float32 and abs(float(inputs.mean())) < 0.3


def test_images_beside_masks_are_not_augmented_alone() -> None:
    images = torch.zeros((10, 3, 6, 6), dtype=torch.uint8)
    made = taken(pairs(images, images[:, 0]))
    data = Data.model_validate({"name": "sphere", "batch_size": 4, "augment": "flip"})
    with pytest.raises(DataError, match=r"augment changes images alone, .* uint8 \(10, 6, 6\)"):
        make_batches(data, made, "train", CPU, torch.float32)


def test_a_part_of_the_samples_is_balanced_where_there_are_classes() -> None:
    cut = {"train_samples": 3, "test_samples": 2, "batch_size": 2}
    data = DATA.model_copy(update=cut)
    made = fitted(taken(pairs(VECTORS, CLASSES.flip(0))), data)
    assert isinstance(made.train, Split)
    assert sorted(made.train.targets.tolist()) == [0, 1, 2]
    assert len(fitted(taken(pairs()), data).test) == 2
    items = fitted(taken((Samples(ROWS), Samples(ROWS))), data)
    assert len(items.train) == 3


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (None, r"data t.py:own: the function returns None.\n  Return \(train, test\) or a mapping"),
        (VECTORS, r"returns one Tensor \(10, 4\)"),
        ((VECTORS, REAL), r"own: train is one Tensor \(10, 4\)"),
        ((1, 2, 3), "returns a tuple of 3"),
        (Samples(ROWS), "returns a Samples"),
        ({"train": (VECTORS, REAL)}, "has no 'test'"),
        ({"train": 1, "test": 2, "valid": 3}, "has 'valid' .* did you mean 'validation'"),
        ({"train": None, "test": (VECTORS, REAL)}, "train is None"),
        ((*pairs()[:1], (VECTORS, REAL, REAL)), "test is a tuple of 3, not a pair"),
        (pairs(VECTORS[:0], REAL[:0]), "train has no samples"),
        ((Samples([]), Samples(ROWS)), "train has no samples"),
        (pairs(VECTORS[:9]), r"inputs are float32 \(9, 4\) and targets float32 \(10, 1\), not as"),
        (pairs({"a": VECTORS, "b": REAL[:3]}), r"\{'a': float32 \(10, 4\), 'b': float32 \(3"),
        (pairs([1.0] * 10), r"train: inputs is a list.\n  Use torch.tensor"),
        (pairs({"a": ["x"] * 10}), r"inputs\['a'\] is a list"),
        (pairs(()), "inputs is a tuple"),
        (pairs(torch.tensor(3)), "inputs is one number"),
        (pairs(VECTORS.to_sparse()), "layout torch.sparse_coo"),
        (pairs(np.array([{}] * 10)), r"array of object \(objects, so of unequal lengths"),
        (pairs(np.array(["a"] * 10)), r"array of str32 \(which torch has not\)"),
        (pairs(np.zeros(10, "M8[s]")), "array of datetime64"),
        (pairs(np.zeros(10, np.longdouble)), "which torch has not"),
        (pairs(np.ma.masked_array(np.zeros(10))), "masked array"),
        (pairs(pandas.DataFrame({"a": range(10)})), r"a pandas.DataFrame.\n  Use .to_numpy\(\)"),
        (pairs(VECTORS, pandas.Series(range(10))), "targets is a pandas.Series"),
        ((pandas.DataFrame({"a": [1]}), 1), "train is a pandas.DataFrame"),
        (pairs(VECTORS, CLASSES - 1), "class -1 among the targets"),
        (((VECTORS, REAL), (VECTORS[:, :2], REAL)), "all splits must be made of the same things"),
        (((VECTORS, REAL), ({"a": VECTORS}, REAL)), r"of train are float32 \(4,\), those of test"),
        (((VECTORS, CLASSES), (VECTORS, CLASSES.float())), "the targets of train are int64"),
        ({"train": (VECTORS, REAL), "test": (VECTORS, REAL), "collate": list}, "tensors already"),
        ({"train": Samples(ROWS), "test": Samples(ROWS), "collate": 3}, "cannot be called"),
        (([VECTORS, REAL], 1), "train is a list"),
        ((DataLoader(ROWS), 1), "train is a torch.DataLoader.\n  Return what it loads"),
    ],
)  # fmt: skip
def test_what_else_they_return_is_refused(made: Any, words: str) -> None:
    with pytest.raises(DataError, match=f"(?i){words}"):
        adopted(made, "t.py:own")


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(ROWS)


class Endless:
    def __getitem__(self, place: int) -> Any:
        return ROWS[0]


@pytest.mark.parametrize("made", [Stream(), Endless(), (row for row in ROWS)])
def test_what_has_no_length_is_refused(made: Any) -> None:
    with pytest.raises(DataError, match=r"own: train is an? \w+, which has no length"):
        adopted((made, made), "t.py:own")


def test_samples_that_are_pairs_are_fetched() -> None:
    made = taken((Samples(ROWS), ROWS))
    assert isinstance(made.train, Items) and isinstance(made.test, Items)
    assert (made.shape, made.targets_shape, made.classes) == ((2,), (), 0)
    batches = make_batches(DATA, made, "train", CPU, torch.float64)
    assert isinstance(batches, FetchedBatches)
    found = list(batches.iterate(torch.arange(6, -1, -1), None))
    assert torch.cat([targets for _, targets in found]).tolist() == [0, 2, 1, 0, 2, 1, 0]
    assert found[0][0].dtype == torch.float64


def test_tensors_in_a_tensor_dataset_stay_in_memory() -> None:
    made = taken((TensorDataset(VECTORS, REAL), Subset(TensorDataset(VECTORS, REAL), [1, 2])))
    assert isinstance(made.train, Split) and isinstance(made.test, Items)


def test_data_sets_of_hugging_face_need_a_collate_and_know_their_classes() -> None:
    features = Features({"x": Value("float32"), "label": ClassLabel(names=["a", "b", "c"])})
    rows = Faces.from_dict({"x": [0.5, 1.5, 2.5], "label": [0, 1, 0]}, features=features)

    def collate(samples: list[dict[str, Any]]) -> Any:
        inputs = {"x": np.array([[each["x"]] for each in samples])}
        return inputs, torch.tensor([each["label"] for each in samples])

    splits = DatasetDict({"train": rows, "test": rows, "validation": rows})
    with pytest.raises(
        DataError, match=r"a sample is a dict of x, label, not a pair .*\n.* add 'coll"
    ):
        adopted(splits, "t.py:own")
    made = taken({**splits, "collate": collate})
    assert (made.shape, made.classes, list(made.splits)) == (
        {"x": (1,)},
        3,
        ["train", "test", "validation"],
    )


def test_classes_are_counted_where_the_data_set_says_them() -> None:
    assert taken((Samples(ROWS, classes=["a", "b", "c"]), ROWS)).classes == 3
    named = Subset(Samples(ROWS, classes=["a", "b"]), [0, 1])  # type: ignore[arg-type]
    assert taken((named, named)).classes == 2


def test_a_collate_may_be_an_attribute() -> None:
    def doubled(samples: list[Any]) -> Any:
        return torch.stack([x for x, _ in samples]) * 2, torch.tensor([y for _, y in samples])

    made = taken((Samples(ROWS, collate=doubled), Samples(ROWS)))
    assert float(made.train.example()[0][1, 0]) == 2 * float(made.test.example()[0][1, 0])


@pytest.mark.parametrize(
    ("collate", "words"),
    [
        (lambda samples: None, r"train: collate returns NoneType None, not a pair"),
        (lambda samples: {"x": 1, "labels": 2}, r"collate returns a dict of x, labels, not a pair"),
        (
            lambda samples: (samples, None),
            r"inputs that collate makes of a batch\[0\]\[1\] are i",
        ),
        (lambda samples: (torch.ones(2, 1), ["a", "b"]), r"targets that .*\[0\] are str 'a'"),
        (lambda samples: (torch.ones(2), torch.ones(3)), "collate makes 3 targets of 2 samples"),
        (lambda samples: (torch.ones(2), torch.tensor(1)), "targets that collate makes"),
        (lambda samples: 1 / 0, "samples cannot be made a batch: ZeroDivisionError: division by"),
    ],
)
def test_what_else_a_collate_returns_is_refused(collate: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        adopted({"train": Samples(ROWS), "test": Samples(ROWS), "collate": collate}, "t.py:own")


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([1, 2], "a sample is int 1, not a pair"),
        ([("a", 1), ("b", 2)], r"inputs that torch makes of a batch\[0\] are str 'a'"),
        ([(VECTORS[:1], 1), (VECTORS[:2], 2)], "samples cannot be made a batch: RuntimeError"),
        ([ROWS[0], KeyError("label")], "sample 1 cannot be fetched: KeyError: 'label'"),
    ],
)
def test_samples_of_other_kinds_are_refused(samples: list[Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        adopted((Samples(samples), ROWS), "t.py:own")


BROKEN = """
class Broken:
    def __len__(self):
        return 40

    def __getitem__(self, place):
        return {0: 1.0, 1: 2.0}[place % 30], place
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_fails_is_told_with_its_line_whoever_fetches_it(
    workers: int, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    broken = load_own(tmp_path, "broken.py", "Broken")()
    made = taken((broken, ROWS))
    data = DATA.model_copy(update={"workers": workers})
    batches = make_batches(data, made, "train", CPU, torch.float32)
    assert isinstance(batches, FetchedBatches)
    words = r"sample 2 cannot be fetched: KeyError: 2\n .*broken.py:7: in __getitem__: return"
    with pytest.raises(DataError, match=words):
        list(batches.iterate(None, None))
    batches.close()


def drawn() -> Any:
    inputs = torch.randn(40_000).sum() + random.random() + np.random.rand() + torch.rand(3)
    return inputs, 0


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_what_is_drawn_hangs_on_the_batch_alone(workers: int) -> None:
    made = taken((Samples([drawn] * 11), ROWS))
    assert isinstance(made.train, Items)

    def fetched(workers: int, start: int = 0) -> tuple[list[Tensor], float]:
        batches = FetchedBatches(made.train, batch_size=3, device=CPU, workers=workers)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(5)
        torch.manual_seed(1)
        random.seed(1)
        found = [x for x, _ in batches.iterate(torch.randperm(11), generator, start)]
        batches.close()
        return found, float(torch.rand(())) + random.random()

    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        expected, after = fetched(0)
    finally:
        torch.set_num_threads(threads)
    found, now = fetched(workers)
    assert len(found) == 4 and now == after, "what the training draws is left as it was"
    assert all(map(torch.equal, found, expected))
    assert all(map(torch.equal, fetched(workers, 2)[0], expected[2:]))
    assert not torch.equal(expected[0], expected[1])


def test_randomness_of_its_own_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    own = np.random.default_rng(0)
    with caplog.at_level(logging.WARNING):
        adopted((Samples([drawn] * 3), ROWS), "t.py:own")
        assert not caplog.text
        adopted((Samples([lambda: (own.random(2), 0)] * 3), ROWS), "t.py:own")
    assert "own: train: its samples are not the same when they are fetched again" in caplog.text


def test_a_fingerprint_tells_other_samples() -> None:
    first = fingerprint(taken((Samples(ROWS), ROWS)))
    assert first.startswith("7 + 7 samples, checksum ")
    assert fingerprint(taken((Samples(ROWS), ROWS))) == first
    assert fingerprint(taken((Samples(ROWS[::-1]), ROWS))) != first
    three = {"train": (VECTORS, REAL), "test": (VECTORS, REAL), "validation": (VECTORS, REAL)}
    assert fingerprint(taken(three)).startswith("10 + 10 + 10 samples")
    assert fingerprint(taken(pairs(VECTORS.bfloat16()))) != fingerprint(taken(pairs()))


@pytest.mark.parametrize("changes", [{"augment": "flip"}, {"image_size": 8}])
def test_samples_that_are_fetched_are_changed_where_they_are_made(changes: Any) -> None:
    data = Data.model_validate({"name": "sphere", "batch_size": 4, **changes})
    with pytest.raises(DataError, match="fetches its samples one by one"):
        make_batches(data, taken((Samples(ROWS), ROWS)), "train", CPU, torch.float32)


def test_the_fingerprint_of_two_tensors_is_what_it_was(tmp_path: Path) -> None:
    data = Data.model_validate({"name": "synthetic", "batch_size": 4, "train": 30, "test": 9})
    made = load_dataset(data, tmp_path)
    checksum = 0
    for split in (made.train, made.test):
        assert isinstance(split, Split)
        for tensor in (split.inputs, split.targets):
            checksum = zlib.crc32(tensor.contiguous().numpy().tobytes(), checksum)
    assert fingerprint(made) == f"30 + 9 samples, checksum {checksum:08x}"


def test_a_worker_that_dies_ends_the_training_with_words() -> None:
    made = taken((Samples([fatal] * 40), ROWS))
    batches = make_batches(
        DATA.model_copy(update={"workers": 1}), made, "train", CPU, torch.float32
    )
    assert isinstance(batches, FetchedBatches)
    with pytest.raises(RuntimeError, match=r"DataLoader worker .* (killed by signal|exited)"):
        list(batches.iterate(None, None))
    batches.close()


def fatal() -> Any:
    if os.getpid() != _PROCESS:
        os.kill(os.getpid(), signal.SIGKILL)
    return VECTORS[0], 0


_PROCESS = os.getpid()
