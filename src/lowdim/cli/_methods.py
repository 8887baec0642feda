"""The fine-tuning methods as options take them: read from their records, which need no torch."""

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING

from lowdim.finetuning.methods import ASKED, names_of


def _choices(names: Iterable[str]) -> dict[str, str]:
    return {name.replace("-", "_"): name for name in names}


if TYPE_CHECKING:
    MethodChoice = AlsoChoice = StrEnum
else:
    MethodChoice = StrEnum("MethodChoice", _choices(ASKED))
    AlsoChoice = StrEnum("AlsoChoice", _choices(names_of(also=True)))
AUTO = MethodChoice("auto")
