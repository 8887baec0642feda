"""Fine-tuning and export of networks for texts, and of networks in half precision."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.test_texts import GPT2, SEQ2SEQ, save, split_of
from torch import nn

from lowdim.data import Dataset, Split, batches, dataset_from_arrays
from lowdim.errors import NonFiniteError
from lowdim.finetuning import export_model, finetune, load_delta, read_delta
from lowdim.finetuning._delta import example_of
from lowdim.models import as_model, load_model

pytest.importorskip("transformers")


def texts() -> Dataset:
    """Two kinds of texts that one word tells apart; one is far too long."""
    generator = np.random.default_rng(0)
    rows = [
        " ".join(["cats" if k % 2 else "how", *generator.choice(["a", "b"], 3 + 30 * (k == 5) + k % 4)])
        for k in range(40)
    ]
    splits: dict[str, Split] = {}
    for name, chosen in (("train", range(28)), ("test", range(28, 40))):
        part = split_of([rows[k] for k in chosen])
        labels = np.array([k % 2 for k in chosen])
        splits[name] = Split(name=name, kind="text", labels=labels, items=part.items, read=part.read)
    return Dataset(name="texts", kind="text", classes=("y", "n"), splits=splits)


@pytest.mark.parametrize(
    ("family", "head"), [("gpt2", True), ("bart", True), ("t5", False), ("xlnet", True), ("pegasus", False)]
)
def test_any_family_is_tuned_saved_and_found_again(family: str, head: bool, tmp_path: Path) -> None:
    decoder = family == "gpt2"
    options = {"gpt2": GPT2, "bart": SEQ2SEQ, "t5": SEQ2SEQ, "xlnet": {}, "pegasus": SEQ2SEQ}[family]
    save(tmp_path / "net", family, head=head, wrapped=not decoder, pad=not decoder, **options)
    network, data = load_model(f"hf:{tmp_path / 'net'}"), texts()
    for method in ("layer", "linear-probe"):
        tuned = finetune(network, data, method=method, epochs=2)
        tuned.save(tmp_path / method, network)
        again = load_delta(network.module, tmp_path / method)
        inputs = next(batches(data["test"], network.preprocessing, batch_size=12))[0]
        with torch.inference_mode():
            accuracy = float((again(inputs).argmax(1).numpy() == data["test"].labels).mean())
        assert accuracy == pytest.approx(tuned.accuracy["test"])


def test_auto_tries_a_block_with_texts_and_never_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "net", "gpt2", head=True, wrapped=False, pad=False, **GPT2)
    monkeypatch.setattr("lowdim.finetuning._choice._FAR", 0.0)
    monkeypatch.setattr("lowdim.finetuning._choice._FURTHER", 2.0)
    tuned = finetune(load_model(f"hf:{tmp_path / 'net'}"), texts(), epochs=1)
    assert {"probe", "scl"} <= {row["method"] for row in map(vars, tuned.evidence)}
    assert any("with texts a trained block may pay" in reason for reason in tuned.reasons)
    assert any("was not tried: only with images" in reason for reason in tuned.reasons)


class Small(nn.Module):
    """A network for rows of numbers, of which a factory may make a half-precision one."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(3)])
        self.head = nn.Linear(4, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        rows = rows.to(next(self.parameters()).dtype)
        for block in self.blocks:
            rows = block(rows)
        return self.head(rows)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_trained_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Small().to(dtype).eval()
    rows = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    data = dataset_from_arrays(rows, (rows[:, 0] > 0).astype(int))
    network = as_model(module, kind="features")
    tuned = finetune(network, data, method="layer", layer="blocks.2", epochs=2)
    assert {tensor.dtype for tensor in tuned.model.parameters()} == {torch.float32}
    assert {tensor.dtype for tensor in module.parameters()} == {dtype}
    tuned.save(tmp_path, network)
    assert load_delta(module, tmp_path)(torch.from_numpy(rows[:3])).isfinite().all()


@pytest.mark.parametrize("options", [{"method": "layer", "layer": "blocks.2"}, {"method": "linear-probe"}])
def test_weights_that_half_precision_made_infinite_are_named(options: dict[str, str]) -> None:
    module = Small().eval()
    with torch.no_grad():
        module.blocks[2][0].bias[0] = 1e5  # pyright: ignore[reportIndexIssue]
    rows = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    data = dataset_from_arrays(rows, (rows[:, 0] > 0).astype(int))
    with pytest.raises(NonFiniteError, match=r"weight blocks\.2\.0\.bias holds NaN or infinite.*half precision"):
        finetune(as_model(module.half(), kind="features"), data, **options)


@pytest.mark.parametrize("target", ["torch", "onnx"])
def test_exports_carry_their_tokenizer(target: str, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    save(tmp_path / "net", "bert")
    network, data = load_model(f"hf:{tmp_path / 'net'}"), texts()
    finetune(network, data, method="linear-probe").save(tmp_path / "delta", network)
    model, delta = load_delta(network.module, tmp_path / "delta"), read_delta(tmp_path / "delta")
    path = tmp_path / f"net.{target}"
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export_model(model, delta, network.preprocessing, path, to=target, example=example_of(delta))  # type: ignore[arg-type]
    rules = tokenizers.Tokenizer.from_file(str(tmp_path / "net.tokenizer.json"))
    words = ["how many", " ".join(["cats a"] * 200)]
    inputs = next(batches(split_of(words), network.preprocessing, batch_size=2))[0]
    assert isinstance(inputs, dict)
    encoded = rules.encode_batch(words)
    assert [entry.ids for entry in encoded] == inputs["input_ids"].tolist()
    assert [entry.attention_mask for entry in encoded] == inputs["attention_mask"].tolist()
    if target == "torch":
        return
    graph = onnx.load(path)
    shapes = [[size.dim_param for size in entry.type.tensor_type.shape.dim] for entry in graph.graph.input]
    assert shapes == [["batch", "sequence"]] * len(shapes)
    assert graph.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    about = {entry.key: json.loads(entry.value) for entry in graph.metadata_props}
    assert about["tokenizer"] == "net.tokenizer.json"
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = {entry.name for entry in session.get_inputs()}
    found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items() if name in names})[0]
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(found), model(inputs).softmax(1), rtol=1e-4, atol=1e-5)
