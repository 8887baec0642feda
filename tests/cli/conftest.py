"""Every JSON that a command prints or stores in any of these tests is held against its schema."""

import json

import pytest

from contracts import violations
from lowdim import _files


@pytest.fixture(scope="module", autouse=True)
def _violations():
    """Collected here, because a command turns an exception into an exit code. Not for the session: other rooms write other files."""
    found, to_json = [], _files.to_json

    def checked(value):
        text = to_json(value)
        if isinstance(value, dict) and "schema_version" in value:
            found.extend(violations(json.loads(text)))
        return text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_files, "to_json", checked)
        yield found


@pytest.fixture(autouse=True)
def _output_obeys_its_schema(_violations):
    yield
    found, _violations[:] = list(_violations), []
    assert not found
