"""A tuned block as a stock peft adapter, which opens without lowdim."""

import copy
import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn

from lowdim._files import write_atomic
from lowdim.errors import UsageError, require
from lowdim.finetuning._export import logit_difference
from lowdim.finetuning._heads import heads_for, in_form, with_heads
from lowdim.finetuning._prefix import Inputs
from lowdim.finetuning._tuned import TunedModel
from lowdim.finetuning.methods import names_of

_CONFIG = "adapter_config.json"


def save_peft(model: nn.Module, base: nn.Module, folder: Path, example: Inputs) -> float:
    """Writes a peft adapter that replaces the trained leaf modules and the head.

    It opens with ``PeftModel.from_pretrained(network, folder)`` on the same network built with a head for the new classes, such
    as ``timm.create_model(NAME, num_classes=K)``.

    Args:
        model: A `TunedModel` of a method that replaces layers: peft knows no skip connection and no average.
        base: The network before tuning.
        folder: For the adapter.
        example: Inputs for the comparison.

    Returns:
        Largest absolute difference of the logits between the adapter, opened anew, and the tuned network.

    Raises:
        UsageError: If the method has no form in peft, or the folder cannot be made.
        InputError: If the network has no head that could be replaced, or the logits differ by more than 1e-5 of the largest;
            nothing is written then.

    Example:
        >>> import tempfile, torch
        >>> from lowdim.finetuning import Plan, TunedModel
        >>> network, inputs = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), torch.ones(2, 4)
        >>> model = TunedModel(network, Plan("linear-probe"), classes=2, example=inputs).eval()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_peft(model, network, Path(folder) / "adapter", inputs)
        0.0
    """
    peft = require("peft", "A peft folder")
    methods = " or ".join(f'`method="{name}"`' for name in names_of(exports="peft"))
    part = in_form(
        model,
        "peft",
        f"A peft adapter holds replaced layers only, and this is a {_of(model)}: tune with {methods}, or export to torch.",
    )
    heads = heads_for(base, part.feature, part.head)
    leaves = list(heads)
    for block in part.plan.blocks:
        leaves += _owners(part.base.get_submodule(block), block)
    # Into a folder of its own first: the one asked for may hold other files, and an adapter that fails leaves no part there.
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as temporary:
        written = Path(temporary) / "adapter"
        warnings.simplefilter("ignore")
        adapter = peft.get_peft_model(with_heads(base, heads), peft.LNTuningConfig(target_modules=leaves))
        for name in leaves:
            source = heads[name] if name in heads else part.base.get_submodule(name)
            adapter.base_model.model.get_submodule(name).ln_tuning_layers["default"].load_state_dict(
                source.state_dict()
            )
        adapter.save_pretrained(written)
        opened = peft.PeftModel.from_pretrained(with_heads(base, _emptied(heads)), written).eval()
        difference = logit_difference(opened.base_model.model, model, example)
        _place(written, folder)
    return difference


def _of(model: nn.Module) -> str:
    """What a tuned network is, in its method's words."""
    return f"`{model.method.name}`" if isinstance(model, TunedModel) else "average of two networks"


def _emptied(heads: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """The same modules with zeros as weights."""
    empty = copy.deepcopy(heads)
    for head in empty.values():
        head.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in head.state_dict().items()})
    return empty


def _place(written: Path, folder: Path) -> None:
    """Copies the files, the configuration last: without it, the others are no adapter. After a failure nothing new is left."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} cannot be written: it is a file, and a peft adapter is a folder.")
    files = sorted(written.iterdir(), key=lambda file: file.name == _CONFIG)
    new = [folder / file.name for file in files if not (folder / file.name).exists()]
    if (folder / _CONFIG).exists():
        (folder / _CONFIG).unlink()
    existed = folder.exists()
    try:
        for file in files:
            write_atomic(folder / file.name, file.read_bytes())
    except BaseException:
        for path in filter(Path.exists, new):
            path.unlink()
        if not existed and folder.is_dir():
            folder.rmdir()
        raise


def _owners(module: nn.Module, name: str) -> list[str]:
    """The outermost modules that hold parameters or buffers of their own, which may have children beside them, such as a normalisation
    with its activation."""
    if module._parameters or module._buffers:  # pyright: ignore[reportPrivateUsage]
        return [name]
    return [owner for child, inner in module.named_children() for owner in _owners(inner, f"{name}.{child}")]
