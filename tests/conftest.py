"""Fixtures shared by all tests."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.remotes import in_memory, s3, s3_server
from tests.worlds import rated_world

__all__ = ["in_memory", "rated_world", "s3", "s3_server"]
REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Exports of models are kept for the tests alone, whichever process makes them."""
    os.environ["IAA_CACHE"] = str(tmp_path_factory.mktemp("cache"))


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
