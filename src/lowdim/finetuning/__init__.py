"""Fine-tuning with few labels: one block, a skip connection, or just a probe; measured, saved as a small verified delta.

The names are imported on first use, so that the command line knows the methods without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lowdim.finetuning._advise import Advice as Advice
    from lowdim.finetuning._advise import advise as advise
    from lowdim.finetuning._blocks import auto_block as auto_block
    from lowdim.finetuning._blocks import make_plan as make_plan
    from lowdim.finetuning._checkpoint import save_checkpoint as save_checkpoint
    from lowdim.finetuning._delta import Delta as Delta
    from lowdim.finetuning._delta import load_delta as load_delta
    from lowdim.finetuning._delta import read_delta as read_delta
    from lowdim.finetuning._delta import save_delta as save_delta
    from lowdim.finetuning._evaluate import split_outputs as split_outputs
    from lowdim.finetuning._export import export_model as export_model
    from lowdim.finetuning._finetune import finetune as finetune
    from lowdim.finetuning._peft import save_peft as save_peft
    from lowdim.finetuning._plan import COMBINES as COMBINES
    from lowdim.finetuning._plan import Plan as Plan
    from lowdim.finetuning._prefix import Prefix as Prefix
    from lowdim.finetuning._recipe import Recipe as Recipe
    from lowdim.finetuning._result import Tuned as Tuned
    from lowdim.finetuning._track import tracker as tracker
    from lowdim.finetuning._tuned import Average as Average
    from lowdim.finetuning._tuned import TunedModel as TunedModel
    from lowdim.finetuning.methods import ASKED as ASKED
    from lowdim.finetuning.methods import METHODS as METHODS
    from lowdim.finetuning.methods import default_recipe as default_recipe

_HOMES = {
    "_advise": "Advice advise",
    "_blocks": "auto_block make_plan",
    "_checkpoint": "save_checkpoint",
    "_delta": "Delta load_delta read_delta save_delta",
    "_evaluate": "split_outputs",
    "_export": "export_model",
    "_finetune": "finetune",
    "_peft": "save_peft",
    "_plan": "COMBINES Plan",
    "_prefix": "Prefix",
    "_recipe": "Recipe",
    "_result": "Tuned",
    "_track": "tracker",
    "_tuned": "Average TunedModel",
    "methods": "ASKED METHODS default_recipe",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
