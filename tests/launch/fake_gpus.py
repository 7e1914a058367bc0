"""Programs of NVIDIA's driver, as a machine with GPUs has them on its PATH."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# The daemon is a process that lives until it is told to quit, as the real one; it is known by a
# file in its pipe directory, and writes down what it is asked, with the environment of its start.
_CONTROL = r"""#!/bin/sh
pipe=${CUDA_MPS_PIPE_DIRECTORY:-@DEFAULT@}
pid=$pipe/nvidia-cuda-mps-control.pid
if [ "$1" = -d ]; then
  @REFUSAL@
  mkdir -p "$pipe" || exit 1
  echo "start $CUDA_MPS_PIPE_DIRECTORY $CUDA_MPS_LOG_DIRECTORY ${CUDA_VISIBLE_DEVICES-all}" >>@LOG@
  sleep 600 &
  echo $! >"$pid"
  exit 0
fi
[ -f "$pid" ] || { echo "Cannot find MPS control daemon process" >&2; exit 1; }
while read -r command; do
  echo "$command" >>@LOG@
  case $command in
    start_server*) @SERVER@ ;;
    get_server_list) cat "$pipe/server" 2>/dev/null ;;
    quit) kill "$(cat "$pid")"; rm -f "$pid" ;;
  esac
done
exit 0
"""


@dataclass(frozen=True)
class FakeDriver:
    """The programs in a folder, and what they were asked."""

    folder: Path

    def write(
        self, *, gpus: int = 1, refusal: str = "", server: str = 'echo 4711 >"$pipe/server"'
    ) -> None:
        """Write the programs.

        Args:
            refusal: what the daemon says instead of starting.
            server: what it does to start its server.
        """
        lines = "".join(f"echo 'GPU {n}: NVIDIA H200 (UUID: GPU-{n})'\n" for n in range(gpus))
        self._write("nvidia-smi", f"#!/bin/sh\n{lines}")
        said = f"echo '{refusal}' >&2; exit 1" if refusal else ":"
        control = _CONTROL.replace("@REFUSAL@", said).replace("@SERVER@", server)
        control = control.replace("@DEFAULT@", str(self.folder / "system"))
        self._write("nvidia-cuda-mps-control", control.replace("@LOG@", f"'{self.log}'"))

    def _write(self, name: str, text: str) -> None:
        program = self.folder / name
        program.write_text(text)
        program.chmod(0o755)

    @property
    def log(self) -> Path:
        return self.folder / "asked.log"

    @property
    def asked(self) -> list[str]:
        """All commands, in their order."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    @property
    def path(self) -> str:
        """A PATH with these programs."""
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"
