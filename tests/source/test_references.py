"""References to files beside the spec and to installed packages, and what is said of wrong ones."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from deltagclip_cli.source.reference import (
    FileReference,
    PackageReference,
    ReferenceRefusedError,
    check_reference,
    parse_reference,
)
from deltagclip_cli.source.signatures import Signature

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, width: int = 8):
        super().__init__()

def huber(outputs, targets): ...

double = lambda outputs, targets: 2.0
made = torch.jit.script(huber)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    spec = tmp_path / "spec"
    (spec / "models").mkdir(parents=True)
    (spec / "net.py").write_text(NET)
    (spec / "models" / "deep.py").write_text(NET)
    (tmp_path / "above.py").write_text(NET)
    return spec


def checked(name: str, folder: Path, kind: str = "model") -> Signature:
    reference = parse_reference(name)
    assert reference is not None
    return check_reference(reference, folder, kind)


def refusal(name: str, folder: Path, kind: str = "model") -> ReferenceRefusedError:
    with pytest.raises(ReferenceRefusedError) as refused:
        checked(name, folder, kind)
    return refused.value


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("net.py:Net", FileReference("net.py", "Net")),
        ("./net.py:Net", FileReference("net.py", "Net")),
        ("models//deep.py:Net", FileReference("models/deep.py", "Net")),
        ("../net.py:Net", FileReference("../net.py", "Net")),
        ("/home/me/net.py:Net", FileReference("/home/me/net.py", "Net")),
        ("net.py", FileReference("net.py", "")),
        ("a:b.py:Net", FileReference("a:b.py", "Net")),
        ("timm.optim:Lion", PackageReference("timm.optim", "Lion")),
        ("os.system", None),
        ("adamw", None),
        ("", None),
    ],
)
def test_a_name_is_a_file_a_package_or_short(name: str, reference: object) -> None:
    assert parse_reference(name) == reference


@pytest.mark.parametrize("name", ["net.py:Net", "models/deep.py:Net", "./net.py:Net"])
def test_a_class_in_a_file_has_its_options(folder: Path, name: str) -> None:
    signature = checked(name, folder)
    assert list(signature.options) == ["classes", "width"]
    assert signature.definition.module.file.is_relative_to(folder)
    assert signature.is_class and not signature.open


@pytest.mark.parametrize("name", ["huber", "double", "made"])
@pytest.mark.parametrize("kind", ["loss", "optimizer"])
def test_all_that_a_file_defines_may_be_named(folder: Path, name: str, kind: str) -> None:
    assert checked(f"net.py:{name}", folder, kind).open == (name == "made")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("nett.py:Net", "there is no file nett.py in the folder of the spec", "mean 'net.py'?"),
        ("net.py:Nett", "there is no 'Nett' in net.py.", "it defines Net and huber - did you mean"),
        ("net.py", "'net.py' names a file alone.", "it defines Net and huber: net.py:Net"),
        ("net.py:", "'net.py' names a file alone.", "net.py:Net"),
        ("net.py:Net.forward", "'Net.forward' is not the name of a class", "without dots"),
        ("net.py:torch", "'torch' in net.py is a module.", "it defines Net and huber"),
        ("net.py:nn", "'nn' in net.py is a module.", "it defines Net and huber"),
        ("random.py:Net", "random.py has the name of the module random of Python", "my_random.py"),
        ("models/torch.py:Net", "there is no file models/torch.py", "files there: link.py, "),
        ("models/numpy.py:Net", "models/numpy.py has the name of the module numpy", "rename"),
        ("../above.py:Net", "../above.py lies outside of the folder of the spec.", "above.py:NAME"),
        ("link.py:Net", "link.py lies outside of the folder of the spec.", "above.py:NAME"),
        ("net:Net", "the package net is not installed.", "a part in a file is named as net.py:Net"),
        ("models.deep:Net", "is not installed.", "a part in a file is named as models/deep.py:Net"),
        ("schedulfree:Adam", "the package schedulfree is not installed.", "install it, or correct"),
        ("os:system", "os is a module of Python itself", "files beside the spec"),
        ("functools:partial", "functools is a module of Python itself", "installed packages"),
        ("torch.optim:Adm", "there is no 'Adm' in torch.optim.", "did you mean 'Adam'?"),
        ("torchvision.models:VGGG", "no 'VGGG' in torchvision.models.", "did you mean 'VGG'?"),
        ("torch.optim.adams:Adam", "no source file of torch.optim.adams.", "did you mean 'adam'?"),
        ("heavybal:SOAP", "the package heavybal is not installed.", "did you mean 'heavyball'?"),
        ("lion_pytorch:Lion", "package lion_pytorch is not", "pip install lion-pytorch"),
    ],
)
def test_a_wrong_name_is_answered_with_what_there_is(
    folder: Path, name: str, message: str, hint: str
) -> None:
    for file in ("random.py", "models/numpy.py"):
        (folder / file).write_text(NET)
    (folder / "link.py").symlink_to(folder.parent / "above.py")
    refused = refusal(name, folder)
    assert message in refused.message
    assert hint in refused.hint


def test_a_class_of_another_kind_is_refused_as_such(folder: Path) -> None:
    refused = refusal("net.py:Net", folder, "optimizer")
    assert refused.message == "'Net' in net.py is no optimizer, but a class of the kind model."


def test_a_file_outside_is_named_by_its_real_path(folder: Path) -> None:
    real = Path(os.path.realpath(folder.parent / "above.py"))
    assert checked(f"{real}:Net", folder).definition.module.file == real
    link = folder.parent / "link"
    link.symlink_to(real.parent, target_is_directory=True)
    assert f"write its real path: {real}:NAME" in refusal(f"{link}/above.py:Net", folder).hint


def test_a_file_in_the_folder_is_not_named_by_its_whole_path(folder: Path) -> None:
    refused = refusal(f"{folder}/models/deep.py:Net", folder)
    assert "write models/deep.py:NAME" in refused.hint


@pytest.mark.parametrize(
    "file",
    [
        ".venv/lib/python3.11/site-packages/tool/run.py",
        "env/lib/python3.11/idlelib/run.py",
        "vendor/site-packages/tool.py",
        "dist-packages/tool.py",
    ],
)
def test_a_file_of_a_package_is_no_file_of_ones_own(folder: Path, file: str) -> None:
    (folder / file).parent.mkdir(parents=True)
    (folder / file).write_text("def part(command): ...")
    assert "belongs to Python or to an installed package" in refusal(f"{file}:part", folder).message
    outside = folder.parent / "elsewhere"
    outside.mkdir()
    whole = f"{os.path.realpath(folder / file)}:part"
    assert "belongs to Python or to an installed package" in refusal(whole, outside).message


@pytest.mark.parametrize("module", ["subprocess", "idlelib.run", "torch.hub", "pip._internal.main"])
def test_installed_code_is_not_reached_by_its_path(folder: Path, module: str) -> None:
    spec = importlib.util.find_spec(module.partition(".")[0])
    assert spec is not None and spec.origin is not None
    place = Path(spec.origin)
    if "." in module:
        place = place.parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
    assert place.is_file()
    relative = Path(os.path.relpath(place, folder)).as_posix()
    for file in (str(place), os.path.realpath(place), relative):
        assert refusal(f"{file}:run", folder).hint
    (folder / "link").symlink_to(place.parent, target_is_directory=True)
    assert "outside" in refusal(f"link/{place.name}:run", folder).message


@pytest.mark.parametrize(
    "file", ["net\0.py", "\udcff.py", f"{'n' * 300}.py", "\n.py", ".py", "/.py"]
)
def test_a_file_that_cannot_be_is_refused(folder: Path, file: str) -> None:
    assert refusal(f"{file}:Net", folder).hint


def test_an_init_file_is_the_package_itself(folder: Path) -> None:
    (folder / "models" / "__init__.py").write_text("from .deep import Net")
    assert list(checked("models/__init__.py:Net", folder).options) == ["classes", "width"]


def test_a_copy_has_the_files_from_outside_too(folder: Path, tmp_path: Path) -> None:
    outside = Path(os.path.realpath(tmp_path / "above.py"))
    copied = Path(f"{folder}/@{outside}")
    copied.parent.mkdir(parents=True)
    copied.write_text("def Net(other): ...")
    assert list(checked(f"{outside}:Net", folder).options) == ["other"]


@pytest.mark.parametrize(
    ("content", "message", "shown"),
    [
        (b"x = 1\ndef f(:\n    pass", "net.py, line 2: invalid syntax.", "  def f(:\n          ^"),
        (b"def f():\nreturn", "net.py, line 2: expected an indented block", "return"),
        (b"x = '\xff'", "net.py, line 1: ", "x = "),
        (b"x = 1\0", "net.py: source code string cannot contain null bytes", "correct"),
        (b"x = " + b"-" * 100_000 + b"1", "nested too deeply", "simpler"),
    ],
)
def test_a_file_that_python_cannot_read_is_shown_as_python_shows_it(
    folder: Path, content: bytes, message: str, shown: str
) -> None:
    (folder / "net.py").write_bytes(content)
    refused = refusal("net.py:Net", folder)
    assert message in refused.message
    assert shown in refused.hint


def test_a_syntax_error_in_a_helper_names_the_helper(folder: Path) -> None:
    (folder / "net.py").write_text("from models.deep import Base\nclass Net(Base): ...")
    (folder / "models" / "deep.py").write_text("class Base(:")
    assert "models/deep.py, line 1: invalid syntax." in refusal("net.py:Net", folder).message


PARTS = {
    "torch.nn:Linear": "model",
    "torchvision.models:resnet18": "model",
    "torchvision.models:get_model": "model",
    "torchvision.models.resnet:ResNet": "model",
    "torch.optim:Adam": "optimizer",
    "torch.optim:Muon": "optimizer",
    "deltagclip_cli.optim.delta_gclip:DeltaGClip": "optimizer",
    "torch.optim.lr_scheduler:StepLR": "schedule",
    "torchvision.datasets:MNIST": "data set",
    "torch.nn:CrossEntropyLoss": "loss",
    "torch.nn.functional:cross_entropy": "loss",
}


@pytest.mark.parametrize("name", PARTS)
def test_an_installed_part_may_be_named_where_its_kind_is_asked_for(
    tmp_path: Path, name: str
) -> None:
    assert checked(name, tmp_path, PARTS[name]).options
    for kind in {"model", "optimizer", "schedule", "data set"} - {PARTS[name]}:
        if PARTS[name] != "loss" or kind != "model":
            assert kind in refusal(name, tmp_path, kind).message


PACKAGE = {
    "__init__": "from .parts import *\nfrom .parts import _hidden as shown\n"
    "from torch.optim import SGD",
    "parts": """
