"""An experiment runner for comparing optimizers, and the reference implementation of δ-GClip.

::

    from deltagclip_cli import Runs, compare, train   # runs as frames, their comparison, a training
    from deltagclip_cli.optim import DeltaGClip       # the optimizer alone

They are loaded when they are asked for, and this package by itself loads nothing.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deltagclip_cli.api.all_runs import Runs
    from deltagclip_cli.api.compared import compare
    from deltagclip_cli.api.trained import train

__version__ = "0.1.0"
__all__ = ["Runs", "__version__", "compare", "train"]

_PLACES = {"Runs": "all_runs", "compare": "compared", "train": "trained"}


def __getattr__(name: str) -> object:
    """Load one of the names that Python programs import from here."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.api.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    """List the names that are loaded on demand with those that are there."""
    return sorted({*globals(), *__all__})
