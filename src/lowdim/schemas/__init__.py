"""What the JSON of a command and ``result.json`` hold: one JSON Schema per command, in ``COMMAND.json`` beside this file."""

SCHEMA_VERSION = 1
"""Within one version fields may be added; none is renamed, removed or given another meaning."""
