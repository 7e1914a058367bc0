"""Let the assertions of the shared helpers explain themselves."""

import pytest

pytest.register_assert_rewrite("optim_cases")
