"""The end of a training that becomes no better."""

from __future__ import annotations

from pydantic import PositiveInt

from deltagclip_cli.core import measured_on
from deltagclip_cli.spec.search_settings import Judged


class EarlyStopping(Judged):
    """The end of a training whose ``metric`` has not become better for so many evaluations.

    Args:
        patience: how many evaluations in a row may be no better than the best before them.
    """

    patience: PositiveInt

    @property
    def is_on_test(self) -> bool:
        """True if the training would end where the test set likes it best."""
        return measured_on(self.metric) == "test"
