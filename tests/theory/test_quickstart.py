"""The quickstart goes through all regimes; that its certificate holds, ``test_pages.py`` sees.

``docs/concepts/theorem.md`` certifies the same run, and shows each line of the theorem as it came.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from certificate_cases import trained

from deltagclip_cli.spec.load import load_spec
from deltagclip_cli.spec.trial import make_trial

FILE = Path(__file__).parents[2] / "experiments.yaml"
THEOREM = Path(__file__).parents[2] / "docs" / "concepts" / "theorem.md"


@pytest.mark.slow
def test_the_quickstart_goes_through_all_regimes(tmp_path: Path) -> None:
    """Without the certificate, with or without which a training has the same bits."""
    experiment = load_spec(FILE, ["quickstart"], ["certificate=null"]).experiments["quickstart"]
    folder = trained(make_trial("quickstart", experiment, "delta-gclip", 0), tmp_path)
    regimes = json.loads(folder.result_file.read_text())["regimes"]
    assert regimes.keys() == {"plain", "clipped", "floored"}
    assert min(regimes.values()) >= 10, regimes


def test_the_page_of_the_theorem_certifies_it_line_by_line() -> None:
    page = THEOREM.read_text()
    assert "```bash\ndeltagclip certify quickstart\n```" in page
    lines = page.partition("─\n")[2].partition("```")[0].splitlines()
    assert len(lines) == 8 and all(" holds " in line for line in lines)
