"""A small file of labelled names, for tests that train."""

import pytest
from labelled_names import write_names


@pytest.fixture(scope="session")
def names(tmp_path_factory):
    return write_names(tmp_path_factory.mktemp("data") / "names.csv")
