"""The loss that is minimised and the metrics that are measured, as a spec names them."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import TypeAdapter
from pydantic_core import InitErrorDetails

from deltagclip_cli.core import load_target
from deltagclip_cli.spec.component import AS_WRITTEN, EXTRA, Component
from deltagclip_cli.spec.faults import Name, collected

if TYPE_CHECKING:
    from deltagclip_cli.spec.code import CodeFolder

SUPERVISED = "supervised"
"""The task whose loss and metrics are parts of their own."""

_METRIC: TypeAdapter[str] = TypeAdapter(Name)


class _Function(Component):
    """A function of outputs and targets, or a class that makes one."""

    table_target: ClassVar[str] = ""

    def loaded(self) -> dict[str, Any]:
        """Return its options, with what the name means as ``name`` if that is one's own."""
        options = {key: value for key, value in self.options.items() if key != EXTRA}
        name = self.load() if self.is_own else self.name
        return {**options, **(self.options.get(EXTRA) or {}), "name": name}


class LossFunction(_Function):
    """A loss that is minimised: of ``torch.nn.functional``, or one's own."""

    table_target: ClassVar[str] = "deltagclip_cli.parts.tasks:LOSS_TABLE"


class Metric(_Function):
    """A value that is measured besides, and which of its values are better."""

    table_target: ClassVar[str] = "deltagclip_cli.parts.tasks:METRIC_TABLE"

    better: Literal["higher", "lower"] | None = None


class Task(Component):
    """The loss that is minimised, and the metrics that are measured."""

    table_target: ClassVar[str] = "deltagclip_cli.parts.tasks:TABLE"

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics besides the loss, of a task that is ours."""
        if self.name == SUPERVISED:
            return tuple(self.options.get("metrics", ()))
        top_k = self.options.get("top_k")
        named = load_target("deltagclip_cli.parts.tasks:METRICS")[self.name]
        return (*named, *([f"accuracy_top{top_k}"] if top_k else ()))

    @property
    def rising(self) -> dict[str, bool]:
        """Tells of metrics whether more is better, of those of which it is written."""
        metrics = self.options.get("metrics")
        written = metrics.items() if isinstance(metrics, dict) else ()
        said = {name: each.get("better") for name, each in written if isinstance(each, dict)}
        return {name: word == "higher" for name, word in said.items() if word is not None}

    @classmethod
    def _checked_inside(
        cls,
        name: str,
        options: dict[Any, Any],
        common: dict[Any, Any],
        folder: CodeFolder,
        faults: list[InitErrorDetails],
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Check the loss and the metrics of a supervised task, which are parts."""
        if name != SUPERVISED or faults:
            return options, common
        metrics: dict[str, Any] = {}
        with collected(faults, ("loss",)):
            options = {**options, "loss": _plain(LossFunction, options["loss"], folder)}
        for metric, written in (options.get("metrics") or {}).items():
            with collected(faults, ("metrics", metric)):
                metrics[_METRIC.validate_python(metric)] = _plain(Metric, written, folder)
        return {**options, **({"metrics": metrics} if metrics else {})}, common

    @property
    def is_sum(self) -> bool:
        """True if the sum over samples is minimised, not their mean."""
        return self.options.get("reduction") == "sum"

    @cached_property
    def functions(self) -> tuple[LossFunction, dict[str, Metric]] | None:
        """The loss and the metrics of a supervised task."""
        if self.name != SUPERVISED:
            return None
        made = partial(Metric.model_validate, context=self._folder)
        metrics = {name: made(each) for name, each in self.options.get("metrics", {}).items()}
        return LossFunction.model_validate(self.options["loss"], context=self._folder), metrics

    @cached_property
    def references(self) -> tuple[str, ...]:
        """The names of all whose code the identity of a trial covers."""
        if self.name != SUPERVISED:
            return super().references
        read = partial(Metric.model_validate, context=AS_WRITTEN)
        loss = LossFunction.model_validate(self.options.get("loss"), context=AS_WRITTEN)
        parts = [loss, *map(read, (self.options.get("metrics") or {}).values())]
        return (*super().references, *(each for part in parts for each in part.references))

    def loaded_options(self) -> dict[str, Any]:
        """Return the options, with functions in the place of names of one's own."""
        if self.functions is None:
            return self.options
        loss, metrics = self.functions
        functions = {name: each.loaded() for name, each in metrics.items()}
        return {**self.options, "loss": loss.loaded(), "metrics": functions}


def _plain(kind: type[_Function], written: Any, folder: CodeFolder) -> Any:
    """Check what was written for a function; return its name alone where that says all."""
    plain = kind.model_validate(written, context=folder).model_dump()
    return plain["name"] if len(plain) == 1 else plain
