"""Names and keywords are followed through files, and nothing is imported on the way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from deltagclip_cli.source.signatures import REQUIRED, UNKNOWN, Signature, read_signature

Read = Callable[..., Signature]
UNIMPORTABLE = "raise SystemExit('it must not be imported')\n"


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Writes files and reads the signature of one name; ``net.py:part`` if nothing is said."""

    def reads(files: dict[str, str], target: str = "net.py:part") -> Signature:
        for name, text in files.items():
            file = tmp_path / f"{name}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(UNIMPORTABLE + dedent(text))
        return read_signature(target, tmp_path)

    return reads


def options(signature: Signature) -> list[str]:
    return list(signature.options)


PARTS = {
    "a definition": "def part(a, b=1): ...",
    "an alias": "def other(a, b=1): ...\npart = other",
    "a choice": "import torch\ndef other(a, b=1): ...\npart = other if torch.cuda else None",
    "a branch": "if True:\n    def part(a, b=1): ...\nelse:\n    part = None",
    "a failing import": "try:\n    from nowhere import part\nexcept ImportError:\n"
    "    def part(a, b=1): ...",
    "a block": "with x:\n    def part(a, b=1): ...",
    "a function of no name": "part = lambda a, b=1: a",
    "an asynchronous one": "async def part(a, b=1): ...",
    "several at once": "def other(a, b=1): ...\nx, part = 1, other",
    "a partial": "from functools import partial\ndef other(x, a, b=2): ...\n"
    "part = partial(other, 0, b=1)",
    "the last one": "def part(z): ...\ndef part(a, b=1): ...",
    "overloads": "from typing import overload\n@overload\ndef part(a): ...\ndef part(a, b=1): ...",
    "a class": "class part:\n    def __init__(self, a, b=1): ...",
    "an odd receiver": "class part:\n    def __init__(this, a, b=1): ...",
    "a new": "class part:\n    def __new__(cls, a, b=1): ...",
    "a base": "class Base:\n    def __init__(self, a, b=1): ...\nclass part(Base): ...",
    "a generic base": "from typing import Generic\nclass Base(Generic[T]):\n"
    "    def __init__(self, a, b=1): ...\nclass part(Base[int]): ...",
    "a data class": "from dataclasses import dataclass\n@dataclass\nclass part:\n"
    "    a: int\n    b: int = 1",
    "a named tuple": "from typing import NamedTuple\n"
    "class part(NamedTuple):\n    a: int\n    b: int = 1",
}


@pytest.mark.parametrize("way", PARTS)
def test_a_definition_is_found_however_it_is_written(read: Read, way: str) -> None:
    signature = read({"net": PARTS[way]})
    assert options(signature) == ["a", "b"]
    assert [signature.options[name].default for name in "ab"] == [REQUIRED, 1]
    assert not signature.open
    assert signature.positional == ["a", "b"]


FILES: dict[str, dict[str, str]] = {
    "a name": {"net": "from helper import part", "helper": "def part(a): ..."},
    "another name": {"net": "from helper import x as part", "helper": "def x(a): ..."},
    "a module": {"net": "import helper\npart = helper.part", "helper": "def part(a): ..."},
    "a module below": {
        "net": "import deep.helper\npart = deep.helper.part",
        "deep/helper": "def part(a): ...",
    },
    "a star": {"net": "from helper import *", "helper": "def part(a): ..."},
    "a star with a list": {
        "net": "from other import *\nfrom helper import *",
        "helper": "__all__ = ['part']\ndef part(a): ...",
        "other": "__all__ = ['x']\ndef part(wrong): ...",
    },
    "a relative import": {"net": "from .helper import part", "helper": "def part(a): ..."},
    "a package": {
        "net": "from deep import part",
        "deep/__init__": "from .helper import part",
        "deep/helper": "from ..top import part",
        "top": "def part(a): ...",
    },
    "a circle": {
        "net": "from helper import part",
        "helper": "try:\n    from net import part\nexcept ImportError:\n    def part(a): ...",
    },
    "a base in another file": {
        "net": "import helper\nclass part(helper.Base): ...",
        "helper": "class Base:\n    def __init__(self, a): ...",
    },
}


@pytest.mark.parametrize("way", FILES)
def test_a_definition_is_found_in_another_file(read: Read, way: str) -> None:
    signature = read(FILES[way])
    assert options(signature) == ["a"]
    assert signature.definition.module.file.name in ("helper.py", "top.py", "net.py")


def test_a_helper_beside_a_file_comes_before_one_beside_the_spec(read: Read) -> None:
    files = {"helper": "def part(outer): ...", "models/helper": "def part(inner): ..."}
    files["models/net"] = "from helper import part"
    assert options(read(files, "models/net.py:part")) == ["inner"]


def test_a_helper_beside_the_spec_is_found_from_a_folder_below(read: Read) -> None:
    files = {"models/net": "from helper import part", "helper": "def part(a): ..."}
    assert options(read(files, "models/net.py:part")) == ["a"]


