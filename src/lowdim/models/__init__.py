"""Networks: the embedded ones, timm, transformers and a user's own, loaded safely with their own preprocessing."""

from lowdim._preprocessing import Preprocessing
from lowdim.features import INPUT
from lowdim.models._digits import DigitsMLP, DigitsNet
from lowdim.models._feature import OUTPUT as OUTPUT
from lowdim.models._feature import Feature, default_layers, find_feature, later_blocks
from lowdim.models._given import as_model
from lowdim.models._given import require_network as require_network
from lowdim.models._layers import block_names, match_layers
from lowdim.models._load import load_model, runs_code, text_encoder
from lowdim.models._loaded import LoadedModel, fingerprint
from lowdim.models._loaded import example_of as example_of
from lowdim.models._loaded import unwrapped as unwrapped

__all__ = [
    "INPUT",
    "DigitsMLP",
    "DigitsNet",
    "Feature",
    "LoadedModel",
    "Preprocessing",
    "as_model",
    "block_names",
    "default_layers",
    "find_feature",
    "fingerprint",
    "later_blocks",
    "load_model",
    "match_layers",
    "runs_code",
    "text_encoder",
]
