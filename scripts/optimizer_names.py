"""Every optimizer that six packages name: does it train, and go on to the same bits?

    python scripts/optimizer_names.py [PACKAGE...] [--data DIR] [--only NAME...] [--jobs 2]

Each name trains ``mnist-mlp`` for twenty steps, by ``package:Class`` and with the options that it
has by itself but for those of ``OPTIONS``; once whole, once stopped after ten steps and continued,
each in a process of its own. Both must leave the same weights, state and metrics, bit for bit.
Without MNIST in the data folder, images of the same size are made up. What comes of it is kept in
``optimizer_names.json`` beside this file, and ``docs/guides/optimizers.md`` gets the table of it;
``--table`` only writes the table.

heavyball is told not to compile (``heavyball.utils.compile_mode = None``), as its compiler takes
minutes for each class on a CPU. Its steps are the same.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deltagclip_cli.source.offered import Offer, offered

HERE = Path(__file__).parent
STORED = HERE / "optimizer_names.json"
PAGE = HERE.parent / "docs" / "guides" / "optimizers.md"
BEGIN, END = "<!-- table of names: scripts/optimizer_names.py -->", "<!-- end of the table -->"
PACKAGES = {
    "torch.optim": "torch",
    "schedulefree": "schedulefree",
    "timm.optim": "timm",
    "prodigyopt": "prodigyopt",
    "heavyball": "heavyball",
    "pytorch_optimizer": "pytorch-optimizer",
}
STEPS = 20
SECONDS = 120  # of each of the three processes of a name
INNER = {"name": "sgd", "lr": 0.1}  # of an optimizer that wraps another

# What has no default and must be given, or has one that is not meant for this network.
MUON = {  # which matrices Muon steps is said by the groups
    "groups": {
        "matrices": {"match": "*.weight", "extra": {"use_muon": True}},
        "others": {"match": "*.bias", "extra": {"use_muon": False}},
    }
}
OPTIONS: dict[str, dict[str, Any]] = {
    "torch.optim:LBFGS": {"lr": 0.1},
    "timm.optim:SGDP": {"lr": 0.1},
    "heavyball:ADOPT": {"eps": 1e-3},
    "heavyball:SAMWrapper": {"wrapped_optimizer": {"name": "heavyball:SFAdamW"}},
    "pytorch_optimizer:AdaGO": MUON,
    "pytorch_optimizer:AdaMuon": MUON,
    "pytorch_optimizer:BSAM": {"num_data": 100 * STEPS},
    "pytorch_optimizer:DistributedMuon": MUON,
    "pytorch_optimizer:LBFGS": {"lr": 0.1, "max_iter": 4},
    "pytorch_optimizer:Muon": MUON,
    "pytorch_optimizer:MuonClip": MUON,
    "pytorch_optimizer:NorMuon": MUON,
    "pytorch_optimizer:Ranger21": {"num_iterations": "$steps"},
    "pytorch_optimizer:create_optimizer": {"optimizer_name": "adamw", "use_lookahead": False},
}

# Of what others say in words that only their source explains.
WORDS = {
    "torch.optim:SparseAdam": "takes sparse gradients only, which no model here has",
    "timm.optim:create_optimizer": "takes the words of a command line, not options",
    "heavyball:SplitOpt": "takes groups with classes in them, which YAML cannot write",
    "pytorch_optimizer:AdaLOMO": "steps within `backward()`: it has no `step`",
    "pytorch_optimizer:CPUOffloadOptimizer": "needs a GPU",
    "pytorch_optimizer:GSAM": "takes the object of a schedule, which YAML cannot write",
    "pytorch_optimizer:DeMo": "needs several processes",
    "pytorch_optimizer:DistributedMuon": "needs several processes",
    "pytorch_optimizer:SafeFP16Optimizer": (
        "scales the loss in a `backward` of its own, and has no `param_groups`"
    ),
    "pytorch_optimizer:LOMO": "steps within `backward()`: it has no `step`",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("packages", nargs="*", default=list(PACKAGES), metavar="PACKAGE")
    parser.add_argument("--data", type=Path, default=Path("~/.cache/deltagclip/data").expanduser())
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args()
    stored = json.loads(STORED.read_text()) if STORED.exists() else {"names": {}}
    if not options.table:
        for package in options.packages:
            stored["names"] |= outcomes(package, options.only, options.data, options.jobs)
            STORED.write_text(json.dumps(stored | versions(), indent=1, sort_keys=True) + "\n")
    PAGE.write_text(with_table(PAGE.read_text(), json.loads(STORED.read_text())))


def versions() -> dict[str, Any]:
    """What the names were tried with."""
    return {
        "versions": {name: version(name) for name in PACKAGES.values()},
        "python": platform.python_version(),
    }


def with_table(page: str, stored: Mapping[str, Any]) -> str:
    """The page with the table of what is stored between its marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{table(stored)}{END}{rest.split(END)[1]}"


