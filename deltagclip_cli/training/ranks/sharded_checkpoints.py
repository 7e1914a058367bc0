"""Checkpoints of divided networks: each rank writes its part of each tensor, the mark comes last.

The mark is ``checkpoint.pt``, which holds all else and names the folder of the parts. Any number of
ranks, divided or not, goes on from there.
"""

from __future__ import annotations

import pickle
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

if TYPE_CHECKING:
    from deltagclip_cli.runs.folder import RunFolder
    from deltagclip_cli.runs.hold import HeldFolder
    from deltagclip_cli.training.checkpoints import Saving
    from deltagclip_cli.training.ranks import Ranks

_PART = "part of"
"""The key of a dictionary that stands for a divided tensor: its value is the name of that."""

_BLOCK = 2**24
_DESCRIPTION = ".metadata"  # of the parts, by torch


class ShardedSaving:
    """Has each rank write its parts, and the first one the mark, by what writes it elsewhere."""

    def __init__(self, mark: Saving, ranks: Ranks, held: HeldFolder) -> None:
        self._mark, self._ranks, self._held = mark, ranks, held

    def save(self, state: dict[str, Any]) -> None:
        """Write a state; all ranks do so at the same step."""
        self.wait()
        folder = self._held.folder.shards_folder(state["step"])
        # what a process left there that was killed
        self._ranks.same(lambda: shutil.rmtree(folder, ignore_errors=True))
        tensors: dict[str, Tensor] = {}
        plain = _with_parts(state, "", tensors)
        with _told_plainly():
            save(tensors, storage_writer=FileSystemWriter(folder, single_file_per_rank=True))
        everyone: list[Any] = [None] * self._ranks.count
        written = [*folder.glob(f"__{self._ranks.number}_*")]
        written += [folder / _DESCRIPTION] if self._ranks.number == 0 else []
        mine = {file.name: _checksum(file) for file in written}
        dist.all_gather_object(everyone, mine)
        files = {name: crc for each in everyone for name, crc in each.items()}
        shards = {"folder": folder.name, "files": files}
        self._mark.save({**plain, "shards": shards})
        if self._ranks.number == 0:
            self._held.forget_shards(state["step"])

    def wait(self) -> None:
        self._mark.wait()

    def close(self) -> None:
        self._mark.close()


@contextmanager
def _told_plainly() -> Iterator[None]:
    """Raise what went wrong in a rank, which torch hides in what is not even an ``Exception``."""
    try:
        yield
    except CheckpointException as error:
        cause, _ = next(iter(error.failures.values()))
        raise cause from error


def _with_parts(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Return a state in which the names of divided tensors stand for them."""
    if isinstance(value, DTensor):
        tensors[place] = value.detach()
        shape, dtype = list(value.shape), str(value.dtype).removeprefix("torch.")
        return {_PART: place, "shape": shape, "dtype": dtype}
    if type(value) is dict or isinstance(value, Mapping):
        return {key: _with_parts(each, f"{place}/{key}", tensors) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(
            _with_parts(each, f"{place}/{number}", tensors) for number, each in enumerate(value)
        )
    return value


def damage(state: Mapping[str, Any], folder: RunFolder) -> str:
    """Say what is wrong with the parts that a mark names; empty if nothing is."""
    shards = state["shards"]
    for name, crc in shards["files"].items():
        file = folder.path / shards["folder"] / name
        if not file.is_file() or _checksum(file) != crc:
            return f"its part {name} is missing or damaged"
    return ""


def read_parts(
    state: Mapping[str, Any], folder: RunFolder, empty: Callable[[list[int], torch.dtype], Tensor]
) -> dict[str, Any]:
    """Return a state with the tensors that a mark names, or with parts of them.

    Args:
        empty: makes what is read into: a whole tensor, or one that is divided.
    """
    found = dict(_parts(state))
    tensors = {
        name: empty(each["shape"], getattr(torch, each["dtype"])) for name, each in found.items()
    }
    alone = not any(isinstance(each, DTensor) for each in tensors.values())
    reader = _Reader(folder.path / state["shards"]["folder"])
    with warnings.catch_warnings(), _told_plainly():
        warnings.simplefilter("ignore")  # of a single process torch says that it is one
        load(tensors, storage_reader=reader, no_dist=alone)
    whole = {key: each for key, each in state.items() if key != "shards"}
    return {key: _restored(each, tensors) for key, each in whole.items()}


def _parts(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, dict) and _PART in value:
        yield value[_PART], value
    elif isinstance(value, (dict, list, tuple)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _parts(each)


def _restored(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _PART in value:
            return tensors[value[_PART]]
        return {key: _restored(each, tensors) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_restored(each, tensors) for each in value)
    return value


def _checksum(file: Path) -> int:
    crc = 0
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc


class _Unpickler(pickle.Unpickler):
    """Reads the description of parts, and makes nothing else: pickles may run any code."""

    def find_class(self, module: str, name: str) -> Any:
        is_plain = module in ("torch", "pathlib", "collections") or module.startswith(
            ("torch.distributed.checkpoint.", "torch.distributed.tensor.", "torch.serialization")
        )
        if is_plain and name in _DESCRIBED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")


_DESCRIBED = {
    "Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata",
    "TensorProperties", "_MEM_FORMAT_ENCODING", "MetadataIndex", "StorageMeta", "_StorageInfo",
    "Size", "float32", "float64", "bfloat16", "float16", "int64", "int32", "uint8", "bool",
    "strided", "PosixPath", "WindowsPath", "serialization", "OrderedDict", "_get_layout",
}  # fmt: skip


class _Reader(FileSystemReader):
    def read_metadata(self, *arguments: Any, **options: Any) -> Metadata:
        with (Path(self.path) / _DESCRIPTION).open("rb") as file:
            found = _Unpickler(file).load()
        if not isinstance(found, Metadata):
            raise ValueError("its description is damaged")
        found.storage_meta = StorageMeta(load_id=self.load_id)
        return found
