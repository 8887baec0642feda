"""Networks: the embedded ones, timm, transformers and a user's own, loaded safely with their own preprocessing."""

from lowdim._preprocessing import Preprocessing
from lowdim.models._digits import DigitsMLP, DigitsNet
from lowdim.models._given import as_model
from lowdim.models._layers import INPUT, block_names, default_layers, find_head, match_layers, penultimate
from lowdim.models._load import load_model, runs_code, text_encoder
from lowdim.models._loaded import LoadedModel, fingerprint

__all__ = [
    "INPUT",
    "DigitsMLP",
    "DigitsNet",
    "LoadedModel",
    "Preprocessing",
    "as_model",
    "block_names",
    "default_layers",
    "find_head",
    "fingerprint",
    "load_model",
    "match_layers",
    "penultimate",
    "runs_code",
    "text_encoder",
]
