"""Where pretrained networks are found, and what is said where they are not."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.models import bert as pretrained
from deltagclip_cli.parts.models.bert import find_pretrained

FILES = ("config.json", "model.safetensors", "tokenizer.json")


def write(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A hub with two networks, one with weights of the old kind; lists the downloads."""
    calls: list[dict[str, Any]] = []
    content = {"some/bert": FILES, "old-bert": ("config.json", "pytorch_model.bin", "vocab.txt")}

    def snapshot_download(
        name: str, *, allow_patterns: tuple[str, ...], local_files_only: bool = False
    ) -> str:
        folder = tmp_path / "cache" / name
        if local_files_only:
            if not folder.is_dir():
                raise FileNotFoundError("not in the cache")
            return str(folder)
        calls.append({"name": name, "patterns": allow_patterns})
        if name not in content:
            raise ValueError("404: no such repository\nmore words")
        wanted = [each for each in content[name] if any(map(Path(each).match, allow_patterns))]
        return str(write(folder, *wanted))

    library = pytest.importorskip("huggingface_hub", reason="the extra 'bert' is not installed")
    monkeypatch.setattr(library, "snapshot_download", snapshot_download)
    return calls


def test_a_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "net", *FILES)
    assert find_pretrained(str(tmp_path / "net"), download=False) == tmp_path / "net"
    monkeypatch.chdir(tmp_path)
    assert find_pretrained("net", download=False) == Path("net")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_pretrained("~/net", download=False) == tmp_path / "net"


def test_weights_and_vocabulary_may_be_of_several_kinds(tmp_path: Path) -> None:
    folder = write(tmp_path, "config.json", "pytorch_model.bin", "vocab.txt")
    assert find_pretrained(str(folder), download=False) == folder


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        (FILES[1:], "config.json"),
        (FILES[::2], "model.safetensors or model.safetensors.index.json or pytorch_model.bin"),
        (FILES[:2], "tokenizer.json or vocab.txt"),
        (FILES[2:], "config.json, model.safetensors or"),
    ],
)
def test_files_that_a_folder_lacks_are_named(
    there: tuple[str, ...], missing: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "net", *there)
    words = f"{folder}: is not a whole pretrained network; missing: {missing}"
    with pytest.raises(UsageError, match=re.escape(words)):
        find_pretrained(str(folder), download=False)


def test_a_folder_in_a_package_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = write(tmp_path / "some_network", "__init__.py")
    (package / "__init__.py").write_text("raise RuntimeError")
    folder = write(package / "files" / "model", *FILES)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_pretrained("some_network:files/model", download=False) == folder


def test_a_package_that_is_not_there_is_to_be_installed() -> None:
    with pytest.raises(UsageError, match=r"no_such_net is not installed.\n.*install no-such-net"):
        find_pretrained("no_such_net:model", download=False)


def test_a_name_on_the_hub_is_fetched_once(tmp_path: Path, hub: list[dict[str, Any]]) -> None:
    for download in (True, True, False):
        assert find_pretrained("some/bert", download=download) == tmp_path / "cache/some/bert"
    assert [call["name"] for call in hub] == ["some/bert"]


def test_weights_of_the_old_kind_are_fetched_where_there_are_no_others(
    tmp_path: Path, hub: list[dict[str, Any]]
) -> None:
    assert (find_pretrained("old-bert", download=True) / "pytorch_model.bin").is_file()
    assert [call["patterns"] for call in hub][1:] == [("pytorch_model.bin",)]


def test_a_download_that_was_broken_off_is_completed(
    tmp_path: Path, hub: list[dict[str, Any]]
) -> None:
    write(tmp_path / "cache/some/bert", "config.json")
    with pytest.raises(UsageError, match=r"missing: model.safetensors"):
        find_pretrained("some/bert", download=False)
    assert find_pretrained("some/bert", download=True).is_dir()


def test_nothing_is_fetched_in_a_job(hub: list[dict[str, Any]]) -> None:
    with pytest.raises(UsageError) as caught:
        find_pretrained("some/bert", download=False)
    assert str(caught.value) == (
        "model.pretrained: 'some/bert' is neither a folder here nor in the cache of the Hugging "
        "Face hub, and nothing is downloaded here.\n"
        "  Run 'deltagclip data prepare EXPERIMENT' where there is a network, or name a folder: "
        "--set model.pretrained=FOLDER"
    )
    assert hub == []


@pytest.mark.usefixtures("hub")
def test_what_the_hub_says_is_passed_on_in_a_line() -> None:
    with pytest.raises(UsageError, match=r"downloading failed: 404: no such repository.\n  Run "):
        find_pretrained("nobody/has-this", download=True)


@pytest.mark.parametrize("name", ["/no/such/folder", "a/b/c", "./net", "two words", "a:b:c"])
def test_what_can_only_be_a_folder_is_not_looked_for_on_the_hub(
    name: str, hub: list[dict[str, Any]]
) -> None:
    with pytest.raises(UsageError, match=f"there is no folder '{re.escape(name)}'"):
        find_pretrained(name, download=True)
    assert hub == []


@pytest.mark.parametrize("library", ["transformers", "huggingface_hub"])
def test_without_the_extra_its_name_is_said(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=rf"{library}, .*\n  .*pip install 'deltagclip_cli\[bert"):
        pretrained.transformers() if library == "transformers" else find_pretrained(
            "some/bert", download=False
        )
