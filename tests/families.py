"""Tiny configurations of the encoder families of transformers: a configuration class, a model class, settings, what goes in, and
how the library's own answer is read from its output."""

from typing import Any

import torch
from torch import Tensor

_BLOCKS = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
_TEXT = {"vocab_size": 30, "hidden_size": 8, "max_position_embeddings": 40, "pad_token_id": 0, **_BLOCKS}
_PICTURE = {"hidden_size": 8, "image_size": 32, "patch_size": 8, **_BLOCKS}
_STAGES = {"depths": [1, 1], "hidden_sizes": [4, 8]}
_PYRAMID = {**_STAGES, "num_encoder_blocks": 2, "patch_sizes": [7, 3], "strides": [4, 2]}
_ATTENTION = {"num_attention_heads": [1, 2], "mlp_ratios": [2, 2]}
_SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 4, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
_CAUSAL = {**_TEXT, "num_key_value_heads": 2, "head_dim": 4}


def tokens() -> dict[str, Tensor]:
    """Three sequences, one of them padded."""
    ids = torch.randint(5, 30, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def pictures(side: int = 32) -> Tensor:
    """Two pictures of noise."""
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def mean(output: Any) -> Tensor:
    """Over tokens that are not padding."""
    mask = tokens()["attention_mask"].unsqueeze(2)
    return (output.last_hidden_state * mask).sum(1) / mask.sum(1)


def plain_mean(output: Any) -> Tensor:
    """Over all tokens."""
    return output.last_hidden_state.mean(1)


def pooler(output: Any) -> Tensor:
    """What the network itself pools."""
    return output.pooler_output.flatten(1)


def first(output: Any) -> Tensor:
    """The class token."""
    return output.last_hidden_state[:, 0]


def space(output: Any) -> Tensor:
    """The mean of a map."""
    return output.last_hidden_state.mean((2, 3))


TEXTS: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("Albert", {**_TEXT, "embedding_size": 4}),
    "bert": ("Bert", _TEXT),
    "bert generation": ("BertGeneration:BertGenerationEncoder", _TEXT),
    "big bird": ("BigBird", {**_TEXT, "attention_type": "original_full"}),
    "biogpt": ("BioGpt", _TEXT),
    "bloom": ("Bloom", {"vocab_size": 30, "hidden_size": 8, "n_layer": 2, "n_head": 2, "pad_token_id": 0}),
    "camembert": ("Camembert", _TEXT),
    "codegen": (
        "CodeGen",
        {"vocab_size": 30, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 40, "rotary_dim": 4},
    ),
    "convbert": ("ConvBert", {**_TEXT, "embedding_size": 8, "hidden_size": 16, "head_ratio": 1, "conv_kernel_size": 3}),
    "ctrl": ("CTRL", {"vocab_size": 30, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 40, "dff": 16}),
    "data2vec text": ("Data2VecText", _TEXT),
    "deberta": ("Deberta", _TEXT),
    "deberta v2": ("DebertaV2", _TEXT),
    "distilbert": (
        "DistilBert",
        {"vocab_size": 30, "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 16, "pad_token_id": 0},
    ),
    "electra": ("Electra", {**_TEXT, "embedding_size": 4}),
    "ernie": ("Ernie", _TEXT),
    "esm": ("Esm", {**_TEXT, "position_embedding_type": "absolute", "mask_token_id": 4}),
    "falcon": ("Falcon", {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}),
    "flaubert": ("Flaubert", {"vocab_size": 30, "emb_dim": 8, "n_layers": 2, "n_heads": 2, "pad_index": 0}),
    "fnet": ("FNet", _TEXT),
    "gemma": ("Gemma", _CAUSAL),
    "gpt 2": ("GPT2", {"vocab_size": 30, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 40}),
    "gpt neo": (
        "GPTNeo",
        {
            "vocab_size": 30,
            "hidden_size": 8,
            "num_layers": 2,
            "num_heads": 2,
            "attention_types": [[["global"], 2]],
            "max_position_embeddings": 40,
        },
    ),
    "gpt neox": ("GPTNeoX", _TEXT),
    "ibert": ("IBert", _TEXT),
    "llama": ("Llama", _CAUSAL),
    "longformer": ("Longformer", {**_TEXT, "attention_window": 4}),
    "mistral": ("Mistral", _CAUSAL),
    "mobilebert": (
        "MobileBert",
        {
            **_TEXT,
            "embedding_size": 8,
            "intra_bottleneck_size": 8,
            "true_hidden_size": 8,
            "num_feedforward_networks": 1,
        },
    ),
    "modernbert": ("ModernBert", _TEXT),
    "mpnet": ("MPNet", _TEXT),
    "mpt": ("Mpt", {"vocab_size": 30, "d_model": 8, "n_layers": 2, "n_heads": 2, "max_seq_len": 40}),
    "mra": ("Mra", _TEXT),
    "nystromformer": ("Nystromformer", {**_TEXT, "num_landmarks": 7, "segment_means_seq_len": 7}),
    "opt": ("OPT", {**_TEXT, "ffn_dim": 16, "word_embed_proj_dim": 8}),
    "opt, the 350m form": ("OPT", {**_TEXT, "ffn_dim": 16, "word_embed_proj_dim": 4, "do_layer_norm_before": False}),
    "phi": ("Phi", _TEXT),
    "qwen 2": ("Qwen2", _CAUSAL),
    "qwen 3": ("Qwen3", _CAUSAL),
    "rembert": ("RemBert", {**_TEXT, "input_embedding_size": 4}),
    "roberta": ("Roberta", _TEXT),
    "roberta prelayernorm": ("RobertaPreLayerNorm", _TEXT),
    "roc bert": ("RoCBert", {**_TEXT, "enable_pronunciation": False, "enable_shape": False}),
    "roformer": ("RoFormer", _TEXT),
    "splinter": ("Splinter", _TEXT),
    "squeezebert": (
        "SqueezeBert",
        {
            **_TEXT,
            "embedding_size": 8,
            **dict.fromkeys(
                ("q_groups", "k_groups", "v_groups", "post_attention_groups", "intermediate_groups", "output_groups"), 1
            ),
        },
    ),
    "t5, its encoder": (
        "T5:T5EncoderModel",
        {"vocab_size": 30, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2},
    ),
    "stablelm": ("StableLm", _CAUSAL),
    "xlm": ("XLM", {"vocab_size": 30, "emb_dim": 8, "n_layers": 2, "n_heads": 2, "pad_index": 0}),
    "xlm roberta": ("XLMRoberta", _TEXT),
    "xlnet": ("XLNet", {"vocab_size": 30, "d_model": 8, "n_layer": 2, "n_head": 2, "d_inner": 16}),
    "xmod": ("Xmod", {**_TEXT, "languages": ["en_XX"], "default_language": "en_XX"}),
    "yoso": ("Yoso", {**_TEXT, "use_expectation": True}),
}
"""All with the mean over tokens: whatever pooler they have was trained for another purpose, or not at all."""

PICTURES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "beit": ("Beit", _PICTURE, pooler),
    "bit": ("Bit", {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8, "num_groups": 2}, pooler),
    "clip, its vision side": ("CLIPVision:CLIPVisionModel", _PICTURE, pooler),
    "convnext": ("ConvNext", {**_STAGES, "num_stages": 2}, pooler),
    "convnext v2": ("ConvNextV2", {**_STAGES, "num_stages": 2}, pooler),
    "data2vec vision": ("Data2VecVision", _PICTURE, first),
    "deit": ("DeiT", _PICTURE, first),
    "dinov2": ("Dinov2", _PICTURE, pooler),
    "dinov2 with registers": ("Dinov2WithRegisters", {**_PICTURE, "num_register_tokens": 3}, pooler),
    "dinov3 vit": ("DINOv3ViT", {**_PICTURE, "num_register_tokens": 3}, pooler),
    "efficientnet": (
        "EfficientNet",
        {
            "width_coefficient": 0.1,
            "depth_coefficient": 0.1,
            "image_size": 64,
            "hidden_dim": 128,
            "pooling_type": "mean",
        },
        pooler,
    ),
    "focalnet": (
        "FocalNet",
        {**_STAGES, "image_size": 32, "patch_size": 4, "embed_dim": 4, "focal_levels": [2, 2], "focal_windows": [3, 3]},
        pooler,
    ),
    "glpn": ("GLPN", {**_PYRAMID, **_ATTENTION, "sr_ratios": [2, 1]}, space),
    "hiera": (
        "Hiera",
        {
            "image_size": [32, 32],
            "patch_size": [7, 7],
            "patch_stride": [4, 4],
            "patch_padding": [3, 3],
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "num_query_pool": 1,
            "query_stride": [2, 2],
            "masked_unit_size": [4, 4],
            "masked_unit_attention": [True, False],
        },
        pooler,
    ),
    "ijepa": ("IJepa", _PICTURE, plain_mean),
    "mobilenet v1": ("MobileNetV1", {"depth_multiplier": 0.25, "image_size": 64}, pooler),
    "mobilenet v2": ("MobileNetV2", {"depth_multiplier": 0.35, "image_size": 64}, pooler),
    "mobilevit": (
        "MobileViT",
        {
            "image_size": 64,
            "hidden_sizes": [8, 8, 8],
            "neck_hidden_sizes": [4, 4, 8, 8, 8, 8, 16],
            "num_attention_heads": 2,
        },
        pooler,
    ),
    "mobilevit v2": ("MobileViTV2", {"image_size": 64, "width_multiplier": 0.25}, pooler),
    "poolformer": ("PoolFormer", {**_PYRAMID, "padding": [2, 1]}, space),
    "pvt": (
        "Pvt",
        {**_PYRAMID, **_ATTENTION, "image_size": 32, "patch_sizes": [4, 2], "sequence_reduction_ratios": [2, 1]},
        first,
    ),
    "pvt v2": ("PvtV2", {**_PYRAMID, **_ATTENTION, "image_size": 32, "sr_ratios": [2, 1]}, space),
    "regnet": ("RegNet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 4}, pooler),
    "resnet": ("ResNet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}, pooler),
    "segformer": ("Segformer", {**_PYRAMID, **_ATTENTION, "sr_ratios": [2, 1]}, space),
    "siglip, its vision side": ("SiglipVision:SiglipVisionModel", _PICTURE, pooler),
    "swiftformer": ("SwiftFormer", {"image_size": 64, "depths": [1, 1, 1, 1], "embed_dims": [4, 8, 8, 16]}, space),
    "swin": ("Swin", _SWIN, pooler),
    "swin v2": ("Swinv2", _SWIN, pooler),
    "textnet": ("TextNet", {"image_size": [64, 64]}, space),
    "vit": ("ViT", _PICTURE, first),
    "vit msn": ("ViTMSN", _PICTURE, first),
    "yolos": ("Yolos", {**_PICTURE, "image_size": [32, 32], "num_detection_tokens": 3}, first),
}
