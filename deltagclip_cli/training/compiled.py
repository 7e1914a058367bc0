"""Steps whose forward and backward pass torch has compiled, each into one program.

The programs are made before the first step, of a batch that is put through the network for that
alone. From then on nothing is compiled: what does not fit them runs as it is written. So neither a
smaller last batch nor a learning rate makes anybody wait, and the bits do not depend on what was
seen before, such as by a process that was killed.
"""

from __future__ import annotations

import linecache
import logging
import os
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor
from torch._dynamo.exc import Unsupported, UserError
from torch._dynamo.utils import counters
from torch._inductor.compile_fx import compile_fx
from torch.utils._triton import has_triton

from deltagclip_cli.core import shortened
from deltagclip_cli.parts.datasets.texts import TokenBatches
from deltagclip_cli.parts.nested import Tree, leaves
from deltagclip_cli.parts.tasks import Loss
from deltagclip_cli.source.loading import shown_file
from deltagclip_cli.training.assembly import first_samples
from deltagclip_cli.training.chance import streams_kept
from deltagclip_cli.training.program import Eager, Values

logger = logging.getLogger(__name__)

CACHE = Path("~/.cache/deltagclip/compiled")
"""Where compiled code is kept for the trials to come, unless $TORCHINDUCTOR_CACHE_DIR says more.
Whoever deletes it waits for the compiler once more."""

_Applied = Callable[[Tree, Tree], tuple[Tensor, Values]]
_PLAIN = (bool, int, float, str, tuple, type(None))
_MOST_TRIES = 3  # until a batch is compiled no more
_PATIENCE_SECONDS = 1800  # with another trial that compiles the same


class Compiled(Eager):
    """Compiled passes for batches of full size, and for texts of any length; the step is eager.

    A part of a model that cannot be compiled is named, and runs uncompiled. Where there is no
    compiler, or it fails, that is said, and all runs so: ``name`` is ``eager`` then.
    """

    name = "compiled"

    def _prepare(self) -> None:
        self._any_length = isinstance(self.parts.train, TokenBatches)
        self._compiled: _Applied | None = None
        lacking = _lacking(self.parts.device)
        if self.stepper.create_graph:
            name = self.trial.optimizer.name
            lacking = f"compiled passes have no second derivatives, which optimizer '{name}' takes"
        if lacking:
            logger.warning("Trains uncompiled: %s.", lacking)
        else:
            self._compile()
        if self._compiled is None:
            self.name = "eager"

    def _apply(self, inputs: Tree, targets: Tree) -> Loss:
        if self._compiled is None or self._kind(inputs, targets) != self._compiled_kind:
            return super()._apply(inputs, targets)
        return Loss(*self._compiled(inputs, targets))

    def _kind(self, inputs: Tree, targets: Tree) -> tuple[object, ...]:
        """Return in what batches differ that one program does not serve."""
        kept = slice(1) if self._any_length else slice(None)
        return tuple((each.shape[kept], each.dtype) for each in leaves((inputs, targets)))

    def _compile(self) -> None:
        """Compile the passes, whole if that can be, and keep them if they settle."""
        train, generator = self.parts.train, torch.Generator(self.parts.device)
        generator.manual_seed(0)
        batch = first_samples(train, train.sizes[0], generator)
        self._compiled_kind = self._kind(*batch)
        logger.info("Compiles the step; trials like this one then find it compiled.")
        with _alone(), _quiet():
            for whole in (True, False):
                try:
                    self._compiled = self._settled(batch, whole=whole)
                    return
                except torch.OutOfMemoryError:
                    raise
                except (Unsupported, UserError) as error:
                    logger.warning("Cannot compile %s", _told(error))
                except Exception as error:
                    said = shortened(" ".join(str(error).split()), 300)
                    logger.warning("Trains uncompiled: %s: %s", type(error).__name__, said)
                    return

    def _settled(self, batch: tuple[Tree, Tree], *, whole: bool) -> _Applied | None:
        """Compile both passes of a batch; return what runs them, and compiles nothing more."""
        if self._any_length:
            for each in leaves(batch[0]):
                torch._dynamo.mark_dynamic(each, 1)
        compiler = _Compiler()
        compiled = torch.compile(
            self._applied(),
            fullgraph=whole,
            dynamic=None if self._any_length else False,
            backend=compiler,
        )
        if whole and self.trial.code is None:  # no part of ours changes itself
            with self._unchanged(), compiler.holding_back(), suppress(_HeldBack):
                compiled(*batch)
            return torch._dynamo.run(compiled)  # type: ignore[no-any-return]
        with self._unchanged():
            for _ in range(_MOST_TRIES):
                self.parts.optimizer.zero_grad()
                seen = counters["stats"]["unique_graphs"]
                compiled(*batch)[0].backward()  # type: ignore[no-untyped-call]
                if counters["stats"]["unique_graphs"] == seen:
                    return torch._dynamo.run(compiled)  # type: ignore[no-any-return]
        logger.warning("Trains uncompiled: the model changes itself whenever it is applied.")
        return None

    def _applied(self) -> _Applied:
        """Return the task as a function of tensors, with code of its own.

        What torch compiles it keeps with the code of a function, so much of each and no more.
        """
        task, model, device = self.parts.task, self.parts.model, self.parts.device.type
        narrow = self.trial.precision == "bf16"

        def apply(inputs: Tree, targets: Tree) -> tuple[Tensor, Values]:
            with torch.autocast(device, dtype=torch.bfloat16, enabled=narrow):
                outcome = task(model, inputs, targets)
            return outcome.objective, outcome.sums

        code = apply.__code__.replace()
        return types.FunctionType(code, apply.__globals__, closure=apply.__closure__)

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Train without a trace: buffers, counts and random numbers are as they were."""
        model = self.parts.model
        kept = [(each, each.clone()) for each in model.buffers()]
        plain = [
            (vars(each), {k: v for k, v in vars(each).items() if isinstance(v, _PLAIN)})
            for each in model.modules()
        ]
        model.train()
        try:
            with streams_kept(self.parts.device):
                yield
        finally:
            self.parts.optimizer.zero_grad()
            for attributes, values in plain:
                attributes.update(values)
            with torch.no_grad():
                for buffer, value in kept:
                    buffer.copy_(value)


def _lacking(device: torch.device) -> str:
    """Return what is needed to compile for a device and is not there, in words; or nothing."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "there is no C++ compiler, such as g++, or $CXX names none"
    if device.type == "cuda" and not has_triton():
        return "the package triton is missing, or does not know this GPU"
    return ""