def table(stored: Mapping[str, Any]) -> str:
    """All names in Markdown, with how many of them train and go on."""
    names = stored["names"]
    tried = {name: each for name, each in names.items() if each["role"] != "base class"}
    well = sum(each["trains"] and each["resumes"] for each in tried.values())
    packages = ", ".join(f"{name} {number}" for name, number in stored["versions"].items())
    lines = [
        "",
        f"{well} of {len(tried)} names train and go on to the same bits ({well / len(tried):.1%}); "
        f"{len(names) - len(tried)} more are base classes. With {packages} under Python "
        f"{stored['python']}, on a CPU.",
        "",
        "| name | trains | resumes | options that it was given | why not |",
        "|---|---|---|---|---|",
    ]
    for name in sorted(names, key=lambda each: ([*PACKAGES].index(each.partition(":")[0]), each)):
        entry = names[name]
        marks = ["yes" if entry[key] else "no" for key in ("trains", "resumes")]
        given = json.dumps(entry["options"]).replace('"', "")
        cells = [f"`{name}`", *marks, f"`{given}`" if entry["options"] else "", why(name, entry)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", ""])


def why(name: str, entry: Mapping[str, Any]) -> str:
    """Why a name does not train, or does not go on, in a few words."""
    if entry["trains"] and entry["resumes"]:
        return ""
    if entry["role"] == "base class":
        return "a base class"
    said = re.sub(r"^(\S+: )?the trial failed: |^optimizer '[^']+' ", "", entry["reason"])
    said = WORDS.get(name) or said.partition("\n")[0]
    return said.replace("|", "\\|").strip().rstrip(".")


def outcomes(package: str, only: Sequence[str], data: Path, jobs: int) -> dict[str, dict[str, Any]]:
    """What each name of a package comes to."""
    offers = [each for each in offered(package, "optimizer") if not only or each.name in only]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        prepare(package)
        tried = [
            pool.submit(outcome, each, Path(folder) / str(n), data) for n, each in enumerate(offers)
        ]
        found = {}
        for offer, each in zip(offers, tried, strict=True):
            found[offer.name] = each.result()
            print(offer.name, json.dumps(found[offer.name]), flush=True)
        return found


def prepare(package: str) -> None:
    """Import what each of the processes needs, once."""
    import torch

    import deltagclip_cli.training.worker  # noqa: F401
    from deltagclip_cli.training.exactness import choose_kernels

    torch.set_num_threads(1)
    choose_kernels("exact", "fp32", torch.device("cpu"))  # which loads the compiler
    module = import_module(package)
    if package == "heavyball":
        module.utils.compile_mode = None


def outcome(offer: Offer, folder: Path, data: Path) -> dict[str, Any]:
    """Train one name whole, in two pieces, and compare."""
    options = options_of(offer)
    entry: dict[str, Any] = {"role": offer.role, "options": options, "trains": False}
    began = time.monotonic()
    for runs, stop in (("whole", False), ("pieces", True), ("pieces", False)):
        said = in_a_process(train, offer.name, options, folder / runs, stop, data)
        if said != ("stopped" if stop else "finished"):
            return entry | {"resumes": False, "reason": said}
        entry["trains"] = True
    entry["seconds"] = round(time.monotonic() - began, 1)
    differs = in_a_process(compared, folder)
    return entry | {"resumes": not differs} | ({"reason": differs} if differs else {})


def options_of(offer: Offer) -> dict[str, Any]:
    """What has to be given besides the name."""
    holder = offer.signature.holder
    inner = {} if holder is None else {holder: INNER}
    return {**inner, **OPTIONS.get(offer.name, {})}


def in_a_process(work: Callable[..., str], *arguments: Any) -> str:
    """What a function returns, or what it ends with, in a process that is forked for it."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run() -> None:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            try:
                sender.send(work(*arguments))
            except BaseException as error:
                sender.send(f"{error}" or type(error).__name__)

    process = context.Process(target=run)
    process.start()
    sender.close()
    try:
        if not receiver.poll(SECONDS):
            return f"took more than {SECONDS} seconds"
        said: str = receiver.recv()
        return said
    except EOFError:
        return "ended the process"
    finally:
        process.kill()
        process.join()


def train(name: str, options: Mapping[str, Any], runs: Path, stops: bool, data: Path) -> str:
    """Train to the end, or stop half-way; what came of it."""
    from deltagclip_cli.runs.folder import RunFolder
    from deltagclip_cli.spec.schema import Experiment
    from deltagclip_cli.spec.trial import make_trial
    from deltagclip_cli.training.worker import run_trial

    real = {"name": "mnist", "train_samples": 100 * STEPS, "test_samples": 500}
    made_up = {"name": "synthetic", "size": 28, "channels": 1, "train": 100 * STEPS, "test": 500}
    written = {
        "model": {"name": "mlp", "hidden": [256, 256]},
        "data": {**(real if (data / "MNIST").is_dir() else made_up), "batch_size": 100},
        "epochs": 1,
        "optimizers": {"it": {"name": name, **options}},
    }
    trial = make_trial("mnist-mlp", Experiment.model_validate(written), "it", 0)
    steps = iter(range(1, STEPS + 1))
    ending = run_trial(
        RunFolder.of(runs, trial),
        trial,
        data_dir=data,
        device="cpu",
        threads=1,
        download=False,
        should_stop=lambda: stops and next(steps) == STEPS // 2,
    )
    return str(ending.value)


def compared(folder: Path) -> str:
    """What differs between a training that was whole and one in pieces; nothing if they agree."""
    import torch

    from deltagclip_cli.runs.folder import RunFolder

    whole, pieces = (RunFolder(next((folder / each).glob("*/*/*"))) for each in ("whole", "pieces"))
    states = [torch.load(each.checkpoint_file, weights_only=True) for each in (whole, pieces)]
    differing = [part for part in ("model", "optimizer") if not same(*(s[part] for s in states))]
    measured = [
        [
            {k: v for k, v in json.loads(line).items() if k != "time" and "perf/" not in k}
            for line in each.metrics_file.read_text().splitlines()
        ]
        for each in (whole, pieces)
    ]
    differing += [] if measured[0] == measured[1] else ["metrics"]
    return f"goes on with other bits: {', '.join(differing)}" if differing else ""


def same(one: Any, other: Any) -> bool:
    """Whether two nested values agree bit for bit."""
    import torch

    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and bool(
            torch.equal(one.nan_to_num(0.125), other.nan_to_num(0.125))
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other or (one != one and other != other))


if __name__ == "__main__":
    main()
