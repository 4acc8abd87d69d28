"""What the tests of several operations begin with."""

import pytest

from tests.ops.making import make
from tests.ops.shop import open_shop


@pytest.fixture
def made(project):
    """A project with raw data, and a model made of it in two steps."""
    return make(project)


@pytest.fixture
def shop(project, tmp_path):
    """A project with two registered versions of a model, the first in production, and a Git remote."""
    return open_shop(project, tmp_path)
