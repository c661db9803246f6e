"""One browser for all pages."""

import pytest
from helpers import browsing
from playwright.sync_api import expect

expect.set_options(timeout=30_000)  # a first question compiles, on a busy machine for longer than the default of 5 s


@pytest.fixture(scope="session")
def browser():
    with browsing.launched() as browser:
        yield browser
