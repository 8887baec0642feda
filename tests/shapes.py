"""The type checker with which tests run the torch rooms: shapes of arrays against their annotations (an int is a float)."""

import functools
from collections.abc import Iterator, Mapping, Sequence, Set

import numpy as np
import torch
from beartype import BeartypeConf, beartype


def check(function):
    """Checks the first of all calls with arguments of the same types, arrays of the same shapes: the others would pass, too."""
    checked, passed = functools.cache(lambda: beartype(conf=BeartypeConf(is_pep484_tower=True))(function)), set()

    @functools.wraps(function)
    def check_once(*arguments, **named):
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # shapes are no numbers then
            return checked()(*arguments, **named)
        key = (*map(_kind, arguments), *named, *map(_kind, named.values()))
        if None in key or key not in passed:
            checked()(*arguments, **named)
            passed.add(key)
        return None

    return check_once


def _kind(value):
    """All that the check of a value depends on; None where that is more than its type, its shape or a word."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return type(value), value.dtype, value.shape
    if isinstance(value, bool | int | str | type):
        return type(value), value
    return None if isinstance(value, Sequence | Mapping | Set | Iterator) else type(value)
