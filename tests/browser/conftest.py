"""One browser for all pages."""

import pytest
from helpers import browsing


@pytest.fixture(scope="session")
def browser():
    with browsing.launched() as browser:
        yield browser
