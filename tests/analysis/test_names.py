"""The public names of `analysis`."""

import lazy_loader
import pytest

import analysis


def test_the_list_of_names_is_read_once(monkeypatch):
    assert "scale_factors" in dir(analysis)

    def again(*_):
        pytest.fail("it was read again")

    monkeypatch.setattr(lazy_loader, "attach_stub", again)
    assert analysis.Table is not None
    assert analysis.__all__ == dir(analysis)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = analysis.no_such_name