class _HeldBack(Exception):
    """A program is compiled, and was to be run."""


class _Compiler:
    """The compiler of torch, as a backend that compiles both passes at once.

    Random numbers are those of torch, so that compiled and plain trials drop the same.
    """

    def __init__(self) -> None:
        self._holds_back = False

    def __call__(self, module: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        with torch._functorch.config.patch(force_non_lazy_backward_lowering=True):
            made: Any = compile_fx(module, inputs, config_patches={"fallback_random": True})

        def run(*arguments: Any) -> Any:
            if self._holds_back:
                raise _HeldBack
            return made(*arguments)

        return run

    @contextmanager
    def holding_back(self) -> Iterator[None]:
        """Compile, and run nothing: a batch takes a small network no time, and a large one much."""
        self._holds_back = True
        try:
            yield
        finally:
            self._holds_back = False


@contextmanager
def _alone() -> Iterator[None]:
    """Compile while no other trial does so, for the others then find it in the folder."""
    folder = os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(CACHE.expanduser()))
    lock = FileLock(Path(folder, "one-at-a-time.lock"))
    try:
        lock.acquire(timeout=_PATIENCE_SECONDS)
    except Timeout:
        pass
    except OSError:  # nothing can be kept there, and torch takes a folder for a while
        del os.environ["TORCHINDUCTOR_CACHE_DIR"]
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what torch says of itself while it compiles."""
    said = [logging.getLogger(name) for name in ("torch.utils.cpp_extension", "torch._dynamo")]
    levels = [each.level for each in said]
    for each in said:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(said, levels, strict=True):
            each.setLevel(level)


def _told(error: Unsupported | UserError) -> str:
    """Return where a program breaks, and why, in words."""
    frames = [*(error.real_stack or ())]
    ours = str(Path(torch.__file__).parent)
    own = [each for each in frames if not each.filename.startswith(ours)] or frames
    why = str(error).strip().partition("\n")[0].rstrip(".")
    if isinstance(error, UserError):
        why = "What it does depends on the values of a tensor"
    if not own:
        return f"all of it: {why}\n  What that concerns runs uncompiled."
    line = linecache.getline(own[-1].filename, own[-1].lineno or 0).strip()
    place = f"{shown_file(Path(own[-1].filename), Path.cwd())}:{own[-1].lineno}"
    return f"{place}: in {own[-1].name}: {line}\n  {why}. That part runs uncompiled."
