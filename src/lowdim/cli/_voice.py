"""What the command line says: the library speaks of parameters, a person at a terminal types options.

The library writes a parameter in backticks, alone or with a value: `` `layer` ``, `` `batch_norm="batch"` ``. Where the running
command has an option for it, that is what is printed: ``--layer``, ``--batch-norm batch``. Other text in backticks stays as it is.
"""

import ast
import os
import re
import shlex
import sys
from collections.abc import Mapping
from typing import Any, cast

ALIASES = {
    "arguments": "model_arg",
    "assignments": "set",
    "classes": "labels",
    "folder": "out",
    "names": "weights",
    "pools": "pool",
    "problem": "data",
    "prompts": "prompt",
    "random_state": "seed",
    "share": "missing",
    "spec": "model",
    "splits": "split",
    "budget": "cache_budget",
    "candidates": "model",
    "columns": "col",
    "rows": "row",
    "values": "value",
    "probe=False": "no_probe",
    "module.named_modules()": "list_layers",
    "model.named_modules()": "list_layers",
    "named_modules()": "list_layers",
}
"""Names of the library, where the option has another. A name that the command itself has comes first."""

_QUOTED = re.compile(r"`([^`\s=]+)(?:=([^`]+))?`")
_running: dict[str, Any] = {}
_elsewhere: dict[str, Any] = {}
_given: dict[str, Any] = {}


def use(
    parameters: Mapping[str, Any], others: Mapping[str, Any] | None = None, given: Mapping[str, Any] | None = None
) -> None:
    """Says which command runs: its parameters by name, as the parser knows them, those of `others`, of which a message may speak
    with a value (what an export lacks is an option of another command), and the values that were `given` to its own."""
    for known, new in ((_running, parameters), (_elsewhere, others), (_given, given)):
        known.clear()
        known.update(new or {})


def has_option(name: str) -> bool:
    """Whether the running command has an option of this name."""
    return name in _running


def in_flags(message: str) -> str:
    """The message with parameters of the running command as its options."""
    return _QUOTED.sub(_option, message)


def spoken(error: Exception) -> str:
    """The message of an error, with the option at fault in front where the error knows it and the message does not say it."""
    message, argument = in_flags(str(error)), getattr(error, "argument", None)
    flag = in_flags(f"`{argument}`") if argument else ""
    message = message if not flag.startswith("-") or flag in message else f"{flag}: {message}"
    return message + "".join(
        one_by_one(parameter, text)
        for name, parameter in _running.items()
        for text in (_given.get(name) or () if parameter.multiple or parameter.nargs == -1 else ())
        if str(text) in message
    )


def one_by_one(parameter: Any, text: str) -> str:
    """How to give several values to a parameter that can be repeated, where they were joined by commas; empty where they were not."""
    if "," not in text:
        return ""
    values = [value.strip() for value in text.split(",")]
    option = parameter.param_type_name == "option"
    return f" Several are given one by one: {_with_value(parameter, repr(values)) if option else shlex.join(values)}."


_SENTENCES = {"warnings", "notes", "reasons", "message", "error", "reason"}


def result_in_flags(result: Any) -> Any:
    """A command's result, with the sentences in it in options; names and values stay as they are."""
    if isinstance(result, list):
        return [result_in_flags(item) for item in cast("list[Any]", result)]
    if not isinstance(result, dict):
        return result
    return {
        key: _sentences(value) if key in _SENTENCES else value if key == "config" else result_in_flags(value)
        for key, value in cast("dict[str, Any]", result).items()
    }


def _sentences(value: Any) -> Any:
    if isinstance(value, list):
        return [_sentences(item) for item in cast("list[Any]", value)]
    return in_flags(value) if isinstance(value, str) else value


def _option(found: "re.Match[str]") -> str:
    name, value = found.groups()
    if (whole := ALIASES.get(found[0].strip("`"), "")) in _running:
        return _flag(_running[whole])
    parameter = _running.get(name) or _running.get(ALIASES.get(name, ""))
    if parameter is not None:
        return _flag(parameter) if value is None else _with_value(parameter, value)
    if value is None:
        return found[0]
    if (settings := _running.get("assignments")) is not None:
        return f"{_flag(settings)} {name}={_plain(value)}"
    return _with_value(_elsewhere[name], value) if name in _elsewhere else found[0]


def _flag(parameter: Any) -> str:
    return max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.human_readable_name


def _with_value(parameter: Any, text: str) -> str:
    flag = _flag(parameter)
    if text in ("True", "False") and parameter.param_type_name == "option":
        return flag if text == "True" else next(iter(parameter.secondary_opts), flag)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):  # a placeholder, such as FILE
        return f"{flag} {text}"
    if isinstance(value, list | tuple) and getattr(parameter, "multiple", False):
        return " ".join(f"{flag} {shlex.quote(str(item))}" for item in cast("list[Any]", value))
    return f"{flag} {shlex.quote(_plain(text))}"


def _plain(text: str) -> str:
    """A value as it is typed: text without quotes, a list with commas."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return ",".join(map(str, cast("list[Any]", value))) if isinstance(value, list | tuple) else str(value)


def this_process() -> int:
    """Which of the processes started by torchrun this is; 0 when alone. Only process 0 prints."""
    return int(os.environ.get("RANK", "0"))


def say(message: str) -> None:
    """A line for the person watching, on stderr."""
    if this_process() == 0:
        print(in_flags(message), file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """A warning, on stderr."""
    say(f"warning: {message}")
