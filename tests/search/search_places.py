"""Folders with a spec, where searches are started, killed and continued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 300
SETTINGS = 12
SPEC = """\
experiments:
  tiny:
    model: {name: mlp, hidden: [8]}
    data: {name: synthetic, batch_size: 8, size: 4, train: 32, test: 16}
    epochs: EPOCHS
    seeds: [0, 1]
    optimizers:
      dgc: {name: delta_gclip, lr: 0.1, gamma: 1.0, delta: 1e-3}
    search:
      metric: test/loss
      sampler: SAMPLER
      pruner: PRUNER
      space:
        dgc:
          lr: {log_uniform: [1e-3, 10]}
          gamma: {log_uniform: [1e-2, 10]}
          delta: {log_uniform: [1e-4, 1]}
"""


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # who started the tests may have it ignored


class Place:
    """A folder with the spec, where searches are started."""

    def __init__(self, path: Path, sampler: str, pruner: str, epochs: int = 8) -> None:
        path.mkdir(parents=True)
        self.path, self.runs = path, path / "runs"
        spec = SPEC.replace("SAMPLER", sampler).replace("PRUNER", pruner)
        (path / "experiments.yaml").write_text(spec.replace("EPOCHS", str(epochs)))

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = ["sweep", "tiny", "--search", str(SETTINGS), "--select-on-test", *words]
        return subprocess.Popen(
            [sys.executable, "-W", "error::UserWarning", "-m", "deltagclip_cli", *command],
            cwd=self.path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_hear_interrupts,
        )

    def search(self, *words: str) -> tuple[str, str]:
        """Search to the end; what was printed."""
        process = self.start(*words)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, out + err
        return out, err

    def kill_after(self, trials: int, *words: str) -> None:
        """Start a search, and kill it with everything it has started when so many have begun."""
        process = self.start(*words)
        end = time.monotonic() + PATIENCE_SECONDS
        while len(list(self.runs.glob("tiny/dgc/*/metrics.jsonl"))) < trials:
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < end
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def losses(self) -> dict[str, Any]:
        """For each finished trial the loss after every epoch."""
        return {
            file.parent.name: [
                json.loads(line).get("test/loss")
                for line in (file.parent / "metrics.jsonl").read_text().splitlines()
            ]
            for file in self.runs.glob("tiny/dgc/*/result.json")
        }
