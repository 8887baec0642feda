"""The JSON Schema of each command, read as strictly as the tests want it: a field that the schema does not name is an error."""

import functools
import json
from importlib.resources import files

from jsonschema import Draft202012Validator


def schema_of(command):
    return json.loads(files("lowdim.schemas").joinpath(f"{command}.json").read_text())


def closed(schema):
    """The schema with every object of named fields closed against others."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {key: closed(part) for key, part in schema.items()}
    return {"additionalProperties": False, **parts} if "properties" in schema and "type" in schema else parts


@functools.cache
def _validator(command):
    return Draft202012Validator(closed(schema_of(command)))


def violations(result):
    """What a result has against its schema, one line each."""
    found = []
    for error in _validator(result["command"]).iter_errors(result):
        causes = [cause for cause in error.context or [error] if cause.validator != "const"]
        found += [f"{result['command']} {cause.json_path}: {cause.message[:300]}" for cause in causes]
    return found
