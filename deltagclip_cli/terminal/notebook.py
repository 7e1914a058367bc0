"""The progress of a trial below the cell of a notebook."""

from __future__ import annotations

import io
import time
from types import TracebackType
from typing import Any

from IPython.display import HTML, display
from rich.console import Console

from deltagclip_cli.terminal.console import ProgressBar
from deltagclip_cli.training.sinks import Beginning, Record

_SECONDS_BETWEEN_UPDATES = 0.25
_COLUMNS = 100
_PAGE = '<pre style="line-height:normal;white-space:pre;overflow-x:auto">{code}</pre>'


class NotebookBar(ProgressBar):
    """Shows what a terminal would show, in one output of the cell that is written over and over.

    No widgets are needed, and what was shown last is kept in the file of the notebook.
    """

    def __enter__(self) -> NotebookBar:
        self._handle: Any = display(self._page(), display_id=True)  # type: ignore[no-untyped-call]
        self._updated_at = 0.0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        self._handle.update(self._page())

    def begin(self, beginning: Beginning) -> None:
        """Show a trial from where it begins."""
        super().begin(beginning)
        self._update()

    def batch(self, step: int, samples: int) -> None:
        super().batch(step, samples)
        self._update()

    def epoch(self, record: Record) -> None:
        super().epoch(record)
        self._update()

    def _update(self) -> None:
        if time.monotonic() - self._updated_at >= _SECONDS_BETWEEN_UPDATES:
            self._updated_at = time.monotonic()
            self._handle.update(self._page())

    def _page(self) -> HTML:
        console = Console(
            file=io.StringIO(),
            width=_COLUMNS,
            record=True,
            force_jupyter=False,
            force_terminal=True,
            color_system="truecolor",
        )
        console.print(self._progress.get_renderable())
        return HTML(console.export_html(inline_styles=True, code_format=_PAGE))  # type: ignore[no-untyped-call]
