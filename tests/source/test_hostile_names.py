"""A spec alone runs nothing but parts: whatever else it names is refused, and never imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deltagclip_cli.source.reference import (
    ReferenceRefusedError,
    check_reference,
    parse_reference,
)

KINDS = ["model", "data set", "task", "loss", "metric", "optimizer", "schedule"]

# Ways around the lists of forbidden names of other programs among them.
HOSTILE = """
os:system
os:popen
os:execv
os:remove
posix:system
nt:system
builtins:exec
builtins:eval
builtins:__import__
builtins:open
subprocess:Popen
subprocess:run
subprocess:check_output
logging:os
logging:os.system
logging:config
logging.config:dictConfig
logging.handlers:SocketHandler
pathlib:Path
pathlib:Path.write_text
timeit:timeit
timeit:main
pdb:run
pdb:Pdb
bdb:Bdb
code:interact
code:InteractiveConsole
codeop:compile_command
pty:spawn
runpy:run_path
runpy:run_module
shutil:rmtree
shutil:move
functools:partial
functools:reduce
importlib:import_module
importlib.util:find_spec
imp:load_source
types:FunctionType
operator:methodcaller
operator:attrgetter
ctypes:CDLL
multiprocessing:Process
multiprocessing.pool:Pool
concurrent.futures:ThreadPoolExecutor
threading:Thread
asyncio:create_subprocess_shell
socket:create_connection
urllib.request:urlretrieve
http.server:test
webbrowser:open
antigravity:geohash
this:s
pickle:load
pickle:loads
_pickle:loads
marshal:loads
shelve:open
dbm:open
sqlite3:connect
tempfile:mkdtemp
zipfile:main
ensurepip:bootstrap
venv:create
pydoc:pipepager
doctest:testfile
cProfile:run
profile:run
trace:main
unittest:main
distutils.spawn:spawn
__main__:main
pip:main
pip._internal:main
pip._internal.cli.main:main
pip._vendor.distlib.util:get_executable
setuptools:setup
setuptools._distutils.spawn:spawn
setuptools.archive_util:unpack_archive
pkg_resources:run_script
numpy:load
numpy:memmap
numpy:fromfile
numpy.f2py:compile
numpy.f2py:run_main
numpy.lib.format:open_memmap
numpy.testing:rundocs
numpy.testing._private.utils:runstring
scipy.io:loadmat
joblib:load
joblib:dump
joblib:Parallel
yaml:load
yaml:unsafe_load
yaml:UnsafeLoader
torch:load
torch:save
torch:compile
torch:ops
torch:os
torch:sys.modules
torch.serialization:load
torch.serialization:os
torch.hub:load
torch.hub:load_state_dict_from_url
torch.hub:download_url_to_file
torch.jit:load
torch.package:PackageImporter
torch.utils.cpp_extension:load
torch.utils.cpp_extension:load_inline
torch.utils.collect_env:run
torch.utils.collect_env:get_pretty_env_info
torch.utils.bundled_inputs:augment_model_with_bundled_inputs
torch.utils.model_zoo:load_url
torch.utils.data:DataLoader
torch.distributed.run:main
torch.distributed.launch:main
torch.distributed.elastic.multiprocessing:start_processes
torch.multiprocessing:spawn
torch.multiprocessing.spawn:start_processes
torch._inductor.codecache:write
torch._inductor.cpp_builder:run_compile_cmd
torch._inductor.utils:run_and_get_code
torch._dynamo.debug_utils:run_fwd_maybe_bwd
torch._appdirs:user_data_dir
torch.testing._internal.common_utils:run_tests
torch.nn.functional:os
torch.nn.functional:warnings
torch.nn.functional:handle_torch_function
torch.nn.functional:importlib
torchvision.io:write_file
torchvision.io:write_png
torchvision.datasets.utils:download_url
torchvision.datasets.utils:download_and_extract_archive
torchvision.datasets.utils:extract_archive
torchvision.datasets.imagenet:parse_train_archive
torchvision.datasets.folder:default_loader
deltagclip_cli.commands.app:main
deltagclip_cli.source.loading:load_own
deltagclip_cli.core:load_target
deltagclip_cli.core.files:write_text
nowhere.to.be.found:thing
:
:name
torch:
 os:system
os: system
os :system
os:system()
os.system:__call__
__import__('os'):system
eval("1"):x
torch.nn:Module.load_state_dict
torch.optim:Adam.__init__.__globals__
../../etc/passwd:root
/bin/sh:c
/usr/lib/python3/dist-packages/apt_pkg.py:main
.venv/lib/python3.11/site-packages/pip/__main__.py:main
huggingface_hub.utils._subprocess:run_subprocess
sklearn.datasets._base:fetch_file
transformers.testing_utils:run_command
transformers.trainer_utils:load_sharded_checkpoint
timm.models:load_checkpoint
timm.models:load_pretrained
datasets:load_dataset
"""

NAMES = [line for line in HOSTILE.splitlines() if line]


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_is_refused_in_every_place(tmp_path: Path, name: str) -> None:
    reference = parse_reference(name)
    assert reference is not None
    for kind in KINDS:
        with pytest.raises(ReferenceRefusedError) as refusal:
            check_reference(reference, tmp_path, kind)
        assert refusal.value.message.endswith(".") and refusal.value.hint


# A file that the user has, and what a spec by somebody else must not make of it.
BESIDE = """
import os, shutil
from os import system
from os.path import join as part
from subprocess import *
import subprocess as sub
remove = os.remove
call = sub.call
tidy = shutil.rmtree
COMMAND = "rm -r /"
COMMANDS = ["rm", "-r", "/"]
"""


@pytest.mark.parametrize(
    "name", ["os", "shutil", "system", "part", "sub", "run", "Popen", "remove", "call", "tidy"]
)
def test_what_a_file_only_imports_is_no_part_of_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "net.py").write_text(BESIDE)
    reference = parse_reference(f"net.py:{name}")
    assert reference is not None
    with pytest.raises(ReferenceRefusedError):
        check_reference(reference, tmp_path, "model")


@pytest.mark.parametrize("name", ["COMMAND", "COMMANDS", "__name__", "net"])
def test_what_is_no_class_and_no_function_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "net.py").write_text(BESIDE)
    reference = parse_reference(f"net.py:{name}")
    assert reference is not None
    with pytest.raises(ReferenceRefusedError):
        check_reference(reference, tmp_path, "model")


def test_no_refusal_imports_anything(tmp_path: Path) -> None:
    code = f"""
import json, sys
from pathlib import Path
from deltagclip_cli.source.reference import *

known = set(sys.modules)
for name in json.loads({json.dumps(json.dumps(NAMES))}):
    for kind in {KINDS}:
        try:
            check_reference(parse_reference(name), Path({str(tmp_path)!r}), kind)
        except ReferenceRefusedError:
            continue
        raise SystemExit(name)
print(*{{each.partition(".")[0] for each in set(sys.modules) - known}})
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    others = set(found.stdout.split()) - sys.stdlib_module_names - {"pydantic", "deltagclip_cli"}
    assert others == set()
