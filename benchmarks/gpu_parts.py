"""The parts of ``on_a_gpu.py``, each called in a process of its own.

    python benchmarks/gpu_parts.py PART --device cuda --records FILE --seconds 60 [--quick]

A part appends what it sees to ``--records``, a JSON object a line, as soon as it is known: it may
be ended at any moment. What a part does not need it does not import, so that the optimizer is
measured even where the rest of the project cannot be loaded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltagclip_cli.training.sinks import Beginning, Record, Sink

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
EPOCHS = 5  # of a training; the first warms up, the device is looked at in the last
STEPS = 30  # of an epoch
WATCHED_STEPS = STEPS - 2


@dataclass(frozen=True)
class Session:
    """What every part is told.

    Args:
        device: ``cuda`` or ``cpu``.
        quick: small sizes and few repetitions.
        records: the file that is appended to.
        end: the moment, of ``time.monotonic``, at which the part is ended.
    """

    device: str
    quick: bool
    records: Path
    end: float

    @property
    def seconds_left(self) -> float:
        return self.end - time.monotonic()

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def record(self, **values: object) -> None:
        with self.records.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values, ensure_ascii=False, default=str) + "\n")


@contextmanager
def errors_recorded(session: Session, **what: object) -> Iterator[None]:
    """Record an error with what it belongs to, and go on: what comes after it has its own worth."""
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        session.record(**what, error=f"{type(error).__name__}: {error}")


def machine(session: Session) -> None:
    """Versions and the device."""
    session.record(
        python=platform.python_version(),
        processor=platform.processor() or platform.machine(),
        cores=os.cpu_count(),
        versions=versions(),
    )
    import torch

    session.record(
        torch=torch.__version__, cuda=torch.version.cuda, capability=_cpu_capability(torch)
    )
    if session.on_gpu:
        properties = torch.cuda.get_device_properties(0)
        session.record(
            gpu=properties.name,
            compute_capability=f"{properties.major}.{properties.minor}",
            memory_gb=round(properties.total_memory / 1e9, 1),
            multiprocessors=properties.multi_processor_count,
            cudnn=torch.backends.cudnn.version(),
            driver=driver(),
        )


def versions() -> dict[str, str | None]:
    """Of each package that the project needs; None for one that is missing."""
    import re
    import tomllib
    from importlib.metadata import PackageNotFoundError, version

    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], "triton", "timm", "transformers", "pytest"]
    found: dict[str, str | None] = {}
    for requirement in needed:
        name = re.split(r"[\s<>=!~\[;]", requirement, maxsplit=1)[0]
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _cpu_capability(torch: Any) -> str:
    return str(torch.backends.cpu.get_cpu_capability())


def driver() -> str:
    question = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(question, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return done.stdout.decode(errors="replace").strip()


def tests(session: Session) -> None:
    """The tests marked ``gpu``, each recorded when it has ended."""
    import pytest

    marked = sorted(
        str(file)
        for file in (PROJECT / "tests").rglob("test_*.py")
        if "mark.gpu" in file.read_text(encoding="utf-8")
    )
    # Of the project's own options, some need plugins that a strange Python may lack.
    words = ["-o", "addopts=", "-m", "gpu", "-q", "-p", "no:cacheprovider", "-W", "default"]
    code = pytest.main([*words, "--rootdir", str(PROJECT), *marked], plugins=[TestRecords(session)])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(f"pytest ended with {code}")


class TestRecords:
    """Records every test that did not pass, and how many did."""

    __test__ = False

    def __init__(self, session: Session) -> None:
        self._session = session
        self._counts: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._counts[report.outcome] += 1
        if report.outcome == "failed":
            self._session.record(test=report.nodeid, when=report.when, said=report.longreprtext)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._session.record(test=report.nodeid, when="collect", said=report.longreprtext)

    def pytest_sessionfinish(self) -> None:
        self._session.record(counts=dict(self._counts))


def optimizer_step(session: Session) -> None:
    """The optimizer's step beside its rivals, eager and in a CUDA graph."""
    import torch

    from benchmarks import optimizer_step as benchmark
    from benchmarks.harness import Session as Turns

    device = torch.device(session.device)
    repeat = 3 if session.quick else 100
    for graph in (False, True) if session.on_gpu else (False,):
        for model, make_shapes in benchmark.MODELS.items():
            with errors_recorded(session, model=model, graph=graph):
                steps = benchmark.contenders(list(make_shapes()), device, graph)
                if graph:
                    steps = captured(steps, model, session)
                turns = Turns(session.device, session.quick, Path())
                times = benchmark.timed(turns, steps, repeat)
                for name in times:
                    session.record(
                        model=model,
                        graph=graph,
                        step=name,
                        microseconds=1e6 * statistics.median(times[name]),
                        to_floor=times.as_long(model, name, benchmark.FLOOR).value,
                        to_ours=times.as_long(model, name, benchmark.OURS).value,
                    )


