"""Features of a network: forward hooks that reduce a layer's output while it is there, and one cache of what was computed."""

from lowdim.features._cache import FeatureCache, opened_cache
from lowdim.features._pooling import POOLS, Pool, channels_first, pool_output, reduce_output
from lowdim.features._recorder import INPUT, Inputs, Recorder, call, moved, recording, run_forward
from lowdim.features._shelf import Rows, Shelf
from lowdim.features._source import Source, SplitSource, TensorSource, with_views
from lowdim.features._stream import (
    SCORES,
    FeatureBatch,
    FeatureStream,
    Forward,
    Key,
    content_digest,
    network_content,
)

__all__ = [
    "INPUT",
    "POOLS",
    "SCORES",
    "FeatureBatch",
    "FeatureCache",
    "FeatureStream",
    "Forward",
    "Inputs",
    "Key",
    "Pool",
    "Recorder",
    "Rows",
    "Shelf",
    "Source",
    "SplitSource",
    "TensorSource",
    "call",
    "channels_first",
    "content_digest",
    "moved",
    "network_content",
    "opened_cache",
    "pool_output",
    "recording",
    "reduce_output",
    "run_forward",
    "with_views",
]