BASE = "class Base:\n    def __init__(self, a, b=1, *, c=2): ...\n"
FUNCTION = "def target(a, b=1, *, c=2): ...\n"
# What is left of a, b and c, and whether anything else may be accepted.
KEYWORDS: dict[str, tuple[str, list[str], bool]] = {
    "nobody": ("def part(**k): ...", [], False),
    "a function": (f"{FUNCTION}def part(**k): return target(**k)", ["a", "b", "c"], False),
    "some given": (f"{FUNCTION}def part(**k): return target(0, c=1, **k)", ["b"], False),
    "a base": (
        f"{BASE}class part(Base):\n"
        "    def __init__(self, *args, **k): super().__init__(*args, **k)",
        ["a", "b", "c"],
        False,
    ),
    "a base by its name": (
        f"{BASE}class part(Base):\n    def __init__(self, **k): Base.__init__(self, 1, **k)",
        ["b", "c"],
        False,
    ),
    "a base, the old way": (
        f"{BASE}class part(Base):\n    def __init__(self, **k): super(part, self).__init__(1, **k)",
        ["b", "c"],
        False,
    ),
    "the next of several bases": (
        f"{BASE}class Mixin:\n    def __init__(self, d=1, **k): super().__init__(**k)\n"
        "class part(Mixin, Base): ...",
        ["d", "a", "b", "c"],
        False,
    ),
    "a method": (
        "class part:\n    def __init__(self, **k): self.build(1, **k)\n"
        "    def build(self, a, b=1, c=2): ...",
        ["b", "c"],
        False,
    ),
    "a method of no object": (
        "class Base:\n    @staticmethod\n    def build(a, b=1): ...\n"
        "def part(**k): return Base.build(**k)",
        ["a", "b"],
        False,
    ),
    "a copy": (
        f"{FUNCTION}def part(**k):\n    d = dict(k, c=1)\n    target(**d)",
        ["a", "b", "c"],
        False,
    ),
    "a dictionary": (
        f"{FUNCTION}def part(**k): return target(**{{'a': 1, **k}})",
        ["b", "c"],
        False,
    ),
    "an update": (
        f"{FUNCTION}def part(**k):\n    d = {{}}\n    d.update(k)\n    target(**d)",
        ["a", "b", "c"],
        False,
    ),
    "a union": (f"{FUNCTION}def part(**k): return target(**(k | {{}}))", ["a", "b", "c"], False),
    "a partial": (
        f"import functools\n{FUNCTION}def part(**k): return functools.partial(target, 1, **k)",
        ["b", "c"],
        False,
    ),
    "two of them": (
        f"{FUNCTION}def other(d): ...\ndef part(x, **k): return target(**k) if x else other(**k)",
        ["x", "a", "b", "c", "d"],
        False,
    ),
    "a local name": (
        f"{FUNCTION}def part(**k):\n    f = target\n    return f(**k)",
        ["a", "b", "c"],
        False,
    ),
    "a local import": ("def part(**k):\n    from helper import x\n    return x(**k)", ["h"], False),
    "a local function": (
        "def part(**k):\n    def inner(a): ...\n    return inner(**k)",
        ["a"],
        False,
    ),
    "reads": (
        "def part(**k):\n    if 'a' in k: ...\n    return k.pop('b'), k.get('c', 2), k['d']",
        ["a", "b", "c", "d"],
        False,
    ),
    "a function that gets the dictionary": (
        "def check(d): return d.pop('a', 1)\ndef part(**k): check(k)",
        ["a"],
        False,
    ),
    "refusals": (
        "def part(**k):\n    if k: raise TypeError(f'what is {k}?')\n"
        "    if set(k) - {'x'}: raise TypeError(sorted(k))\n    assert not k, k",
        [],
        False,
    ),
    "itself": ("def part(a, **k): return part(a, **k)", ["a"], False),
    "attributes": ("class part:\n    def __init__(self, **k): self.k = k", [], True),
    "every attribute": (
        "class part:\n    def __init__(self, **k):\n"
        "        for n, v in k.items(): setattr(self, n, v)",
        [],
        True,
    ),
    "an argument": ("def part(f, **k): return f(**k)", ["f"], True),
    "something unknown": ("from nowhere import f\ndef part(**k): return f(**k)", [], True),
    "all local names": ("def part(a, **k): return dict(locals())", ["a"], True),
    "the one who calls": ("def part(**k): return k", [], True),
    "the groups of an optimizer": (
        "import torch\nclass part(torch.optim.Optimizer):\n"
        "    def __init__(self, params, lr, **k):\n"
        "        super().__init__(params, {'lr': lr, **k})",
        ["params", "lr"],
        True,
    ),
    "a network": (
        "from torch import nn\nclass part(nn.Module):\n    def __init__(self, a, **k):\n"
        "        super().__init__(**k)",
        ["a"],
        False,
    ),
    "an unknown base": ("from nowhere import Base\nclass part(Base): ...", [], True),
}


@pytest.mark.parametrize("whom", KEYWORDS)
def test_keywords_are_followed_to_whom_they_go(read: Read, whom: str) -> None:
    text, names, is_open = KEYWORDS[whom]
    signature = read({"net": text, "helper": "def x(h): ..."})
    assert options(signature) == names
    assert signature.open == is_open


