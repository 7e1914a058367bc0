"""The quickstart, whole: the certificate of δ-GClip holds line by line, over all regimes."""

from __future__ import annotations

from pathlib import Path

import pytest
from certificate_cases import certified, trained, verdicts

from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import make_trial

FILE = Path(__file__).parents[2] / "experiments.yaml"


@pytest.mark.slow
def test_the_certificate_of_the_quickstart_holds_line_by_line(tmp_path: Path) -> None:
    experiment = load_spec(FILE, ["quickstart"]).experiments["quickstart"]
    folder = trained(make_trial("quickstart", experiment, "delta-gclip", 0), tmp_path)
    assert set(verdicts(folder).values()) == {"holds"}
    regimes = certified(folder).trajectory.regimes
    assert regimes is not None
    assert min(regimes.values()) >= 10, regimes
