"""What a sentence encoder's folder says beside its network: how tokens become one row, and what follows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lowdim.errors import InputError
from lowdim.features import Pool

_POOLS: dict[str, Pool] = {
    "mean_tokens": "mean",
    "mean": "mean",
    "cls_token": "cls",
    "cls": "cls",
    "lasttoken": "last",
}
_MODE = "pooling_mode_"


@dataclass(frozen=True)
class SentenceEncoder:
    """What comes with a network of sentence-transformers.

    Attributes:
        pool: How its tokens become one row; None where it does not say.
        max_length: The longest sequence that it was made for.
        notes: Parts that lowdim leaves out.
    """

    pool: Pool | None = None
    max_length: Any = None
    notes: tuple[str, ...] = ()


def sentence_encoder(read: Callable[[str], Any], *, pool: Pool | None) -> SentenceEncoder:
    """What the files of a model say.

    Args:
        read: Gives the content of a JSON file by its name, None where there is none.
        pool: What the caller wants instead.

    Raises:
        InputError: If it pools in a way that lowdim has not.
    """
    said = read("sentence_bert_config.json")
    said = said if isinstance(said, dict) else {}
    modules = read("modules.json")
    kinds = {
        str(module.get("type", "")).rpartition(".")[2]: str(module.get("path", ""))
        for module in (modules if isinstance(modules, list) else [])
        if isinstance(module, dict)
    }
    notes: list[str] = []
    if "Normalize" in kinds:
        notes.append(
            "sentence-transformers scales its embeddings to length one; the feature is what they are before that"
        )
    beside = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if beside:
        notes.append(f"left out, as they come after the pooling of the sentence encoder: {', '.join(beside)}")
    if said.get("do_lower_case"):
        notes.append("sentence-transformers makes texts lower case before its tokenizer; lowdim does not")
    if pool is None:
        pool = _pool_of(read(f"{kinds.get('Pooling', '1_Pooling')}/config.json"))
    return SentenceEncoder(pool, said.get("max_seq_length"), tuple(notes))


def _pool_of(said: Any) -> Pool | None:
    if not isinstance(said, dict):
        return None
    modes = [name.removeprefix(_MODE) for name, value in said.items() if name.startswith(_MODE) and value is True]
    if isinstance(said.get("pooling_mode"), str):
        modes.append(said["pooling_mode"])
    if not modes:
        return None
    if len(modes) > 1 or modes[0] not in _POOLS:
        raise InputError(
            f"the sentence encoder pools its tokens by {' and '.join(modes)}, which lowdim has not. Choose another with `pool`, such as "
            '`pool="mean"`.'
        )
    return _POOLS[modes[0]]