import functools, os, torch
from torch import nn
from torch.optim import Optimizer

class Net(nn.Module):
    def __init__(self, width): ...
class Sign(Optimizer): ...
class Loader: ...
def annotated(width) -> nn.Module: ...
def in_words(width) -> "Net | None": ...
def returning(width):
    net = Net(width)
    return net
def choosing(width):
    if width:
        return Net(width)
    return returning(width)
def wrapping(width):
    net = Net(width)
    net = os.path.join(net, width)
    return net
def sometimes(width):
    if width:
        return Net(width)
    return os.system(width)
def running(command): return os.system(command)
def lying(Net): return Net(os)
async def later(width) -> nn.Module: ...
def _hidden(width) -> nn.Module: ...
half = functools.partial(Net, width=2)
ready = Net(3)
def data(folder, download): ...
def fetch(command, folder): ...
def task(model, inputs, targets): ...
def loss(outputs, targets): ...
""",
}
PARTS_THERE = (
    "Net Sign Loader annotated in_words returning choosing wrapping sometimes running lying later "
    "shown half ready data fetch task loss"
)
SEEN = {
    "model": ["Net", "annotated", "returning", "choosing", "shown", "half"],
    "optimizer": ["Sign", "SGD"],  # which is of torch, and handed on
    "data set": ["data"],
    "task": ["task"],
    "loss": ["Net"],
}


@pytest.mark.parametrize("kind", SEEN)
def test_of_a_package_only_what_is_seen_to_make_a_part_may_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    package = tmp_path / "part_samples"
    package.mkdir()
    for module, text in PACKAGE.items():
        (package / f"{module}.py").write_text(f"raise SystemExit\n{text}")
    monkeypatch.syspath_prepend(tmp_path)
    names = [*PARTS_THERE.split(), "SGD"]
    accepted = []
    for name in names:
        try:
            checked(f"part_samples:{name}", tmp_path, kind)
        except ReferenceRefusedError:
            continue
        accepted.append(name)
    assert accepted == SEEN[kind]
    hint = refusal("part_samples:SGD", tmp_path, "model").hint
    assert hint == "name it where it is defined: torch.optim.sgd:SGD"
    assert "part_samples" not in sys.modules