def test_what_goes_through_keywords_has_a_type_and_no_default(read: Read) -> None:
    """A default would enter the identity of trials, and nothing is required in both branches."""
    text = "def target(a: int, b: float = 1.0): ...\ndef part(c=3, **k): return target(**k)"
    found = read({"net": text}).options
    assert [found[name].default for name in "abc"] == [UNKNOWN, UNKNOWN, 3]
    assert found["a"].annotation is int


@pytest.mark.parametrize(
    ("body", "default"),
    [
        ("target(**k); return k.get('d', 5)", UNKNOWN),
        ("known = k.get('d', 5); return target(**k)", UNKNOWN),
        ("known = k.pop('d', 5); return target(**k)", 5),
        ("known = k.setdefault('d', 5); return target(**k)", 5),
        ("return k.get('d', 5)", 5),
    ],
)
def test_a_default_is_not_handed_on_with_keywords_that_nobody_wrote(
    read: Read, body: str, default: Any
) -> None:
    text = f"def target(a): ...\ndef part(**k): {body}"
    assert read({"net": text}).options["d"].default == default


TYPES: list[tuple[str, list[Any], list[Any]]] = [
    ("Pair = tuple[float, float]\ndef part(a: Pair): ...", [[0.5, 1]], [[0.5], "x"]),
    ("from helper import Pair\ndef part(a: Pair): ...", [[0.5, 1]], [[0.5], "x"]),
    ("def part(a: float = None): ...", [0.5, None], ["x"]),
    ("def part(a: 'not a type['): ...", [0.5, "x"], []),
    ("def part(a: Literal[Mode.X]): ...", [0.5, "x"], []),
    ("def part(a: Annotated[int, 'words']): ...", [1], ["x"]),
    ("Pair = Pair\ndef part(a: Pair): ...", ["anything"], []),
]


@pytest.mark.parametrize(("text", "good", "bad"), TYPES)
def test_types_are_those_that_names_stand_for(
    read: Read, text: str, good: list[Any], bad: list[Any]
) -> None:
    signature = read({"net": text, "helper": "Pair = tuple[float, float]"})
    adapter = TypeAdapter(signature.options["a"].annotation)
    for value in good:
        adapter.validate_python(value)
    for value in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


def test_fields_of_a_data_class_are_arguments(read: Read) -> None:
    text = """
        from dataclasses import dataclass, field, KW_ONLY
        from typing import ClassVar

        @dataclass
        class Base:
            a: int
            b: list = field(default_factory=list)

        @dataclass
        class part(Base):
            kind: ClassVar[str] = "x"
            made: int = field(init=False, default=3)
            c: float = field(default=0.5)
            _: KW_ONLY
            d: bool = False
    """
    signature = read({"net": text})
    assert options(signature) == ["a", "b", "c", "d"]
    defaults = [option.default for option in signature.options.values()]
    assert defaults == [REQUIRED, UNKNOWN, 0.5, False]
    assert signature.positional == ["a", "b", "c"]


def test_the_bases_of_a_class_are_named(read: Read) -> None:
    text = "from torch import nn\nclass Base(nn.Module): ...\nclass part(Base):\n    '''Says so.'''"
    signature = read({"net": text})
    assert signature.bases == ["net.Base", "torch.nn.modules.module.Module"]
    assert (signature.summary, signature.definition.node.lineno) == ("Says so", 4)


@pytest.mark.parametrize(
    "base",
    [
        "torch.optim.Optimizer",
        "torch.optim.optimizer.Optimizer",
        "torch.optim.lr_scheduler.LRScheduler",
        "torch.optim.lr_scheduler._LRScheduler",
        "torch.utils.data.Dataset",
        "torch.utils.data.IterableDataset",
        "torch.nn.Module",
        "torch.nn.Linear",
    ],
)
def test_bases_of_torch_have_the_names_of_their_classes(read: Read, base: str) -> None:
    import importlib

    home, _, name = base.rpartition(".")
    real = getattr(importlib.import_module(home), name)
    expected = [f"{each.__module__}.{each.__name__}" for each in real.__mro__]
    signature = read({"net": f"import {home}\nclass part({base}): ..."})
    assert signature.bases == [each for each in expected if each.startswith("torch")]


def test_an_edited_file_is_read_anew(read: Read) -> None:
    assert options(read({"net": "def part(a): ..."})) == ["a"]
    assert options(read({"net": "def part(a, b, c): ..."})) == ["a", "b", "c"]


def test_the_options_of_torchvision_are_those_of_its_classes() -> None:
    signature = read_signature("torchvision.models.resnet:resnet18")
    assert "zero_init_residual" in signature.options and "layers" not in signature.options
    assert not signature.open


def test_nothing_of_this_imports_torch(tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys; from deltagclip_cli.source.signatures import read_signature as read\n"
        "read('torch.optim:Adam'), read('torchvision.models.resnet:resnet18')\n"
        "assert not {'torch', 'torchvision', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
