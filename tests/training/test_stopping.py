"""What a signal that asks to stop does while other things are under way."""

from __future__ import annotations

import io
import logging
import os
import signal
import time
from collections.abc import Iterator

import pytest

from deltagclip_cli.training import process
from deltagclip_cli.training.process import StopRequest


class Interrupted(io.RawIOBase):
    """Output during the first write of which a Ctrl-C comes."""

    def __init__(self) -> None:
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        first, self.written = not self.written, self.written + bytes(data)
        if first:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        return len(data)


@pytest.fixture
def output() -> Iterator[io.BufferedWriter]:
    """Where messages are written, too."""
    output = io.BufferedWriter(Interrupted())

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            output.write(record.getMessage().encode())
            output.flush()

    handler = Handler()
    process.logger.addHandler(handler)
    yield output
    process.logger.removeHandler(handler)


def test_a_signal_in_the_middle_of_output_is_told_behind_it(output: io.BufferedWriter) -> None:
    stop = StopRequest()
    with stop.listening():
        output.write(b"epoch 1/2 ")
        output.flush()
        end = time.monotonic() + 60
        while b"Stopping" not in output.raw.written and time.monotonic() < end:
            time.sleep(0.01)
    assert stop()
    assert output.raw.written.startswith(b"epoch 1/2 Stopping after this step")


def test_a_signal_is_told_before_the_messages_are_shown_no_more() -> None:
    told: list[str] = []

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            time.sleep(0.2)
            told.append(record.getMessage())

    handler, stop = Slow(), StopRequest()
    process.logger.addHandler(handler)
    try:
        with stop.listening(), stop.listening():
            os.kill(os.getpid(), signal.SIGINT)
        assert told == ["Stopping after this step; Ctrl-C again stops at once."]
    finally:
        process.logger.removeHandler(handler)
