import os
from pathlib import Path

import pytest


@pytest.fixture
def beauty_root():
    """The real Amazon Beauty folder named by ADASID_BEAUTY."""
    root = os.environ.get("ADASID_BEAUTY")
    if not root:
        pytest.skip("set ADASID_BEAUTY to the folder of the real data")
    return Path(root)
