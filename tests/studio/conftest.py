from __future__ import annotations

import pytest

from studio.session import Session


@pytest.fixture
def session(workspace) -> Session:
    return Session(workspace)
