"""Parts that an installed package offers, read from its source."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from deltagclip_cli.core import UsageError
from deltagclip_cli.source.offered import Offer, offered

FILES = {
    "__init__.py": """
        raise SystemExit("nobody may import this")
        from torch.optim import SGD
        from madeoptim.inner import Plain, Wrapping, BaseStep, helper
        from madeoptim.inner import make, Plain as Known
        __version__ = "1"
    """,
    "inner.py": '''
        import torch
        from torch.optim import Optimizer

        class BaseStep(Optimizer):
            """The base of those here."""

            def __init__(self, params, lr):
                super().__init__(params, {"lr": lr})

        class Plain(BaseStep):
            """Steps plainly.

            More is not shown.
            """

            def __init__(self, params, lr, betas=(0.9, 0.99), power=2 ** 0.5, kind=None):
                super().__init__(params, lr)

            def step(self, closure=None):
                return None

        class Wrapping(Optimizer):
            def __init__(self, optimizer: Optimizer, k: int = 5):
                self.optimizer = optimizer

            def step(self, closure=None):
                return None

        def make(params, lr: float = 0.1) -> Plain:
            return Plain(params, lr)

        def helper(params):
            return params
    ''',
    "later/__init__.py": "from madeoptim.later.deep import Late\n",
    "later/deep.py": "from torch.optim import SGD\nclass Late(SGD):\n    'Comes late.'\n",
    "empty/__init__.py": "",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package that is installed, as far as can be told without importing it."""
    for name, text in FILES.items():
        path = tmp_path / "madeoptim" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    yield "madeoptim"
    assert "madeoptim" not in sys.modules


def named(package: str, kind: str = "optimizer") -> dict[str, Offer]:
    return {each.name: each for each in offered(package, kind)}


def test_what_a_package_names_itself_is_offered_by_its_short_name(package: str) -> None:
    assert [*named(package)] == [
        f"madeoptim:{name}" for name in ("BaseStep", "Known", "make", "Plain", "SGD", "Wrapping")
    ]
    assert named(package)["madeoptim:Plain"].signature.summary == "Steps plainly"


def test_what_trains_by_itself_is_told_apart(package: str) -> None:
    roles = {name.partition(":")[2]: each.role for name, each in named(package).items()}
    assert roles == {
        "BaseStep": "base class",
        "Known": "alias of madeoptim:Plain",
        "make": "function",
        "Plain": "",
        "SGD": "alias of torch.optim.sgd:SGD",
        "Wrapping": "wraps an optimizer",
    }
    assert named(package)["madeoptim:Wrapping"].signature.holder == "optimizer"


def test_options_come_with_defaults_that_the_source_says(package: str) -> None:
    plain = named(package)["madeoptim:Plain"].options(1, {"model"})
    assert plain == {
        "options": ["lr", "betas", "power", "kind"],
        "needed": ["lr"],
        "defaults": {"betas": [0.9, 0.99], "kind": None},
    }
    wrapping = named(package)["madeoptim:Wrapping"].options(1, {"model"})
    assert wrapping["needed"] == ["optimizer"], "it is no list of parameters"


def test_a_module_below_it_can_be_asked_for(package: str) -> None:
    assert [*named("madeoptim.later")] == ["madeoptim.later:Late"]


def test_modules_are_looked_into_only_where_the_package_itself_names_nothing(
    package: str, tmp_path: Path
) -> None:
    (tmp_path / "madeoptim" / "__init__.py").write_text("")
    assert [*named(package)] == [
        f"madeoptim.{place}"
        for place in ("inner:BaseStep", "later:Late", "inner:make", "inner:Plain", "inner:Wrapping")
    ]


def test_other_kinds_are_looked_for_as_well(package: str) -> None:
    assert offered(package, "schedule") == []
    assert "torch.optim.lr_scheduler:StepLR" in named("torch.optim.lr_scheduler", "schedule")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("madeoptin", "the package madeoptin is not installed.\n.*did you mean 'madeoptim'"),
        ("madeoptim.laterr", "no source file of madeoptim.laterr.\n.*did you mean 'later'"),
        ("lion_pytorch", "the package lion_pytorch is not installed.\n  pip install lion-pytorch$"),
        ("made-optim", "is not what Python imports.*\n  Write made_optim"),
        ("../made", "is not what Python imports.*\n  Write NAME or NAME.MODULE"),
    ],
)
def test_a_package_that_is_not_there_is_refused_with_what_to_do(
    name: str, said: str, package: str
) -> None:
    with pytest.raises(UsageError, match=said):
        offered(name, "optimizer")
