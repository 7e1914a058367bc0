"""What holds for all tests of the optimizers."""

from pathlib import Path

import pytest

pytest.register_assert_rewrite("optim_cases")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where there is an accelerator, torch advises against capturable without a capture."""
    advice = pytest.mark.filterwarnings("ignore:This instance was constructed with capturable")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(advice)
