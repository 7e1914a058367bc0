"""Signatures read from source say what the imported objects say."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from pydantic import ConfigDict, TypeAdapter, ValidationError

from deltagclip_cli.core import Catalogue, load_target
from deltagclip_cli.source.signatures import REQUIRED, UNKNOWN, read_signature

TABLES = {
    "models": "deltagclip_cli.parts.models:TABLE",
    "datasets": "deltagclip_cli.parts.datasets:TABLE",
    "augmentations": "deltagclip_cli.parts.datasets:AUGMENTATIONS",
    "tasks": "deltagclip_cli.parts.tasks:TABLE",
    "optimizers": "deltagclip_cli.optim:TABLE",
    "schedules": "deltagclip_cli.parts.schedules:TABLE",
}
TARGETS = sorted(
    {
        target
        for table in TABLES.values()
        for target in load_target(table).all().values()
        if not target.startswith("torchvision.")
    }
)
# Defaults that are computed, such as 1.0 / 3; the class knows them, so that nothing is lost.
COMPUTED = {
    "torch.optim._muon:Muon": {"ns_coefficients", "eps", "ns_steps"},
    "torch.optim.lr_scheduler:ConstantLR": {"factor"},
    "torch.optim.lr_scheduler:LinearLR": {"start_factor"},
}


def test_all_tables_are_looked_at() -> None:
    assert len(TARGETS) >= 40


@pytest.mark.parametrize("kind", TABLES)
def test_what_is_limited_is_an_option(kind: str) -> None:
    table = load_target(TABLES[kind])
    for key in table.bounds:
        name, _, option = key.rpartition(".")
        targets = [table.entries[name]] if name else table.all().values()
        assert any(option in read_signature(target).options for target in targets), key


def test_two_of_a_kind_may_have_different_limits() -> None:
    entries = {"small": "a:small", "large": "a:large", "plain": "a:plain"}
    bounds = {"small.size": {"le": 9}, "large.size": {"ge": 9}, "lr": {"gt": 0}}
    table = Catalogue("thing", entries, bounds=bounds)
    limits = [table.limits(target, "size") for target in entries.values()]
    assert limits == [{"le": 9}, {"ge": 9}, {}]
    assert table.limits("torch:another", "lr") == {"gt": 0}
    assert table.limited() == ["size", "lr"]


@pytest.mark.parametrize("target", TARGETS)
def test_names_and_defaults_are_those_of_the_imported_object(target: str) -> None:
    read = read_signature(target)
    real = dict(inspect.signature(load_target(target)).parameters)
    variable = [name for name, each in real.items() if each.kind is each.VAR_KEYWORD]
    for name in variable:
        del real[name]

    assert read.open == bool(variable)
    assert list(read.options) == list(real)
    for name, option in read.options.items():
        default = real[name].default
        if name in COMPUTED.get(target, ()):
            assert option.default is UNKNOWN
        elif default is inspect.Parameter.empty:
            assert option.default is REQUIRED, name
        else:
            assert option.default == default, name
            assert type(option.default) is type(default), name


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_spec_may_write_has_a_type(target: str) -> None:
    supplied = frozenset[str]().union(*(load_target(t).supplied for t in TABLES.values()))
    if target.endswith(":Supervised"):
        supplied |= {"loss", "metrics"}  # parts themselves, and checked as such
    untyped = {
        name
        for name, option in read_signature(target).options.items()
        if option.annotation is Any and name not in supplied
    }
    assert not untyped


@pytest.mark.parametrize("kind", TABLES)
def test_each_of_our_own_components_is_described_in_a_line(kind: str) -> None:
    for target in load_target(TABLES[kind]).entries.values():
        summary = read_signature(target).summary
        assert 10 < len(summary) < 100
        assert not summary.endswith(".")


@pytest.mark.parametrize("kind", TABLES)
def test_every_default_fits_its_own_type(kind: str) -> None:
    for target in load_target(TABLES[kind]).all().values():
        for option in read_signature(target).options.values():
            if option.default not in (REQUIRED, UNKNOWN, None):
                TypeAdapter(option.annotation).validate_python(option.default)


SOURCE = '''
from typing import Callable, List, Literal, Optional, Tuple, Union


class Plain:
    """What it is.

    More of it.
    """

    def __init__(
        self, params, a: int, b: float = 1e-3, c: bool = False, d: str | None = None,
        e: "float | Tensor" = 1, f: Tuple[float, float] = (0.1, 0.2), *,
        g: Optional[int] = None, h: Union[int, float] = -1, i: List[int] = [1],
        j: Literal["x", "y"] = "x", k: Callable = print, m: Tuple[int, ...] = (),
    ): ...


class Inherits(Plain):
    """Takes what its base takes"""


class Open:
    def __init__(self, a=1, **more):
        self.more = more


class Deaf:
    def __init__(self, a=1, **ignored): ...


class Bare: ...


def build(shape, *, width: int = 3) -> None: ...
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that cannot be imported, so that only its source can be read."""
    package = tmp_path / "signature_samples"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('it must not be imported')")
    (package / "samples.py").write_text(f"raise ImportError\n{SOURCE}")
    monkeypatch.syspath_prepend(tmp_path)
    return "signature_samples.samples"