def captured(
    steps: dict[str, Callable[[], object]], model: str, session: Session
) -> dict[str, Callable[[], object]]:
    """Those steps that can be captured in a CUDA graph, so captured; the others are recorded."""
    from benchmarks import optimizer_step as benchmark

    found: dict[str, Callable[[], object]] = {}
    for name, step in steps.items():
        try:
            found[name] = benchmark.captured(step)
        except Exception as error:
            session.record(model=model, graph=True, step=name, error=str(error))
    return found


def waits(session: Session) -> None:
    """Where a training step waits for the device, once for each place."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, trial in made_trials(root, session).items():
            watcher = Waits(session.on_gpu)
            error = train(trial, root, session, watcher, watcher.is_over)
            session.record(
                model=name,
                steps=watcher.steps,
                waits_per_step=sum(watcher.places.values()) / max(1, watcher.steps),
                places=dict(watcher.places.most_common(20)),
                error=error,
            )


class Waits(Sink):
    """Lets torch warn of each wait in the second epoch, from its second step on; counts by place.

    The first steps of a training make what is made once. The end of an epoch, where its metrics are
    read, is not looked at.
    """

    def __init__(self, on_gpu: bool) -> None:
        self.places: Counter[str] = Counter()
        self.steps = 0
        self._on_gpu = on_gpu
        self._looking: ExitStack | None = None
        self._caught: list[warnings.WarningMessage] = []
        self._over = False

    def is_over(self) -> bool:
        return self._over

    def begin(self, beginning: Beginning) -> None:
        self._second = beginning.course.in_pass + 1

    def batch(self, step: int, samples: int) -> None:
        if step == self._second:
            self._look()
        elif self._looking is not None:
            self.steps += 1
            if self.steps == WATCHED_STEPS:
                self.close()

    def epoch(self, record: Record) -> None:
        self.close()

    def _look(self) -> None:
        self._looking = ExitStack()
        self._caught = self._looking.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        if self._on_gpu:
            import torch

            torch.cuda.set_sync_debug_mode("warn")
            self._looking.callback(torch.cuda.set_sync_debug_mode, "default")

    def close(self) -> None:
        if self._looking is None:
            return
        self._looking.close()
        self._looking, self._over = None, True
        for warning in self._caught:
            if "synchroniz" in str(warning.message):
                file = Path(warning.filename)
                self.places[f"{'/'.join(file.parts[-2:])}:{warning.lineno}"] += 1


def trainings(session: Session) -> None:
    """A short training of each of the paper's models: speed, memory, how long the device waits."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        chosen = made_trials(root, session)
        for position, (name, trial) in enumerate(chosen.items()):
            share = session.seconds_left / (len(chosen) - position)
            watcher = Speed(session.on_gpu, time.monotonic() + 0.8 * share)
            error = train(trial, root, session, watcher, watcher.is_late)
            session.record(model=name, precision=trial.precision, error=error, **watcher.seen())


