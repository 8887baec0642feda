"""Features of a network: forward hooks that reduce a layer's output while it is there, and one cache of what was computed."""

from lowdim.features._cache import FeatureCache as FeatureCache
from lowdim.features._cache import opened_cache as opened_cache
from lowdim.features._content import network_content as network_content
from lowdim.features._pooling import INPUT as INPUT
from lowdim.features._pooling import POOLS as POOLS
from lowdim.features._pooling import Layout as Layout
from lowdim.features._pooling import Pool as Pool
from lowdim.features._pooling import main_tensor as main_tensor
from lowdim.features._pooling import pool_output, reduce_output
from lowdim.features._pooling import tame as tame
from lowdim.features._recorder import Inputs as Inputs
from lowdim.features._recorder import Recorder, recording
from lowdim.features._recorder import call as call
from lowdim.features._recorder import moved as moved
from lowdim.features._recorder import recorded as recorded
from lowdim.features._recorder import run_forward as run_forward
from lowdim.features._recorder import samples_named as samples_named
from lowdim.features._room import require_room as require_room
from lowdim.features._shelf import Rows as Rows
from lowdim.features._shelf import Shelf as Shelf
from lowdim.features._source import Source as Source
from lowdim.features._source import SplitSource as SplitSource
from lowdim.features._source import TensorSource as TensorSource
from lowdim.features._source import has_mirror as has_mirror
from lowdim.features._source import mirror as mirror
from lowdim.features._source import with_views as with_views
from lowdim.features._stream import SCORES as SCORES
from lowdim.features._stream import FeatureBatch as FeatureBatch
from lowdim.features._stream import FeatureStream as FeatureStream
from lowdim.features._stream import Forward as Forward
from lowdim.features._stream import Key as Key
from lowdim.features._stream import collected as collected
from lowdim.features._stream import content_digest as content_digest
from lowdim.features._stream import tamed_layers as tamed_layers
from lowdim.features._stream import usable as usable

__all__ = ["Recorder", "pool_output", "recording", "reduce_output"]
