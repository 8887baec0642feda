"""What was typed wrong, in one line: the closest names, and where the help is."""

import re
from collections.abc import Iterable
from typing import Any

from lowdim.cli._voice import one_by_one
from lowdim.errors import did_you_mean

_CHOICE = re.compile(r"'(?P<given>[^']*)' is not one of (?P<choices>'.*')")


def usage_message(error: Any) -> str:
    """The message of an error that the parser raised.

    Args:
        error: With ``format_message`` and, where it is known, the context ``ctx`` of the command.
    """
    context = getattr(error, "ctx", None)
    message = " ".join(str(error.format_message()).split())
    if context is None:
        return message
    option = getattr(error, "option_name", None)
    command = re.match(r"No such command '(.*?)'", message)
    if option is not None:
        known = (name for parameter in context.command.params for name in (*parameter.opts, *parameter.secondary_opts))
        message = f"No such option: {option}.{_close(option, known)}"
    elif command is not None:
        message = f"No such command: {command[1]}.{_close(command[1], context.command.list_commands(context))}"
    elif choice := _CHOICE.search(message):
        names = re.findall(r"'([^']*)'", choice["choices"])
        message = message.replace("Value error, ", "").rstrip(".") + "." + _close(choice["given"], names)
        if getattr(parameter := error.param, "multiple", False):
            message += one_by_one(parameter, choice["given"])
    return f"{message}{'' if message.endswith(('.', '?')) else '.'} See: {context.command_path} --help"


def _close(name: str, known: Iterable[str]) -> str:
    """`did_you_mean` with a space before, where there is a close name; the help lists the others."""
    suggestion = did_you_mean(name, known)
    return f" {suggestion}" if suggestion.startswith("Did") else ""
