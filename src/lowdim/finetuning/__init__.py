"""Fine-tuning with few labels: one block, a skip connection, or just a probe; measured, saved as a small verified delta."""

from lowdim.finetuning._advise import Advice, advise
from lowdim.finetuning._checkpoint import save_checkpoint
from lowdim.finetuning._delta import Delta, load_delta, read_delta, save_delta
from lowdim.finetuning._evaluate import split_outputs
from lowdim.finetuning._export import export_model
from lowdim.finetuning._finetune import ASKED, Tuned, finetune
from lowdim.finetuning._peft import save_peft
from lowdim.finetuning._plan import COMBINES, METHODS, Plan, auto_block, make_plan
from lowdim.finetuning._prefix import Prefix
from lowdim.finetuning._recipe import Recipe, default_recipe
from lowdim.finetuning._track import tracker
from lowdim.finetuning._tuned import Average, TunedModel

__all__ = [
    "ASKED",
    "COMBINES",
    "METHODS",
    "Advice",
    "Average",
    "Delta",
    "Plan",
    "Prefix",
    "Recipe",
    "Tuned",
    "TunedModel",
    "advise",
    "auto_block",
    "default_recipe",
    "export_model",
    "finetune",
    "load_delta",
    "make_plan",
    "read_delta",
    "save_checkpoint",
    "save_delta",
    "save_peft",
    "split_outputs",
    "tracker",
]
