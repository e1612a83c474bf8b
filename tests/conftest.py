"""Fixtures shared by all tests."""

from pathlib import Path

import numpy as np
import pytest

from tests.worlds import rated_world

__all__ = ["rated_world"]
REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real inputs made by other people; the test is skipped where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real inputs are not here: {folder} does not exist")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed, fresh for every test."""
    return np.random.default_rng(20220924)
