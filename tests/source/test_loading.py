"""Parts of one's own, as loading.py imports and calls them."""

from __future__ import annotations

import functools
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deltagclip_cli.core import UsageError
from deltagclip_cli.source.collecting import collect
from deltagclip_cli.source.loading import call, load_own, user_frame
from deltagclip_cli.source.snapshot import keep

Write = Callable[..., Path]


def test_a_file_is_imported_under_a_private_name(write: Write) -> None:
    root = write(net="value = 1")
    assert load_own(root, "net.py", "value") == 1
    assert "net" not in sys.modules and str(root) not in sys.path


def test_local_imports_come_from_the_folder_of_the_spec_however_they_are_written(
    write: Write,
) -> None:
    root = write(
        net="""
            import helper, layers.conv
            import layers.dense as dense
            from helper import value as first
            from layers import conv, dense as second
            from layers.conv import *
            from . import helper as third
            from .layers.dense import width
            values = [helper.value, layers.conv.depth, dense.width, first, conv.depth,
                      second.width, depth, third.value, width]
        """,
        helper="value = 1",
        **{
            "layers/__init__": "",
            "layers/conv": "depth = 2",
            "layers/dense": "from .conv import depth\nfrom layers import conv\nwidth = depth + 2",
        },
    )
    assert load_own(root, "net.py", "values") == [1, 2, 4, 1, 2, 4, 2, 1, 4]


def test_imports_in_functions_are_local_too(write: Write) -> None:
    root = write(
        net="""
            def value():
                from helper import value
                return value
        """,
        helper="value = 1",
    )
    value = load_own(root, "net.py", "value")
    assert value() == 1


def test_a_file_is_one_module_however_it_is_imported(write: Write) -> None:
    net = """
        import layers
        from . import layers as second
        from models import layers as third
        same = layers is second is third
    """
    root = write(**{"models/net": net, "models/layers": ""})
    assert load_own(root, "models/net.py", "same")


def test_an_import_looks_beside_its_file_and_then_in_the_folders_above(write: Write) -> None:
    root = write(
        helper="value = 'above'",
        shared="import helper\nvalue = helper.value",
        **{
            "models/net": "import helper, shared\nvalues = helper.value, shared.value",
            "models/helper": "value = 'beside'",
        },
    )
    assert load_own(root, "models/net.py", "values") == ("beside", "above")


def test_two_folders_may_have_files_of_one_name(write: Write) -> None:
    first = write("first", net="from helper import value", helper="value = 1")
    second = write("second", net="from helper import value", helper="value = 2")
    assert [load_own(root, "net.py", "value") for root in (first, second)] == [1, 2]
    above = write(".")
    assert load_own(above, "first/net.py", "value") == 1
    assert load_own(above, "second/net.py", "value") == 2


def test_files_that_import_each_other_are_imported_once(write: Write) -> None:
    root = write(
        net="import helper\nvalue = 1\ndef total():\n    return helper.twice()",
        helper="import net\ndef twice():\n    return 2 * net.value",
    )
    assert load_own(root, "net.py", "total")() == 2


def test_the_modules_of_others_are_the_ones_that_everybody_has(write: Write) -> None:
    root = write(net="import random\nimport torch.nn as nn\nfrom collections import OrderedDict")
    assert load_own(root, "net.py", "random") is random
    assert load_own(root, "net.py", "nn") is torch.nn


def test_a_file_breaks_no_import_of_others_by_its_name(write: Write) -> None:
    root = write(
        net="import torch\nimport random\nvalues = torch.value, random.random() < 1",
        torch="value = 'local'",
        random="raise RuntimeError('not this one')",
    )
    assert load_own(root, "net.py", "values") == ("local", True)
    assert sys.modules["torch"] is torch


def test_a_file_that_imports_its_own_name_means_what_is_installed(write: Write) -> None:
    root = write(torch="from torch import nn", net="import torch\nnn = torch.nn")
    assert load_own(root, "torch.py", "nn") is torch.nn
    assert load_own(root, "net.py", "nn") is torch.nn


