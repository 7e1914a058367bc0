"""The table of optimizers in the docs is what was measured."""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from deltagclip_cli.core import SpecError
from deltagclip_cli.spec.load import load_spec

ROOT = Path(__file__).parents[2]


def script() -> ModuleType:
    spec = spec_from_file_location("optimizer_names", ROOT / "scripts" / "optimizer_names.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_optimizers_is_what_the_script_has_stored() -> None:
    made = script()
    page = made.PAGE.read_text()
    assert made.with_table(page, json.loads(made.STORED.read_text())) == page


def test_every_name_that_does_not_train_or_go_on_has_a_reason() -> None:
    made = script()
    for name, entry in json.loads(made.STORED.read_text())["names"].items():
        well = entry["trains"] and entry["resumes"]
        assert well or len(made.why(name, entry)) > 10, name


def test_the_league_lacks_nothing_but_packages() -> None:
    try:
        load_spec(ROOT / "docs" / "guides" / "league.yaml")
    except SpecError as error:
        for fault in str(error).split("\n\n"):
            assert "is not installed.\n  pip install " in fault