class Speed(Sink):
    """Takes down each epoch but the first, and in the last looks at how long the device works."""

    def __init__(self, on_gpu: bool, end: float) -> None:
        self._on_gpu, self._end = on_gpu, end
        self._rates: list[float] = []
        self._seconds: list[float] = []
        self._profile: Any = None
        self._busy: float | None = None
        self._memory: int | None = None

    def is_late(self) -> bool:
        return time.monotonic() > self._end

    def epoch(self, record: Record) -> None:
        import torch

        epoch = record["epoch"]
        if self._profile is not None:
            self._profile.__exit__(None, None, None)
            self._busy, self._profile = busy_seconds(self._profile), None
        elif epoch > 1:
            self._rates.append(record["perf/samples_per_second"])
            self._seconds.append(record["perf/epoch_seconds"])
        if self._on_gpu and epoch == EPOCHS - 1:
            self._memory = torch.cuda.max_memory_allocated()
        if epoch == EPOCHS - 1:
            activity = torch.profiler.ProfilerActivity
            chosen = activity.CUDA if self._on_gpu else activity.CPU
            self._profile = torch.profiler.profile(activities=[chosen])
            self._profile.__enter__()

    def close(self) -> None:
        if self._profile is not None:
            self._profile.__exit__(None, None, None)

    def seen(self) -> dict[str, object]:
        """What was measured; None for what was not."""
        seconds = statistics.median(self._seconds) if self._seconds else None
        waiting = None
        if self._busy is not None and seconds:
            waiting = max(0.0, 1 - self._busy / seconds)
        return {
            "epochs": len(self._rates),
            "samples_per_second": statistics.median(self._rates) if self._rates else None,
            "epoch_seconds": seconds,
            "peak_memory_mb": self._memory and self._memory / 1e6,
            "device_waits": waiting,
        }


def busy_seconds(profile: Any) -> float:
    """How long the device worked: the union of its kernels' times; of a CPU, of operations."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(file))
        events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    kinds = ("kernel", "gpu_memcpy", "gpu_memset", "cpu_op")  # the last on a CPU alone
    spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e.get("cat") in kinds)
    busy, reached = 0.0, float("-inf")
    for start, end in spans:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return busy / 1e6


def same_bits(session: Session) -> None:
    """Two trainings in processes of their own: the same metrics and the same weights?"""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        spec = write_spec(root, session)
        for name in ("resnet18", "vit_tiny", "distilbert", "kan", "vae"):
            with errors_recorded(session, model=name):
                session.record(model=name, **twice(name, spec, root, session))


def twice(name: str, spec: Path, root: Path, session: Session) -> dict[str, object]:
    command = [sys.executable, "-m", "deltagclip_cli", "train", name, "--spec", str(spec)]
    command += ["--data", str(root / "data"), "--device", session.device, "--quiet"]
    command += ["--set", "epochs=2"]
    runs = [root / "runs" / f"{name}-{number}" for number in (1, 2)]
    processes = [
        subprocess.Popen([*command, "--runs", str(each)], cwd=root, stderr=subprocess.PIPE)
        for each in runs
    ]
    said = [process.communicate()[1].decode(errors="replace") for process in processes]
    if any(process.returncode for process in processes):
        return {"same": None, "error": next(filter(None, said), "")[-2000:]}
    first, second = map(digests, runs)
    return {"same": first == second, "differ": [key for key in first if first[key] != second[key]]}


def digests(runs: Path) -> dict[str, str]:
    """Of the metrics without times, and of each tensor of the last checkpoint."""
    import torch

    (metrics,) = runs.glob("*/*/*/metrics.jsonl")
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    plain = [
        {k: v for k, v in line.items() if k != "time" and not k.startswith("perf/")}
        for line in lines
    ]
    found = {"metrics": json.dumps(plain, sort_keys=True)}
    (checkpoint,) = runs.glob("*/*/*/checkpoint.pt")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    for name, tensor in state["model"].items():
        found[name] = hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy()).hexdigest()
    return found


def write_spec(root: Path, session: Session) -> Path:
    """The paper's models on made-up data of the real shapes; a few steps an epoch."""
    steps = 4 if session.quick else STEPS
    optimizer = "delta-gclip: {name: delta_gclip, lr: 0.01, gamma: 1.0, delta: 1e-3}"
    experiments = {}
    for name, model, batch, data in QUICK if session.quick else FULL:
        experiments[name] = (
            f"    model: {model}\n"
            f"    data: {{name: synthetic, train: {batch * steps}, test: {batch}, "
            f"batch_size: {batch}, {data}}}\n" + ("    task: autoencode\n" if name == "vae" else "")
        )
    batch = 4 if session.quick else 32
    write_texts(root / "data" / "emotion", train=batch * steps, test=batch)
    write_distilbert(root / "distilbert", session.quick)
    experiments["distilbert"] = (
        f"    model: {{name: bert, pretrained: '{root / 'distilbert'}'}}\n"
        f"    data: {{name: emotion, batch_size: {batch}}}\n"
    )
    text = "experiments:\n"
    for name, lines in experiments.items():
        text += f"  {name}:\n{lines}    epochs: {EPOCHS}\n    checkpoint: {{epochs: 1000}}\n"
        text += f"    optimizers:\n      {optimizer}\n"
    file = root / "experiments.yaml"
    file.write_text(text, encoding="utf-8")
    return file