def accepts(annotation: Any, value: Any) -> bool:
    try:
        TypeAdapter(annotation, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError:
        return False
    return True


def test_a_class_is_read_without_importing_it(module: str) -> None:
    read = read_signature(f"{module}:Plain")
    assert read.summary == "What it is"
    assert not read.open
    assert list(read.options) == ["params", *"abcdefghijkm"]
    defaults = {name: option.default for name, option in read.options.items()}
    assert (defaults["params"], defaults["a"], defaults["k"]) == (REQUIRED, REQUIRED, UNKNOWN)
    assert (defaults["b"], defaults["f"], defaults["h"]) == (1e-3, (0.1, 0.2), -1)


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        ("params", [object()], []),
        ("a", [3], [3.5, "3", True, None]),
        ("b", [3, 0.5], ["3", True, None]),
        ("c", [True], [1, "true"]),
        ("d", [None, "x"], [3]),
        ("e", [1, 0.5], ["x", None]),
        ("f", [[0.1, 0.2], (1, 2)], [[0.1], [1, 2, 3], 0.1, ["x", 1]]),
        ("g", [None, 3], ["3", 3.5]),
        ("h", [3, 3.5], ["3"]),
        ("i", [[1, 2], []], [["x"], 1]),
        ("j", ["x"], ["z", None]),
        ("k", ["anything"], []),
        ("m", [[], [1, 2, 3]], [["x"], [1.5]]),
    ],
)
def test_annotations_become_types(
    module: str, option: str, good: list[Any], bad: list[Any]
) -> None:
    annotation = read_signature(f"{module}:Plain").options[option].annotation
    assert [value for value in good if not accepts(annotation, value)] == []
    assert [value for value in bad if accepts(annotation, value)] == []


def test_a_class_without_a_constructor_takes_what_its_base_takes(module: str) -> None:
    inherited = read_signature(f"{module}:Inherits")
    assert inherited.options == read_signature(f"{module}:Plain").options
    assert inherited.summary == "Takes what its base takes"


def test_only_what_may_take_any_keyword_is_open(module: str) -> None:
    assert read_signature(f"{module}:Open").open
    assert read_signature(f"{module}:Open").summary == ""
    assert not read_signature(f"{module}:Deaf").open
    assert not read_signature(f"{module}:Bare").open


def test_a_function_is_read_like_a_class(module: str) -> None:
    assert list(read_signature(f"{module}:build").options) == ["shape", "width"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("signature_samples.samples:Nobody", "does not define Nobody"),
        ("signature_samples.nowhere:Plain", "no source file of signature_samples.nowhere"),
        ("no_such_package_here.samples:Plain", "no_such_package_here is not installed"),
    ],
)
def test_what_is_not_there_is_named(module: str, target: str, words: str) -> None:
    with pytest.raises(LookupError, match=words):
        read_signature(target)


OTHERS = ["schedulefree", "heavyball", "timm.optim", "prodigyopt", "pytorch_optimizer"]


@pytest.mark.slow
@pytest.mark.parametrize("package", OTHERS)
def test_optimizers_of_others_are_read_as_they_are(package: str) -> None:
    """Those that are installed: names, defaults and bases, and which of them take any keyword."""
    module = pytest.importorskip(package)
    from torch.optim import Optimizer

    classes = {
        name: each
        for name, each in vars(module).items()
        if inspect.isclass(each) and issubclass(each, Optimizer)
    }
    assert classes
    for name, each in classes.items():
        read = read_signature(f"{package}:{name}")
        real = inspect.signature(each).parameters.values()
        named = [one for one in real if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        assert list(read.options)[: len(named)] == [one.name for one in named], name
        for one in named:
            default = read.options[one.name].default
            if one.default is inspect.Parameter.empty:
                assert default is REQUIRED, name
            elif default is not UNKNOWN:
                assert default == one.default and type(default) is type(one.default), name
        assert not read.open or len(named) < len(real), name
        bases = [f"{base.__module__}.{base.__qualname__}" for base in each.__mro__[1:-1]]
        assert list(read.bases) == [base for base in bases if base not in ("abc.ABC",)], name
