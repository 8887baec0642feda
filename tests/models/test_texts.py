"""What a network of transformers gives for a text does not depend on the texts beside it, whatever its family."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lowdim.data import Split, batches, load_data
from lowdim.data._batches import by_length, cut_texts
from lowdim.errors import InputError
from lowdim.features import Forward, recorded
from lowdim.features._pooling import pool_output
from lowdim.models import LoadedModel, default_layers, load_model

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "how", "many", "cats", "a", "b"]
SMALL: dict[str, Any] = dict.fromkeys(("num_hidden_layers", "num_attention_heads"), 2)
SMALL.update(vocab_size=64, hidden_size=16, intermediate_size=32, max_position_embeddings=66)
HALVES = (
    "encoder_layers",
    "decoder_layers",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "num_layers",
    "num_heads",
)
SEQ2SEQ: dict[str, Any] = dict.fromkeys((*HALVES, "eos_token_id", "decoder_start_token_id"), 2)
SEQ2SEQ.update(d_model=16, d_kv=8, d_ff=32, encoder_ffn_dim=32, decoder_ffn_dim=32)
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 66}
TEXTS = ["how many cats a b", "a b", " ".join(["many cats"] * 60)]


def save(
    folder: Path, family: str, *, head: bool = False, wrapped: bool = True, pad: bool = True, **options: Any
) -> Any:
    """A tiny network of a family with a tokenizer of whole words; `wrapped`: special tokens around each text."""
    settings = SMALL | ({"num_key_value_heads": 2} if family in ("llama", "mistral") else {})
    if family == "xlnet":
        settings = {"vocab_size": 64, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32}
    config = transformers.AutoConfig.for_model(family, **{**settings, **options})
    factory = transformers.AutoModelForSequenceClassification if head else transformers.AutoModel
    torch.manual_seed(0)
    network = factory.from_config(config)
    network.save_pretrained(folder)
    rules = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: k for k, word in enumerate(WORDS)}, "<unk>"))
    rules.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if wrapped:
        rules.post_processor = tokenizers.processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    special: dict[str, Any] = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    special |= {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"} | ({"pad_token": "<pad>"} if pad else {})
    transformers.PreTrainedTokenizerFast(tokenizer_object=rules, **special).save_pretrained(folder)
    return network.eval()


def split_of(texts: list[Any]) -> Split:
    names = [f"row {k + 2}" for k in range(len(texts))]
    return Split(name="train", kind="text", labels=np.zeros(len(texts), np.int64), items=names, read=lambda k: texts[k])


def outputs(model: LoadedModel, texts: list[Any]) -> torch.Tensor:
    """Mean tokens, or logits where there is a head."""
    inputs = next(batches(split_of(texts), model.preprocessing, batch_size=len(texts)))[0]
    assert isinstance(inputs, dict)
    with torch.inference_mode():
        found = model.module(**inputs)
    if hasattr(found, "logits"):
        return found.logits
    return pool_output(found.last_hidden_state, "mean", inputs["attention_mask"], "last")


@pytest.mark.parametrize(
    ("family", "options", "longest", "kind"),
    [
        ("bert", {}, 66, "BertModel"),
        ("roberta", {"pad_token_id": 1}, 64, "RobertaModel"),
        ("mpnet", {"pad_token_id": 1}, 64, "MPNetModel"),
        ("esm", {"pad_token_id": 1, "position_embedding_type": "absolute"}, 64, "EsmModel"),
        ("deberta-v2", {"max_position_embeddings": 66}, 66, "DebertaV2Model"),
        ("xlnet", {}, 512, "XLNetModel"),
        ("gpt2", GPT2, 66, "GPT2Model"),
        ("llama", {}, 66, "LlamaModel"),
        ("t5", SEQ2SEQ, 66, "T5Stack"),
        ("bart", SEQ2SEQ, 66, "BartEncoder"),
    ],
)
@pytest.mark.parametrize("head", [False, True])
def test_a_text_gives_the_same_alone_and_beside_others(
    family: str, options: dict[str, Any], longest: int, kind: str, head: bool, tmp_path: Path
) -> None:
    decoder = family in ("gpt2", "llama")
    save(tmp_path, family, head=head, wrapped=not decoder, pad=not decoder, **options)
    model = load_model(f"hf:{tmp_path}")
    assert model.preprocessing.max_length == longest
    name = type(model.module).__name__
    assert name == kind if not head else name.endswith("ForSequenceClassification")
    texts = TEXTS[:2] if kind == "T5Stack" and head else TEXTS  # its head wants every end, and the long text is cut
    together, alone = outputs(model, texts), torch.cat([outputs(model, [text]) for text in texts])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)  # of values near 1, or of 0.1


def test_decoders_read_the_last_token_as_they_would_alone(tmp_path: Path) -> None:
    network = save(tmp_path, "gpt2", head=True, wrapped=False, pad=False, **GPT2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    with torch.inference_mode():
        expected = torch.cat([network(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS[:2]])
    torch.testing.assert_close(outputs(load_model(f"hf:{tmp_path}"), TEXTS[:2]), expected, rtol=1e-4, atol=1e-6)


def test_encoders_saved_without_their_decoder(tmp_path: Path) -> None:
    network = save(tmp_path, "t5", **SEQ2SEQ)
    transformers.T5EncoderModel.from_pretrained(tmp_path).save_pretrained(tmp_path)
    model = load_model(f"hf:{tmp_path}")
    assert model.notes == ()
    torch.testing.assert_close(model.module.state_dict(), network.encoder.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("family", ["longformer", "led"])
def test_networks_that_fill_texts_up_to_their_window_keep_it_out_of_every_mean(family: str, tmp_path: Path) -> None:
    save(tmp_path, family, attention_window=16, **({"pad_token_id": 1} if family == "longformer" else SEQ2SEQ))
    model = load_model(f"hf:{tmp_path}")
    texts = ["how many cats a b", "a b", "many cats " * 7]
    inputs = [next(batches(split_of([text]), model.preprocessing, batch_size=1))[0] for text in texts]
    together = next(batches(split_of(texts), model.preprocessing, batch_size=3))[0]
    feature = model.feature(together)
    assert isinstance(together, dict) and together["input_ids"].shape[1] == 16
    short = {name: tensor[:, :7] for name, tensor in together.items()}
    assert feature.filled and feature.as_dict() == model.feature(short).as_dict()
    keys = [(layer, "avg") for layer in default_layers(model.module, feature)]
    forward = Forward(model.module, keys, torch.device("cpu"), feature.layout)
    rows = forward(together)
    for k, alone in enumerate(map(forward, inputs)):
        for name in forward.names:
            torch.testing.assert_close(rows[name][k : k + 1], alone[name], rtol=1e-4, atol=1e-5)


def test_tokens_that_the_network_does_not_know_do_not_fill_up(tmp_path: Path) -> None:
    save(tmp_path, "bert", vocab_size=len(WORDS))
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "pad_token": "[PAD]"}))
    outputs(load_model(f"hf:{tmp_path}"), TEXTS)


@pytest.mark.parametrize("said", [-1, None, 10**30, 0])
def test_lengths_without_bound_or_below_zero(said: int | None, tmp_path: Path) -> None:
    save(tmp_path, "t5", **SEQ2SEQ)
    for name, key in (("tokenizer_config.json", "model_max_length"), ("config.json", "max_position_embeddings")):
        file = tmp_path / name
        file.write_text(json.dumps({**json.loads(file.read_text()), key: said}))
    assert load_model(f"hf:{tmp_path}").preprocessing.max_length == 512


def test_the_length_of_a_sentence_encoder_is_its_own(tmp_path: Path) -> None:
    save(tmp_path, "bert")
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 20, "do_lower_case": false}')
    assert load_model(f"hf:{tmp_path}").preprocessing.max_length == 20
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": null}')
    assert load_model(f"hf:{tmp_path}").preprocessing.max_length == 66


def sentence_folder(folder: Path, mode: dict[str, Any], *kinds: str) -> Any:
    network = save(folder, "bert")
    modules = [
        {"path": f"{k}_{kind}", "type": f"sentence_transformers.models.{kind}"} for k, kind in enumerate(kinds, 1)
    ]
    (folder / "modules.json").write_text(json.dumps([{"path": "", "type": "x.Transformer"}, *modules]))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **mode}))
    return network


@pytest.mark.parametrize("pool", ["mean", "cls", "last"])
def test_a_sentence_encoder_pools_as_its_folder_says(pool: str, tmp_path: Path) -> None:
    name = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}[pool]
    modes = {f"pooling_mode_{mode}": mode == name for mode in ("cls_token", "mean_tokens", "max_tokens", "lasttoken")}
    network = sentence_folder(tmp_path, modes, "Pooling", "Dense", "Normalize")
    model = load_model(f"hf:{tmp_path}")
    inputs = next(batches(split_of(TEXTS), model.preprocessing, batch_size=3))[0]
    assert isinstance(inputs, dict)
    feature, mask = model.feature(inputs), inputs["attention_mask"]
    with torch.no_grad():
        tokens = network(**inputs).last_hidden_state
    expected = {
        "mean": (tokens * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True),
        "cls": tokens[:, 0],
        "last": tokens[torch.arange(3), mask.sum(1) - 1],
    }[pool]
    torch.testing.assert_close(recorded(model.module, feature.layer, inputs, [feature.pool])[feature.pool], expected)
    assert any("length one" in note for note in model.notes)
    assert any("left out" in note and "Dense" in note for note in model.notes)
    asked = load_model(f"hf:{tmp_path}", pool="cls").feature(inputs)
    assert asked.pool == "cls"


@pytest.mark.parametrize("modes", [["max_tokens"], ["mean_tokens", "cls_token"]])
def test_a_sentence_encoder_that_pools_in_another_way_is_refused(modes: list[str], tmp_path: Path) -> None:
    sentence_folder(tmp_path, {f"pooling_mode_{mode}": True for mode in modes}, "Pooling")
    with pytest.raises(InputError, match=f"pools its tokens by {' and '.join(modes)}, which lowdim has not"):
        load_model(f"hf:{tmp_path}")
    assert load_model(f"hf:{tmp_path}", pool="mean").pool == "mean"


def test_texts_that_are_cut_are_counted(tmp_path: Path) -> None:
    save(tmp_path, "bert")
    preprocessing = load_model(f"hf:{tmp_path}").preprocessing
    assert cut_texts(split_of(TEXTS[:2]), preprocessing) == []
    (warning,) = cut_texts(split_of(TEXTS), preprocessing)
    assert warning.startswith("1 of 3 texts of the train split are longer than the 66 tokens")
    assert "122" in warning


def test_networks_that_cannot_tell_text_from_filling(tmp_path: Path) -> None:
    save(tmp_path, "fnet")
    with pytest.raises(InputError, match="FNetModel takes no attention mask"):
        load_model(f"hf:{tmp_path}")


def test_networks_for_sound_are_refused(tmp_path: Path) -> None:
    config = transformers.Wav2Vec2Config(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, num_conv_pos_embedding_groups=2
    )
    transformers.Wav2Vec2Model(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="takes input_values; lowdim gives pictures or texts"):
        load_model(f"hf:{tmp_path}")


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        network = save(tmp_path, "bert").to(dtype)
        network.save_pretrained(tmp_path)
        module = load_model(f"hf:{tmp_path}").module
        assert {tensor.dtype for tensor in module.parameters()} == {torch.float32}
        torch.testing.assert_close(module.state_dict(), network.float().state_dict(), rtol=0, atol=0)


def test_an_adapter_alone_is_named_with_its_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base", "peft_type": "LORA"}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"only an adapter \(LORA\) of org/base"):
        load_model(f"hf:{tmp_path}")


# --- Batches.


def test_texts_that_the_tokenizer_cannot_read_are_named(tmp_path: Path) -> None:
    save(tmp_path, "bert", wrapped=False)
    preprocessing = load_model(f"hf:{tmp_path}").preprocessing
    with pytest.raises(InputError, match=r"row 3: the network's \w+ fails on this text"):
        next(batches(split_of(["a b", 3, "cats"]), preprocessing, batch_size=3))
    with pytest.raises(InputError, match=r"row 4: .* no token in this text"):
        next(batches(split_of(["a b", "cats", "  "]), preprocessing, batch_size=3))


def test_pairs_of_texts(tmp_path: Path) -> None:
    save(tmp_path / "net", "bert")
    model = load_model(f"hf:{tmp_path / 'net'}")
    table = tmp_path / "pairs.csv"
    table.write_text('premise,hypothesis,label\n"how, many",a b,yes\ncats,how,no\n')
    data = load_data(str(table), text_column="premise, hypothesis")["train"]
    assert [data.load(0), data.items[0]] == [("how, many", "a b"), "row 2: how, many / a b"]
    inputs = next(batches(data, model.preprocessing, batch_size=2))[0]
    assert isinstance(inputs, dict)
    assert inputs["token_type_ids"][1][:5].tolist() == [0, 0, 0, 1, 1]
    assert inputs["input_ids"][1][:5].tolist() == [0, 6, 2, 4, 2]
    with pytest.raises(InputError, match=r"no column 'hypotheses'\. Did you mean hypothesis"):
        load_data(str(table), text_column="premise,hypotheses")
    with pytest.raises(InputError, match="alone or in pairs"):
        load_data(str(table), text_column="premise,hypothesis,label")


@pytest.mark.parametrize("side", ["right", "left"])
def test_texts_of_like_length_together_change_nothing(side: str) -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 40, 30)
    lengths[7] = 300
    mask = torch.tensor(np.arange(300) < lengths[:, None]).long()
    mask = mask if side == "right" else mask.flip(1)
    ids = torch.from_numpy(generator.integers(1, 9, mask.shape)) * mask
    cells = 0

    def run(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        nonlocal cells
        cells += inputs["ids"].numel()
        tokens = inputs["ids"][:, :, None] * inputs["attention_mask"][:, :, None] * torch.ones(2)
        return {"tokens": tokens, "sum": tokens.sum(dim=1), "beside": 2 * inputs["beside"]}

    batch = {"ids": ids, "attention_mask": mask, "beside": torch.arange(30.0)[:, None]}
    expected = run(batch)
    cells = 0
    found = by_length(run, batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert cells < 0.2 * ids.numel()
    flat = by_length(lambda inputs: {"flat": run(inputs)["tokens"].flatten(1)}, batch)
    torch.testing.assert_close(flat["flat"], expected["tokens"].flatten(1), rtol=0, atol=0)