_VIT = "augment: {name: random_resized_crop, scale: [0.05, 1.0]}, image_size:"
_DIGITS = "channels: 1, size: 28"
_KAN = "{name: kan, hidden: [64], grid: 5, order: 3}"
FULL = (  # name, model, batch, more of the data
    ("resnet18", "resnet18", 512, "augment: [random_crop, flip]"),
    ("vit_tiny", "vit_tiny", 64, f"{_VIT} 64"),
    ("vit_small", "vit_small", 64, f"{_VIT} 64"),
    ("kan", _KAN, 64, _DIGITS),
    ("vae", "vae", 100, f"{_DIGITS}, normalize: none"),
)
QUICK = (
    ("resnet18", "resnet18", 2, "size: 8, augment: [random_crop, flip]"),
    ("vit_tiny", "vit_tiny", 2, f"{_VIT} 32"),
    ("kan", _KAN, 4, _DIGITS),
    ("vae", "vae", 4, f"{_DIGITS}, normalize: none"),
)


def write_texts(folder: Path, train: int, test: int) -> None:
    """Made-up messages of 4 to 40 words, in the form of ``emotion``."""
    labels = ("sadness", "joy", "love", "anger", "fear", "surprise")
    folder.mkdir(parents=True, exist_ok=True)
    for name, samples in (("train", train), ("test", test)):
        lines = [
            " ".join(f"w{(7 * number + word) % 997}" for word in range(4 + number * 5 % 37))
            + f";{labels[number % 6]}"
            for number in range(samples)
        ]
        (folder / f"{name}.txt").write_text("\n".join(["text;label_name", *lines]) + "\n")


def write_distilbert(folder: Path, quick: bool) -> None:
    """DistilBERT base with weights drawn at random; a small one if quick."""
    import transformers

    small = {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2} if quick else {}
    transformers.utils.logging.disable_progress_bar()
    config = transformers.DistilBertConfig(**small)
    transformers.DistilBertModel(config).save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(997))]
    words += [f"x{number}" for number in range(config.vocab_size - len(words))]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    transformers.BertTokenizer.from_pretrained(folder).save_pretrained(folder)


def made_trials(root: Path, session: Session) -> dict[str, Any]:
    """A trial of each of the paper's models; the largest in bf16, too."""
    from deltagclip_cli.spec.load import load_spec
    from deltagclip_cli.spec.trial import make_trial

    experiments = load_spec(write_spec(root, session)).experiments
    found = {
        name: make_trial(name, experiment, "delta-gclip", 0)
        for name, experiment in experiments.items()
    }
    for name in ("distilbert",) if session.quick else ("resnet18", "vit_tiny", "distilbert"):
        found[f"{name} bf16"] = found[name].model_copy(update={"precision": "bf16"})
    return found


def train(
    trial: Any,
    root: Path,
    session: Session,
    watcher: Any,
    should_stop: Callable[[], bool] = lambda: False,
) -> str | None:
    """Train a trial as the runner does; returns what went wrong, if something did."""
    from deltagclip_cli.runs.folder import RunFolder
    from deltagclip_cli.training.worker import run_trial

    try:
        run_trial(
            RunFolder.of(root / "runs" / trial.precision, trial),
            trial,
            data_dir=root / "data",
            device=session.device,
            download=False,
            sinks=[watcher],
            should_stop=should_stop,
        )
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    finally:
        watcher.close()
    return None


PARTS: dict[str, Callable[[Session], None]] = {
    "machine": machine,
    "tests": tests,
    "optimizer-step": optimizer_step,
    "waits": waits,
    "trainings": trainings,
    "same-bits": same_bits,
}


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    PARTS[options.part](Session(options.device, options.quick, options.records, end))


if __name__ == "__main__":
    main()
