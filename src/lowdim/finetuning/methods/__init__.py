"""The ways to fine-tune, one file each. Importing them needs no torch.

A new method is a file here with its record in `METHOD`, and a line in `_FILES`.
"""

import importlib
from collections.abc import Sequence

from lowdim.errors import UsageError, did_you_mean
from lowdim.finetuning._plan import Options
from lowdim.finetuning._recipe import Recipe
from lowdim.finetuning.methods._method import Decision as Decision
from lowdim.finetuning.methods._method import Method as Method

_FILES = (
    "auto",
    "probe",
    "linear_probe",
    "layer",
    "scl",
    "ensemble",
    "ensemble_adapt",
    "lp_ft",
    "adapt",
    "full",
    "lora",
    "norm",
    "zero_shot",
    "text_probe",
    "text_projection",
)


_READ: list[Method] = [importlib.import_module(f"{__name__}.{file}").METHOD for file in _FILES]
RECORDS = {record.name: record for record in _READ}
ASKED = tuple(RECORDS)
METHODS = tuple(record.name for record in RECORDS.values() if record.single)


def method_named(name: str, *, single: bool = False) -> Method:
    """The record of a method; perhaps only of one that fits a single network."""
    record = RECORDS.get(name)
    if record is None or (single and not record.single):
        names = [known.name for known in RECORDS.values() if known.single or not single]
        raise UsageError(f"There is no method {name!r}. {did_you_mean(name, names)}", argument="method")
    return record


def weights_of(methods: Sequence[str]) -> tuple[float, ...]:
    """How networks tuned by these methods are weighed where they answer together; empty for the mean of their probabilities."""
    return next((record.weights for record in RECORDS.values() if record.parts == tuple(methods)), ())


def names_of(reads: str = "", *, also: bool = False, exports: str = "") -> list[str]:
    """The methods that read an argument, that ``auto`` may be asked to try, or that can be exported in a form."""
    return [
        record.name
        for record in RECORDS.values()
        if (not reads or reads in record.reads)
        and (not also or record.also)
        and (not exports or exports in record.exports)
    ]


def check_options(record: Method, options: Options) -> None:
    """Refuses arguments that a method does not read, where doing without them in silence would surprise."""
    if options.batch_norm != "frozen" and "batch_norm" not in record.reads:
        raise UsageError(
            f'`batch_norm="batch"` goes with {_either(names_of("batch_norm"))}; other methods always keep the statistics.',
            argument="batch_norm",
        )
    if options.also and "also" not in record.reads:
        raise UsageError(f"`also` goes with {_either(names_of('also'))}, not {record.name}.", argument="also")
    if options.minutes is not None and not ("minutes" in record.reads and options.minutes > 0):
        raise UsageError(
            f"`minutes` is a positive number and goes with {_either(names_of('minutes'))}.", argument="minutes"
        )
    known = names_of(also=True)
    for name in options.also:
        if name not in known:
            raise UsageError(f"auto cannot also try {name!r}. {did_you_mean(name, known)}", argument="also")


def _either(names: list[str]) -> str:
    return " or ".join(f'`method="{name}"`' for name in names)


def default_recipe(method: str, samples: int, classes: int) -> Recipe:
    """The recipe of a method; it needs no tuning.

    Args:
        method: One that is trained by steps.
        samples: Training samples; few of them get more epochs.
        classes: Their classes; with at least 12 samples per class a trained block starts from a softer probe.

    Returns:
        The recipe.

    Raises:
        UsageError: If the method is not trained by steps.

    Example:
        >>> [default_recipe("layer", samples, classes=10).epochs for samples in (25, 100, 200, 800)]
        [100, 34, 30, 12]
        >>> [default_recipe("scl", samples, classes=10).temperature for samples in (100, 200)]
        [1.0, 3.0]
    """
    recipe = method_named(method, single=True).recipe
    if recipe is None:
        raise UsageError(f"The method {method} is not trained by steps, so that it has no recipe.", argument="method")
    return recipe(samples, classes)