def test_a_folder_without_an_init_file_is_a_package_unless_one_is_installed(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(
        net="from layers.conv import depth\nfrom torch import nn",
        **{
            "layers/conv": "depth = 2",
            "torch/nn": "raise RuntimeError('a folder of data, not a package')",
        },
    )
    monkeypatch.syspath_prepend(root)  # as if Python was started there
    assert load_own(root, "net.py", "depth") == 2 and "layers" not in sys.modules
    assert load_own(root, "net.py", "nn") is torch.nn


def test_a_file_in_a_package_is_a_module_of_it(write: Write) -> None:
    files = {
        "models/__init__": "base = object()",
        "models/net": "from . import base\nimport helper\nvalues = base, helper.value",
        "models/helper": "value = 2",
    }
    root = write(**files)
    base = load_own(root, "models/__init__.py", "base")
    assert load_own(root, "models/net.py", "values") == (base, 2)


def test_a_file_beside_the_folder_of_the_spec_is_no_module_of_it(write: Write) -> None:
    write(spec="raise RuntimeError('not this one')")
    assert load_own(write("spec", net="from . import net\nvalue = 1"), "net.py", "value") == 1


def test_the_folder_of_the_spec_may_be_a_package(write: Write) -> None:
    root = write("spec", __init__="base = 1", net="from . import base")
    assert load_own(root, "net.py", "base") == 1


def test_file_names_need_not_be_names_of_modules(write: Write) -> None:
    root = write("runs of 3.5", **{"net-2.1": "import helper\nvalue = helper.value"})
    write("runs of 3.5", helper="value = 1")
    assert load_own(root, "net-2.1.py", "value") == 1
    assert load_own(root.parent, "runs of 3.5/net-2.1.py", "value") == 1


def test_the_encoding_of_a_file_is_what_its_first_lines_say(tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\r\nvalue = '\xfc'\r\n")
    (tmp_path / "marked.py").write_bytes(b"\xef\xbb\xbfvalue = '\xc3\xbc'\n")
    assert load_own(tmp_path, "latin.py", "value") == "ü"
    assert load_own(tmp_path, "marked.py", "value") == "ü"


def test_nothing_is_written_beside_the_files(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    root = write(net="value = 1")
    load_own(root, "net.py", "value")
    assert [each.name for each in root.iterdir()] == ["net.py"]


def test_an_error_of_an_import_is_passed_on_as_it_is(write: Write) -> None:
    root = write(
        net="import helper",
        helper="import no_such_package",
        parts="from helper2 import absent",
        helper2="",
        third="import helper2.missing",
        fourth="1 / 0",
    )
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'no_such_package'$") as error:
        load_own(root, "net.py", "Net")
    assert user_frame(error.value, root).splitlines() == [
        "net.py:1: in <module>: import helper",
        "helper.py:1: in <module>: import no_such_package",
    ]
    with pytest.raises(ImportError, match=r"^cannot import name 'absent' from 'helper2'"):
        load_own(root, "parts.py", "Net")
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'helper2.missing'"):
        load_own(root, "third.py", "Net")
    with pytest.raises(ZeroDivisionError):
        load_own(root, "fourth.py", "Net")


def test_a_file_that_failed_is_run_again(write: Write) -> None:
    root = write(net="import helper\nvalue = 1", helper="1 / 0")
    with pytest.raises(ZeroDivisionError):
        load_own(root, "net.py", "value")
    write(helper="")
    assert load_own(root, "net.py", "value") == 1


def test_a_missing_file_or_name_is_said(write: Write) -> None:
    root = write(net="class Net: ...", double="")
    with pytest.raises(UsageError, match=r"gone\.py: there is no such file"):
        load_own(root, "gone.py", "Net")
    with pytest.raises(UsageError, match=r"has no 'Nett' once it is imported - did you mean 'Net'"):
        load_own(root, "net.py", "Nett")
    write(**{"double/__init__": ""})
    with pytest.raises(UsageError, match=r"double\.py: a package of the same name lies beside it"):
        load_own(root, "double.py", "Net")


NET = """
    import torch
    from layers import scale

    class Net(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.layer = torch.nn.Linear(width, 1)

        def forward(self, x):
            from layers import shift
            return scale(self.layer(x)) + shift(x)
"""
LAYERS = """
    def scale(x):
        return 2 * x

    def shift(x):
        return x.sum(1, keepdim=True)
"""


@pytest.mark.filterwarnings("ignore")
def test_a_model_can_be_compiled_and_pickled(write: Write) -> None:
    root = write(**{"net-1.0": NET}, layers=LAYERS)
    net = load_own(root, "net-1.0.py", "Net")(3)
    inputs = torch.randn(2, 3)
    compiled = torch.compile(net, backend="eager")
    torch.testing.assert_close(compiled(inputs), net(inputs))
    again = pickle.loads(pickle.dumps(net))
    assert type(again) is type(net)
    torch.testing.assert_close(again(inputs), net(inputs))


def test_the_lines_of_an_error_are_those_in_ones_own_files(write: Write) -> None:
    root = write(
        net="""
            import torch
            from layers import scale

            def forward(x):
                return scale(x)
        """,
        layers="def scale(x):\n    return x @ x  # wrong\n",
        torn="def f(:\n",
    )
    with pytest.raises(RuntimeError) as error:
        load_own(root, "net.py", "forward")(torch.ones(2, 3))
    assert user_frame(error.value, root).splitlines() == [
        "net.py:6: in forward: return scale(x)",
        "layers.py:2: in scale: return x @ x  # wrong",
    ]
    other = RuntimeError("wrapped")
    other.__cause__ = error.value
    assert user_frame(other, root).endswith("return x @ x  # wrong")
    with pytest.raises(SyntaxError) as torn:
        load_own(root, "torn.py", "f")
    assert user_frame(torn.value, root) == "torn.py:1: def f(:"
    assert user_frame(ValueError(), root) == ""


def test_lines_of_what_lies_installed_in_the_folder_are_not_ones_own(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(
        net="from third import wrong\nwrong()",
        **{"venv/third": "def wrong():\n    1 / 0"},
    )
    monkeypatch.syspath_prepend(root / "venv")
    with pytest.raises(ZeroDivisionError) as error:
        load_own(root, "net.py", "x")
    assert user_frame(error.value, root) == "net.py:2: in <module>: wrong()"


def test_a_copy_finds_the_data_beside_the_file_that_it_was_kept_from(
    write: Write, tmp_path: Path
) -> None:
    tables = """
        from pathlib import Path
        def data():
            return Path(__file__).with_suffix(".txt").read_text()
    """
    root = write("spec", **{"parts/tables": tables})
    (root / "parts" / "tables.txt").write_text("1,2")
    copy = keep(collect(["parts/tables.py:data"], root), tmp_path / "store")
    assert load_own(copy, "parts/tables.py", "data")() == "1,2"


def test_a_file_outside_the_folder_of_the_spec_has_a_whole_path(
    write: Write, tmp_path: Path
) -> None:
    net = "from . import base\nimport helper\nplace = __file__\ndef wrong(): base / 0"
    elsewhere = write("elsewhere", helper="", **{"pack/__init__": "base = 1", "pack/net": net})
    file = str(elsewhere / "pack" / "net.py")
    copy = keep(collect([f"{file}:place"], write("spec")), tmp_path / "store")
    for root in (copy, tmp_path / "spec"):
        assert load_own(root, file, "place") == file
        with pytest.raises(ZeroDivisionError) as error:
            load_own(root, file, "wrong")()
        assert user_frame(error.value, root) == f"{file}:4: in wrong: def wrong(): base / 0"
    shutil.rmtree(elsewhere)
    copied = load_own(copy, file, "wrong")
    assert copied.__code__.co_filename.startswith(str(copy))


def test_a_part_gets_its_options_and_the_supplied_arguments_that_it_names() -> None:
    def model(width: int, shape: Any = None, *, classes: int = 0, **others: Any) -> Any:
        return width, shape, classes, others

    supplied = {"shape": (3,), "classes": 10, "channels": 1}
    assert call(model, supplied=supplied, options={"width": 2}) == (2, (3,), 10, {})
    assert call(model, supplied=supplied, options={"width": 2, "classes": 5})[2] == 5
    options = {"width": 1, "deep": {"a": ["$classes", "$$x"]}, "extra": {"b": "$shape", "width": 9}}
    assert call(model, supplied=supplied, options=options) == (
        *(1, (3,), 10),
        {"deep": {"a": [10, "$x"]}, "b": (3,)},
    )
    assert options["extra"] == {"b": "$shape", "width": 9}


def test_a_part_gets_nothing_twice() -> None:
    def optimizer(params: Any, model: Any = None, extra: Any = None) -> Any:
        return params, model, extra

    supplied = {"params": "supplied", "model": "net"}
    assert call(optimizer, "first", supplied=supplied, options={}) == ("first", "net", None)
    options = {"extra": {"a": 1}}
    assert call(optimizer, "first", supplied=supplied, options=options)[2] == {"a": 1}
    bound = functools.partial(optimizer, model="bound")
    assert call(bound, "first", supplied=supplied, options={})[1] == "bound"


def test_a_class_and_a_function_in_c_can_be_called() -> None:
    linear = call(
        torch.nn.Linear, supplied={"bias": False}, options={"in_features": 2, "out_features": 1}
    )
    assert linear.bias is None
    assert call(dict, supplied={"shape": 1}, options={"a": 1}) == {"a": 1}


def test_a_dollar_name_that_nothing_supplies_is_refused() -> None:
    with pytest.raises(UsageError, match=r"\$clases stands for nothing.*There is: \$classes\."):
        call(dict, supplied={"classes": 1}, options={"a": "$clases"})


def test_importing_the_loader_imports_no_torch() -> None:
    code = "import sys, deltagclip_cli.source.loading; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
