"""One file to deploy: the tuned network with its preprocessing and classes inside, as PyTorch program or ONNX."""

import json
import tempfile
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
    model's properties in ONNX) hold the preprocessing and the class names.

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
        InputError: If the network cannot be exported, or the outputs differ by more than 1e-5; the file is then removed.

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
    information = {
        "classes": list(delta.classes),
        "preprocessing": preprocessing.as_dict(),
        "method": delta.method,
        "inputs": list(names) or ["inputs"],
        "output": "class probabilities",
    }
    try:
        program = _program(deployed, tensors)
        if to == "torch":
            _write_torch(program, path, information)
        else:
            _write_onnx(program, path, information, names or ("inputs",))
    except (RuntimeError, ValueError, TypeError, torch._dynamo.exc.TorchDynamoException) as error:  # pyright: ignore[reportAttributeAccessIssue]
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"The network cannot be exported to {to}: {reason}") from error
    run = _torch_runner(path) if to == "torch" else _onnx_runner(path, names or ("inputs",))
    difference = 0.0
    with torch.inference_mode():
        for count in (samples_in(example), 1):
            part = tuple(tensor[:count] for tensor in tensors)
            difference = max(difference, float((run(part) - deployed(*part)).abs().max()))
    if not difference <= TOLERANCE:
        path.unlink()
        raise InputError(
            f"The exported file differs from the network by {difference:.2g}, more than {TOLERANCE:g}. It was removed."
        )
    return difference


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
            f"largest ({largest:.2g}). They were removed. Export to torch or onnx instead."
        )
    return difference


def _program(deployed: nn.Module, tensors: tuple[Tensor, ...]) -> Any:
    samples = torch.export.Dim("samples", min=1)
    shapes: tuple[dict[int, Any], ...] = tuple({0: samples} for _ in tensors)
    if tensors[0].ndim == 2 and len(tensors) > 1:
        tokens = torch.export.Dim("tokens", min=2, max=512)
        shapes = tuple({0: samples, 1: tokens} for _ in tensors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(deployed, tensors, dynamic_shapes=(shapes,), strict=False)


def _write_torch(program: Any, path: Path, information: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.pt2"
        torch.export.save(program, file, extra_files={_INFO: json.dumps(information)})
        write_atomic(path, file.read_bytes())


def _write_onnx(program: Any, path: Path, information: dict[str, Any], names: tuple[str, ...]) -> None:
    require("onnxscript", "Export to ONNX")
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        converted = torch.onnx.export(
            program, input_names=list(names), output_names=["probabilities"], dynamo=True, verbose=False
        )
        assert converted is not None
        for key, value in information.items():
            converted.model.metadata_props[key] = json.dumps(value)
        file = Path(folder) / "model.onnx"
        converted.save(file, external_data=False)
        write_atomic(path, file.read_bytes())


def _torch_runner(path: Path) -> Any:
    loaded = torch.export.load(path).module()
    return lambda tensors: loaded(*tensors)


def _onnx_runner(path: Path, names: tuple[str, ...]) -> Any:
    runtime = require("onnxruntime", "Checking an ONNX file")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = [entry.name for entry in session.get_inputs()]

    def run(tensors: tuple[Tensor, ...]) -> Tensor:
        fed = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True) if name in inputs}
        output: np.ndarray = session.run(None, fed)[0]
        return torch.from_numpy(output)

    return run
