"""A tuned network as a plain checkpoint of its own architecture, with a head for the new classes."""

import json
from pathlib import Path

from safetensors.torch import load
from torch import Tensor, nn

from lowdim._files import tensor_bytes, write_atomic
from lowdim._preprocessing import Preprocessing
from lowdim.errors import InputError
from lowdim.finetuning._export import logit_difference
from lowdim.finetuning._heads import heads_for, in_form, with_heads
from lowdim.finetuning._prefix import Inputs


def save_checkpoint(
    model: nn.Module,
    base: nn.Module,
    path: Path,
    *,
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
    example: Inputs,
) -> float:
    """Writes all weights, tuned and untouched, under the names of the base network.

    The file loads without lowdim, as ``timm.create_model(NAME, num_classes=K, checkpoint_path=FILE)`` or with
    ``load_state_dict``. Low-rank updates are added into their matrices.

    Args:
        model: A `TunedModel` whose new parts are its head alone: no skip connection and no average.
        base: The network before tuning.
        path: Of the safetensors file; its metadata hold class names and preprocessing.
        classes: Names of the outputs.
        preprocessing: Of the inputs.
        example: Inputs for the comparison.

    Returns:
        Largest absolute difference of the logits between the network with the weights read from the file and the tuned one.

    Raises:
        UsageError: If the method has no form in the base's architecture.
        InputError: If the network has no head that could be replaced, or the logits differ by more than 1e-5 of the largest;
            nothing is written then.

    Example:
        >>> import tempfile, torch
        >>> from lowdim.finetuning import Plan, TunedModel
        >>> from lowdim.models import load_model
        >>> base = load_model("digits-0-4")
        >>> inputs = torch.zeros(2, 1, 8, 8)
        >>> tuned = TunedModel(base.module, Plan("linear-probe"), 2, inputs).eval()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "model.safetensors"
        ...     save_checkpoint(
        ...         tuned, base.module, file, classes=("a", "b"), preprocessing=base.preprocessing, example=inputs
        ...     )
        0.0
    """
    refusal = (
        "A plain checkpoint has no place for a head on several layers (`probe`), a skip connection, an average or text features. Export to "
        'torch or onnx, or tune with `method="linear-probe"` or `method="layer"`.'
    )
    part = in_form(model, "checkpoint", refusal)
    there = with_heads(base, heads_for(base, part.feature, part.head))
    state = there.state_dict()
    tuned = _merged(part.base)
    unknown = sorted(tuned.keys() - state.keys())
    if unknown:
        raise InputError(f"The tuned network has weights that its base has not: {', '.join(unknown[:3])}.")
    there.load_state_dict({**state, **tuned})
    information = {"classes": json.dumps(classes), "preprocessing": json.dumps(preprocessing.as_dict())}
    tensors = {name: tensor.detach().cpu().numpy() for name, tensor in there.state_dict().items()}
    content = tensor_bytes(tensors, information)
    there.load_state_dict(load(content))
    difference = logit_difference(there, model, example)
    write_atomic(path, content)
    return difference


def _merged(base: nn.Module) -> dict[str, Tensor]:
    """The state of a network, with adapters added into the weights that they wrap."""
    adapters = {name: module for name, module in base.named_modules() if hasattr(module, "base_layer")}
    state = {name: tensor for name, tensor in base.state_dict().items() if ".lora_" not in name}
    for name, module in adapters.items():
        weight = f"{name}.base_layer.weight"
        state[weight] = state[weight] + module.get_delta_weight("default")  # pyright: ignore[reportCallIssue]
    return {name.replace(".base_layer.", "."): tensor for name, tensor in state.items()}
