"""Notebooks: the one in the documentation runs, and an interrupt of its kernel costs nothing."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_spec import TINY

from deltagclip_cli.runs.folder import RunFolder

pytest.importorskip("ipykernel")
pytest.importorskip("nbclient")
pytest.importorskip("pandas")

NOTEBOOK = Path(__file__).parents[2] / "docs" / "guides" / "notebook.ipynb"
PATIENCE = 240
pytestmark = pytest.mark.slow


def shown(cell: Any) -> str:
    """All that a cell shows, as HTML where it is."""
    words = []
    for each in cell["outputs"]:
        data = each.get("data", {})
        words.append(each.get("text") or data.get("text/html") or data.get("text/plain") or "")
    return "\n".join(words)


@pytest.mark.filterwarnings("ignore")  # what other programs say of one another
def test_the_notebook_of_the_documentation_runs_and_shows_what_it_says(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "kept without outputs"
    metadata = {"metadata": {"path": str(tmp_path)}}
    patience = dict.fromkeys(("timeout", "startup_timeout", "iopub_timeout"), PATIENCE)
    NotebookClient(notebook, resources=metadata, **patience).execute()
    by_source = {cell["source"]: cell for cell in notebook.cells if cell["cell_type"] == "code"}
    (training,) = (cell for source, cell in by_source.items() if source.endswith("\ntrained"))
    assert "epoch 10/10" in shown(training) and "<th>test/accuracy</th>" in shown(training)
    bars = [each for each in training["outputs"] if "epoch 10/10" in str(each)]
    assert len(bars) == 1, "one output that is written over"
    assert not any("epoch 3/10" in str(each) for each in training["outputs"])
    comparisons = [cell for source, cell in by_source.items() if "compare(" in source]
    assert len(comparisons) == 2
    assert all("<table>" in shown(cell) and "adam" in shown(cell) for cell in comparisons)
    assert "softsign" in shown(comparisons[-1])
    assert any(
        "image/png" in each.get("data", {}) for c in by_source.values() for each in c.outputs
    )


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    from jupyter_client.manager import start_new_kernel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        manager, client = start_new_kernel(PATIENCE, cwd=str(tmp_path))
        try:
            client.kernel_info()  # answered late, as on a busy machine
            yield manager, client
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def reply_to(client: Any, request: str) -> Any:
    """What the kernel answers to one request.

    It also answers, some time, to each question of whether it is ready, of which there are several
    while it starts on a busy machine.
    """
    while True:
        message = client.get_shell_msg(timeout=PATIENCE)
        if message["parent_header"]["msg_id"] == request:
            return message["content"]


@pytest.mark.filterwarnings("ignore")
def test_an_interrupt_of_the_kernel_leaves_a_checkpoint_from_which_the_next_call_goes_on(
    kernel: tuple[Any, Any], tmp_path: Path
) -> None:
    manager, client = kernel
    spec = yaml.safe_load(TINY.replace("1e-3", "0.001"))
    spec["experiments"]["tiny"]["epochs"] = 100_000
    code = f"from deltagclip_cli import train\nspec = {spec!r}\ntrain(spec)"
    training = client.execute(code, stop_on_error=False)  # which would abort what comes next, too
    until = time.monotonic() + PATIENCE
    files = "runs/tiny/*/seed-*/metrics.jsonl"
    while not (found := [each for each in tmp_path.glob(files) if each.stat().st_size]):
        assert time.monotonic() < until
        time.sleep(0.05)
    folder = RunFolder(found[0].parent)
    manager.interrupt_kernel()
    reply = reply_to(client, training)
    assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
    assert folder.state == "interrupted" and folder.checkpoint_file.exists()
    before = len(list(folder.metrics()))
    assert before > 0
    code = "def stop(n=[0]):\n    n[0] += 1\n    return n[0] == 20\ntrain(spec, should_stop=stop)"
    assert reply_to(client, client.execute(code))["status"] == "ok"
    records = list(folder.metrics())
    assert [each["step"] for each in records] == list(range(2, 2 * len(records) + 1, 2))
    assert len(records) > before
