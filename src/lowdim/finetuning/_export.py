"""One file to deploy: the tuned network with its preprocessing and classes inside, as PyTorch program or ONNX."""

import io
import json
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from lowdim._files import write_atomic
from lowdim._preprocessing import Preprocessing
from lowdim.errors import InputError, require
from lowdim.features import main_tensor
from lowdim.finetuning._delta import Delta
from lowdim.finetuning._prefix import Inputs, call, samples_in

Target = Literal["torch", "onnx"]
TOLERANCE = 1e-5
_INFO = "lowdim.json"
_TOKENS = 512
"""In a sequence at most, where nothing else is said."""


class _Deployed(nn.Module):
    """Class probabilities; named tensors as positional arguments."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: Tensor) -> Tensor:
        inputs: Inputs = dict(zip(self.names, tensors, strict=True)) if self.names else tensors[0]
        return self.model(inputs).softmax(dim=1)


def export_model(
    model: nn.Module, delta: Delta, preprocessing: Preprocessing, path: Path, *, to: Target, example: Inputs
) -> float:
    """Writes one self-contained file and compares its outputs with the network's.

    The file's output are class probabilities for any number of samples. Its metadata (``lowdim.json`` in a ``.pt2`` file, the
    model's properties in ONNX) hold the preprocessing, the size to which images are resized before the crop, and the class names. A network for texts gets its tokenizer as a second file,
    `tokenizer_path`, which the package ``tokenizers`` reads; it cuts and fills up as the network wants it.

    Args:
        model: The tuned network.
        delta: Where it came from.
        preprocessing: Of its inputs.
        path: The file.
        to: ``"torch"`` (``torch.export``, read it with ``torch.export.load``) or ``"onnx"``.
        example: Inputs of at least two samples.

    Returns:
        The largest absolute difference of a probability between the file and the network, over the example and its first sample.

    Raises:
        InputError: If the network cannot be exported, or the outputs differ by more than 1e-5; nothing is written then.

    Example:
        >>> import tempfile
        >>> from lowdim.finetuning import Plan, TunedModel, read_delta, save_delta
        >>> network, inputs = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), torch.ones(2, 4)
        >>> model = TunedModel(network, Plan("linear-probe"), classes=2, example=inputs).eval()
        >>> about = {"method": "linear-probe", "classes": ["cat", "dog"], "preprocessing": Preprocessing(kind="features")}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     size = save_delta(model, network, Path(folder), example=inputs, **about)
        ...     delta, path = read_delta(Path(folder)), Path(folder) / "model.pt2"
        ...     export_model(model, delta, about["preprocessing"], path, to="torch", example=inputs) < 1e-5
        True
    """
    names = tuple(example) if isinstance(example, dict) else ()
    tensors = tuple(tensor.cpu() for tensor in (example.values() if isinstance(example, dict) else [example]))
    deployed = _Deployed(model, names).cpu().eval()
    information: dict[str, Any] = {
        "classes": list(delta.classes),
        "preprocessing": preprocessing.as_dict(),
        "method": delta.method,
        "inputs": list(names) or ["inputs"],
        "output": "class probabilities",
    }
    if preprocessing.resized is not None:
        information["resized"] = list(preprocessing.resized)
    rules = _tokenizer(preprocessing)
    if rules is not None:
        information["tokenizer"] = tokenizer_path(path).name
    try:
        program = _program(deployed, tensors, preprocessing.max_length or _TOKENS)
        content = (
            _torch_bytes(program, information)
            if to == "torch"
            else _onnx_bytes(program, information, names or ("inputs",))
        )
    except (RuntimeError, ValueError, TypeError, torch._dynamo.exc.TorchDynamoException) as error:  # pyright: ignore[reportAttributeAccessIssue]
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"The network cannot be exported to {to}: {reason}") from error
    run = _torch_runner(content) if to == "torch" else _onnx_runner(content, names or ("inputs",))
    difference = 0.0
    with torch.inference_mode():
        for count in (samples_in(example), 1):
            part = tuple(tensor[:count] for tensor in tensors)
            difference = max(difference, float((run(part) - deployed(*part)).abs().max()))
    if not difference <= TOLERANCE:
        raise InputError(
            f"The export differs from the network by {difference:.2g}, more than {TOLERANCE:g}. It was not written."
        )
    if rules is not None:
        write_atomic(tokenizer_path(path), rules.encode())
    write_atomic(path, content)
    return difference


def tokenizer_path(path: Path) -> Path:
    """Where the tokenizer of an exported network for texts lies: beside it, ``model.tokenizer.json`` for ``model.onnx``."""
    return path.with_suffix(".tokenizer.json")


def _tokenizer(preprocessing: Preprocessing) -> str | None:
    """The tokenizer of a network as `tokenizers` reads it, set as lowdim uses it; None where there is none of that kind."""
    backend = getattr(preprocessing.tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    own = preprocessing.tokenizer
    copied = type(backend).from_str(backend.to_str())
    copied.enable_truncation(preprocessing.max_length)
    copied.enable_padding(
        direction=own.padding_side, pad_id=own.pad_token_id, pad_type_id=own.pad_token_type_id, pad_token=own.pad_token
    )
    return copied.to_str(pretty=True)


def logit_difference(network: nn.Module, model: nn.Module, example: Inputs) -> float:
    """The largest absolute difference of the logits of an export in the base's own form, opened anew, from those of the tuned
    network; an error if it is more than 1e-5 of the largest logit."""
    with torch.inference_mode():
        expected = model(example)
        found = main_tensor(call(network, example))
        assert found is not None
        error = found.reshape(expected.shape) - expected
    difference, largest = (float(tensor.abs().max()) for tensor in (error, expected))
    if not difference <= TOLERANCE * largest:
        raise InputError(
            f"The exported weights give outputs that differ from the network's by {difference:.2g}, more than {TOLERANCE:g} of the "
            f"largest ({largest:.2g}). They were not written. Export to torch or onnx instead."
        )
    return difference


def _program(deployed: nn.Module, tensors: tuple[Tensor, ...], longest: int) -> Any:
    samples = torch.export.Dim("samples", min=1)
    shapes: tuple[dict[int, Any], ...] = tuple({0: samples} for _ in tensors)
    if tensors[0].ndim == 2 and len(tensors) > 1:
        tokens = torch.export.Dim("tokens", min=2, max=longest)
        shapes = tuple({0: samples, 1: tokens} for _ in tensors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(deployed, tensors, dynamic_shapes=(shapes,), strict=False)


def _torch_bytes(program: Any, information: dict[str, Any]) -> bytes:
    # Not to a file: where the disk is full, PyTorch's writer ends the process.
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={_INFO: json.dumps(information)})
    return buffer.getvalue()


def _onnx_bytes(program: Any, information: dict[str, Any], names: tuple[str, ...]) -> bytes:
    require("onnxscript", "Export to ONNX")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = torch.onnx.export(
            program, input_names=list(names), output_names=["probabilities"], dynamo=True, verbose=False
        )
        assert converted is not None
        _name_dimensions(converted.model.graph)
        for key, value in information.items():
            converted.model.metadata_props[key] = json.dumps(value)
        return converted.model_proto.SerializeToString()


def _name_dimensions(graph: Any) -> None:
    """Calls the dimensions that may vary ``batch`` and ``sequence`` instead of by PyTorch's own symbols."""
    from onnx_ir import SymbolicDim

    varying = [str(size.value) for size in graph.inputs[0].shape if isinstance(size, SymbolicDim)]
    names = dict(zip(varying, ("batch", "sequence"), strict=False))
    for value in [*graph.inputs, *graph.outputs, *(output for node in graph for output in node.outputs)]:
        for axis, size in enumerate(value.shape or ()):
            if str(getattr(size, "value", size)) in names:
                value.shape[axis] = SymbolicDim(names[str(size.value)])


def _torch_runner(content: bytes) -> Any:
    loaded = torch.export.load(io.BytesIO(content)).module()
    return lambda tensors: loaded(*tensors)


def _onnx_runner(content: bytes, names: tuple[str, ...]) -> Any:
    runtime = require("onnxruntime", "Checking an ONNX file")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    inputs = [entry.name for entry in session.get_inputs()]

    def run(tensors: tuple[Tensor, ...]) -> Tensor:
        fed = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True) if name in inputs}
        output: np.ndarray = session.run(None, fed)[0]
        return torch.from_numpy(output)

    return run
