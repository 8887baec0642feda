"""The one meaning of "the feature" of a network: what its classifier reads, found by running it on one batch."""

import contextlib
import itertools
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from lowdim.errors import InputError, UsageError
from lowdim.features import INPUT, Inputs, Key, Layout, Pool, main_tensor, moved, recorded, require_room
from lowdim.models._layers import activation_names, block_names, match_layers, weight_names
from lowdim.models._trace import Trace, Value, ancestors, tensors_of, trace

_PRODUCTS = {"addmm", "mm", "bmm", "baddbmm", "linear", "matmul", "convolution", "mv", "addmv", "_trilinear"}
_DISTANCES = {"_cdist_forward", "_euclidean_dist"}
_PAIRS = {"mul", "sub", "rsub"}
_AVERAGES = {"mean", "sum", "avg_pool2d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"}
_CHOICES = {"select", "index", "gather", "index_select", "slice", "split", "split_with_sizes", "unbind"}
_SHAPES = {
    "view",
    "_unsafe_view",
    "_reshape_alias",
    "squeeze",
    "unsqueeze",
    "permute",
    "transpose",
    "t",
    "alias",
    "expand",
    "as_strided",
    "as_strided_",
}
_COPIES = {"detach", "clone", "_to_copy", "lift_fresh", "native_dropout", "_conj", "repeat", "split_copy"}
_SCALES = {"mul", "div", "sub", "rsub", "neg", "clamp", "clamp_min", "mul_", "div_", "sub_", "exp", "log"}
_SUMS = {"add", "add_", "stack", "cat", "maximum", "minimum"}
_COMPARED = {"sub", "rsub", "div"}
_ANSWERS = {
    "_log_softmax",
    "_softmax",
    "sigmoid",
    "sigmoid_",
    "hardsigmoid",
    "log_sigmoid_forward",
    "softplus",
    "masked_fill",
    "masked_fill_",
    "where",
    "nan_to_num",
    "pow",
    "sqrt",
    "linalg_vector_norm",
    "acos",
}
_PROBABILITIES = {"_log_softmax", "_softmax", "sigmoid", "sigmoid_", "log_sigmoid_forward"}
_ORDERS = {"topk", "sort"}
_MAXIMA = {"amax", "max", "max_pool2d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool3d", "logsumexp"}
_ON_MAPS = {"relu", "relu_", "hardtanh", "hardtanh_"} | _MAXIMA
_BATCH_NORMS = {
    "native_batch_norm",
    "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm",
    "miopen_batch_norm",
}
_ENDS = {"tanh", "relu", "gelu", "silu", "elu", "leaky_relu", "hardtanh", "hardswish", "mish"}
_NORMS = {"native_layer_norm", "native_group_norm"} | _BATCH_NORMS
_SIMPLE = _AVERAGES | _CHOICES | _SHAPES | _COPIES | _SCALES
OUTPUT = "output"
"""What the layer ``""`` is called."""
_FEW = 16
"""More class and register tokens than this no network has."""


@dataclass(frozen=True)
class Feature:
    """What "the feature" of a network is: where it is taken, and how it becomes one row per sample.

    Attributes:
        layer: As `lowdim.features.recording` takes it: ``NAME`` (what comes out), ``NAME:input`` (what goes in), ``""`` (the network's
            output); several joined by ``+`` are averaged, joined by ``&`` concatenated.
        pool: How tokens or maps are reduced; a layer that has one row per sample already is taken as it is.
        width: Numbers per sample.
        why: For people.
        heads: Modules whose place a new classifier takes; empty where there is none.
        prefix: Class and register tokens before those of the patches, which no mean holds.
        tokens: Length of the sequences that begin with them.
        channels: The axis of the channels, by layer, where it is not the usual one (see `lowdim.features.Layout`).
        filled: Whether the network itself fills texts up (see there).
        outputs: Of the classifier, per sample; 0 without one.
        blocks: How the network pools the tokens or maps of its blocks for the feature.
        ran: Names of the modules in the order in which they ran.
        apart: Those that do not give one row per sample (samples along another axis, windows as samples), and are not measured.

    Example:
        >>> find_feature(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), torch.ones(2, 4)).describe()
        '2:input, 8 wide: what 2 reads, the classifier'
    """

    layer: str
    pool: Pool
    width: int
    why: str
    heads: tuple[str, ...] = ()
    prefix: int = 0
    tokens: int = 0
    channels: Mapping[str, int] = field(default_factory=dict[str, int], repr=False)
    filled: bool = False
    outputs: int = 0
    blocks: Pool = "avg"
    ran: tuple[str, ...] = field(default=(), repr=False)
    apart: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def name(self) -> str:
        """Of the layer, for people."""
        return self.layer or OUTPUT

    def modules(self) -> list[str]:
        """Names of the modules that it is taken at, and of the heads."""
        return [*map(_plain, re.split(r"[+&]", self.layer)), *self.heads]

    def trains(self, block: str) -> bool:
        """Whether what a module gives can change the feature: it ran before that was complete."""
        ends = [self.ran.index(name) for name in map(_plain, re.split(r"[+&]", self.layer)) if name in self.ran]
        return not self.layer or (block in self.ran and self.ran.index(block) <= max(ends, default=0))

    def describe(self) -> str:
        """One line: the layer, its width, and why it was taken."""
        return f"{self.name}, {self.width:,} wide: {self.why}"

    @property
    def layout(self) -> Layout:
        """Where tokens and channels are, as `lowdim.features` wants it."""
        return Layout(self.prefix, self.tokens, self.channels, self.filled)

    @property
    def key(self) -> Key:
        """Under which `lowdim.features` keeps it."""
        return self.layer, self.pool

    def as_dict(self) -> dict[str, Any]:
        """JSON values: ``layer``, ``pool``, ``width``, ``why``."""
        return {"layer": self.name, "pool": self.pool, "width": self.width, "why": self.why}


def find_feature(module: nn.Module, example: Inputs, *, layer: str | None = None, pool: Pool | None = None) -> Feature:
    """Finds the feature of a network by running it on one batch.

    The classifier is the weight layer whose output is the network's output, or from which that follows by selecting tokens,
    averaging, scaling, a (log-)softmax, or joining several heads. The feature is what it reads, at the token it reads. A network
    without a classifier has its output as feature, pooled as the network itself does it: by a pooling that it returns, at its class
    token, or else by the mean over tokens or space.

    Args:
        module: Any network; it is left as it is.
        example: A batch of at least two samples.
        layer: A module whose output is to be the feature instead, or ``NAME:input``.
        pool: How tokens become one row, instead of what the network does.

    Raises:
        UsageError: If there is no such layer.
        InputError: If the network fails on these inputs, or has no feature that can be told.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        >>> feature = find_feature(network, torch.zeros(2, 1, 8, 8))
        >>> feature.layer, feature.width, feature.heads
        ('4:input', 4, ('4',))
    """
    if pool is not None and pool not in get_args(Pool):
        raise UsageError(f"There is no pooling {pool!r}. There are: {', '.join(get_args(Pool))}.", argument="pool")
    with evaluating(module):
        finder = _Finder(module, example)
        found = finder.chosen() if layer is None else finder.named(layer)
        return found if pool is None else finder.pooled(found, pool)


def default_layers(module: nn.Module, feature: Feature) -> list[str]:
    """The layers of a profile: the outputs of the blocks, then the feature.

    A network without blocks gives the outputs of its activation modules, or failing those of its weight layers. What never runs is
    left out, and so is what does not give one row per sample.

    Args:
        module: Any network.
        feature: Of the network, from `find_feature`.

    Returns:
        Layer names in order of registration; the last one is the feature's.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> default_layers(network, find_feature(network, torch.ones(2, 4)))
        ['1', '2:input']
    """
    layers: list[str] = []
    parts = tuple(f"{head}." for head in feature.heads)
    measured = {
        name for name in feature.ran if name not in {*feature.heads, *feature.apart} and not name.startswith(parts)
    }
    for names in (block_names, activation_names, weight_names):
        layers = layers or [name for name in names(module) if name in measured]
    return [*(name for name in layers if name != feature.layer), feature.layer]


def later_blocks(module: nn.Module, feature: Feature | None = None) -> list[str]:
    """The second half of the blocks, without one whose output is the feature already.

    Args:
        module: Any network.
        feature: Of the network; blocks that do not run before it are left out.

    Example:
        >>> layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
        >>> encoder = nn.TransformerEncoder(layer, num_layers=4, enable_nested_tensor=False)
        >>> later_blocks(encoder), later_blocks(encoder, find_feature(encoder, torch.ones(2, 3, 8)))
        (['layers.2', 'layers.3'], ['layers.2'])
    """
    names = [name for name in block_names(module) if feature is None or feature.trains(name)]
    half = names[len(names) // 2 :]
    if feature is not None and not feature.heads:
        half = half[:-1]
    return [name for name in half if feature is None or name not in (feature.layer, *feature.apart)]


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Generator[None]:
    """Evaluation mode, and the modes as they were afterwards."""
    modes = [(child, child.training) for child in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for child, mode in modes:
            child.training = mode


class _Finder:
    def __init__(self, module: nn.Module, example: Inputs) -> None:
        device = next((tensor.device for tensor in module.state_dict().values()), torch.device("cpu"))
        self.module, self.example = module, moved(_of_odd_length(module, example), device)
        self.samples = len(next(iter(example.values())) if isinstance(example, dict) else example)
        with torch.no_grad():
            require_room(module, self.example)
        try:
            self.seen: Trace = trace(module, self.example)
        except InputError:
            if self.example is example:
                raise
            # It has no position for one more token.
            self.example = moved(example, device)
            self.seen = trace(module, self.example)
        self.text = isinstance(example, dict) and "input_ids" in example
        output = main_tensor(self.seen.output)
        if output is None or output.ndim < 1:
            raise InputError(
                f"{type(module).__name__} returns {type(self.seen.output).__name__} without a tensor. Name a module with `feature`."
            )
        self.value = self.seen.values[output]
        if not self.value.data:
            raise InputError(
                f"What {type(module).__name__} returns does not follow from its inputs by operations of torch (NumPy in between?). Name a "
                "module with `feature`."
            )
        self.prefix = 0 if self.text else _prefix(module, self.seen)

    def chosen(self) -> Feature:
        """The feature by the rules of `find_feature`, and which other answers the network gives."""
        found = self.found()
        beside = self._beside(found)
        if not beside:
            return found
        said = " and ".join(dict.fromkeys(point.head for point in beside))
        if not self._is_row(self.value) and not found.heads:
            raise InputError(
                f"{type(self.module).__name__} returns {tuple(self.value.shape)} first, and beside it the answers of {said}. Say what to take "
                f'with `feature`, such as `feature="{beside[0].layer}"`.'
            )
        return replace(found, why=f"{found.why}; {said}, whose answers come beside it, reads something else")

    def _beside(self, found: Feature) -> "list[_Point]":
        """Classifiers of further outputs, in a tuple, a list or a dictionary, that read something else."""
        if type(self.seen.output) not in (tuple, list, dict):
            return []
        outputs = [self.seen.values[tensor] for tensor in tensors_of(self.seen.output)]
        others = [value for value in outputs if value is not self.value and value.data and self._is_row(value)]
        points: list[_Point] = []
        for value in others:
            with contextlib.suppress(InputError):
                points += [self._point(head, head.module) for head in _classifiers(value)[0]]
        own = next((v for v in ancestors(self.value) if found.layer in [*v.starts, *v.ends]), None)
        return [
            point for point in points if point.head and (own is None or not _alike(point, replace(point, value=own)))
        ]

    def found(self) -> Feature:
        """The feature of the main output."""
        heads, after, points = self._heads()
        if points and all(_alike(point, points[0]) for point in points):
            return self._read(points, after, alone=self._is_row(self.value))
        rows = [point for point in points if self._is_row(point.value)]
        if rows and len(rows) < len(points) and all(_alike(point, rows[0]) for point in rows):
            # Beside it tokens or maps have their own answers, which no row of them gives.
            others = " and ".join(point.head or "another" for point in points if point not in rows)
            return replace(
                self._read(rows, after, alone=False),
                why=f"what {rows[0].head or 'the output'} reads; {others} beside it reads more",
            )
        if points:
            return self._joined(points, after, heads)
        return self._vocabulary() or self._encoded()

    def _heads(self) -> tuple[list[Value], dict[int, Value], "list[_Point]"]:
        """The classifiers' products, what was computed of them next, and where what they read can be caught."""
        heads, after = _classifiers(self.value)
        rows = all(self._is_row(head.before()[0]) for head in heads)
        weighed = any(_weighs(value) and value.operation == "bmm" for value in _between(heads, after))
        if not rows and (weighed or not self._is_row(self.value)):
            # Tokens that an attention sums, or that each have their own answer, are what a network gives and no classes.
            return [], {}, []
        heads, names = _without_detours(heads)
        points = self._points(heads, names)
        points = sorted(points, key=lambda point: self.seen.ran.index(point.head) if point.head else 0)
        if not self._is_row(self.value) and not all(_alike(point, points[0]) for point in points):
            return [], {}, []
        self._refuse_doubtful(points, list(_between(heads, after)))
        return heads, after, points

    def _refuse_doubtful(self, points: "list[_Point]", later: list[Value]) -> None:
        """Raises an error where the output's form hides which class stands where, or whether there are classes at all."""
        layers = [point.layer for point in points if point.head]
        name, said = type(self.module).__name__, f', such as `feature="{layers[0]}"`' if layers else ""
        order = next((value.operation for value in later if value.operation in _ORDERS), None)
        if order is not None:
            raise InputError(
                f"{name} returns its answers in order of their size ({order}), so that no column belongs to a class. Name what its classifier "
                f"reads with `feature`{said}."
            )
        norms = [value for value in later if value.operation in _BATCH_NORMS]
        if norms and not any(value.operation in _PROBABILITIES for value in later):
            raise InputError(
                f"{name} ends in a normalisation over batches ({norms[0].module}) of what {points[0].head or 'a product'} gives: scores of "
                f"classes, or an embedding? Say which with `feature`: what a classifier reads{said}, or the embedding, "
                f'`feature="{norms[0].module}"`.'
            )

    def named(self, layer: str) -> Feature:
        """The output of a module, or what goes into it."""
        matching = match_layers(self.module, layer)
        if len(matching) > 1:
            raise UsageError(f"{layer!r} matches {len(matching)} layers; name one.", argument="feature")
        if matching[0].removesuffix(INPUT) not in self.seen.ran:
            raise InputError(f"The layer {matching[0]} never runs in the forward pass. Choose another.")
        with contextlib.suppress(InputError):
            found = self.found()
            if found.layer == matching[0]:
                return found
        return self._feature(matching[0], "avg", "as asked for")

    def pooled(self, feature: Feature, pool: Pool) -> Feature:
        """The feature with another pooling, at the tokens or maps that the classifier's row was taken from."""
        own = self._rows(feature.layer, (feature.pool,))[feature.pool]
        layer = feature.layer
        value = next((v for v in ancestors(self.value) if layer in [*v.starts, *v.ends]), None)
        if value is not None and self._is_row(value):
            origin = next((v for v in _path(value, _SIMPLE | _NORMS) if not self._is_row(v) and self._ends(v)), None)
            if origin is None:
                return replace(feature, why=f"{feature.why} (one row per sample: no pooling)")
            layer = self._ends(origin)
        rows = self._rows(layer, (pool,))[pool]
        if _same(rows, own):
            return replace(feature, pool=pool) if layer == feature.layer else feature
        heads = feature.heads if layer == feature.layer else ()
        return self._feature(layer, pool, f"{feature.why}, with the pooling asked for", heads)

    def _feature(
        self, layer: str, pool: Pool, why: str, heads: Sequence[str] = (), *, classifies: bool = False
    ) -> Feature:
        rows, again = (self._rows(layer, (pool,))[pool] for _ in range(2))
        if not _same(rows, again) and bool(rows.isfinite().all()):
            raise InputError(
                f"{type(self.module).__name__} gives other features for the same inputs each time, in evaluation mode too (random masks?). "
                "Switch that off with `arguments`, or name another layer with `feature`."
            )
        scored = (bool(heads) or classifies) and not self._removed()
        outputs = int(torch.Size(self.value.shape[1:]).numel()) if scored else 0
        return Feature(
            layer=layer,
            pool=pool,
            width=rows.shape[1],
            why=why,
            heads=tuple(heads),
            prefix=self.prefix,
            tokens=self.seen.tokens,
            channels=self.seen.channels,
            filled=self.seen.filled,
            outputs=outputs,
            blocks=self._blocks(layer, pool),
            ran=self.seen.ran,
            apart=self.seen.apart,
        )

    def _blocks(self, layer: str, pool: Pool) -> Pool:
        """How tokens became the row that is the feature, where a layer gives it pooled."""
        value = next((v for v in ancestors(self.value) if layer in [*v.starts, *v.ends]), None)
        if value is None or not self._is_row(value):
            return pool if pool in ("cls", "last") else "avg"
        path = list(_path(value, _SIMPLE | _NORMS))
        chosen = any(v.operation == "select" and len(v.before()[0].shape) == 3 for v in path)
        return "cls" if chosen and self.prefix else "avg"

    def _rows(self, layer: str, pools: Sequence[Pool]) -> dict[Pool, Tensor]:
        layout = Layout(self.prefix, self.seen.tokens, self.seen.channels, self.seen.filled)
        return recorded(self.module, layer, self.example, pools, layout)

    def _points(self, heads: list[Value], names: list[str]) -> "list[_Point]":
        """Where what each of the products reads can be caught: at itself, or where the module begins that makes it for all of them."""
        if not heads:
            return []
        try:
            points = [self._point(head, name) for head, name in zip(heads, names, strict=True)]
        except InputError:
            points = []
        if points and all(_alike(point, points[0]) for point in points):
            return points
        whole = self._whole(heads)
        if not points and whole is None:
            raise self._between_modules()
        return [replace(whole, product=head) for head in heads] if whole else points

    def _whole(self, heads: list[Value]) -> "_Point | None":
        """The innermost module that reads one row, and whose products read what no weight has a part in: bases of splines, radial ones."""
        shared = _common([head.module for head in heads])
        while shared:
            for value in (v for head in heads for v in ancestors(head)):
                layer = next((layer for layer in value.starts if _plain(layer) == shared), None)
                if layer and self._is_row(value) and _reads_only(heads, value):
                    return _Point(layer, value, shared, heads[0])
            shared = shared.rpartition(".")[0]
        return None

    def _point(self, head: Value, name: str) -> "_Point":
        """Where what a product with weights reads can be caught, if it can be where the module that it belongs to begins."""
        while name and name not in self.seen.ran:
            # A mere container.
            name = name.rpartition(".")[0]
        path = list(_path(head.before()[0], _SIMPLE))
        for value in path:
            for layer in value.starts:
                if name and layer.partition(INPUT)[0] == name:
                    return _Point(layer, value, name, head)
        for value in path:
            if self._ends(value):
                return _Point(self._ends(value), value, "", head)
        raise self._between_modules()

    def _between_modules(self) -> InputError:
        if next(self.module.children(), None) is None:
            return InputError(
                f"{type(self.module).__name__} is a single module, and its classifier reads the inputs themselves. Measure those: give "
                "`features` as the model."
            )
        return InputError(
            f"{type(self.module).__name__} computes its classifier's input between its modules, where it cannot be taken. Name a module "
            "with `feature`."
        )

    def _read(self, points: "list[_Point]", after: dict[int, Value], *, alone: bool = True) -> Feature:
        """The feature of one classifier, or of several that read the same; `alone`: no other has a part in the output."""
        point, names = points[0], tuple(dict.fromkeys(point.head for point in points if point.head))
        head = point.product
        which = (
            f"{names[0]} reads, the classifier" if len(names) == 1 else f"{' and '.join(names)} read, the classifiers"
        )
        why = f"what {which}" if names else "what the output is a product of"
        answers = head.shape[1 if head.operation == "convolution" else -1]
        if not alone or answers != torch.Size(self.value.shape[1:]).numel():
            # It gives a part of the answer, or more, and is no place for a new classifier.
            names = ()
        if point.head and self._is_row(point.value):
            return self._feature(point.layer, "avg", why, names, classifies=True)
        if point.head and len(point.value.shape) >= 4:
            kernel = head.parents[1].shape[2:] if head.operation == "convolution" else ()
            whole: Pool = "flatten" if any(side > 1 for side in kernel) else "avg"
            return self._feature(point.layer, whole, why, names, classifies=True)
        tokens, signal = len(point.value.shape) == 3, _is_signal(point.value)
        pools: tuple[Pool, ...] = ("last", "cls", "avg") if tokens else ("avg", "flatten")
        rows = self._rows(point.layer, pools)
        pool: Pool | None = next((pool for pool in pools if self._gives(point, rows[pool], after)), None)
        if pool is None and signal and any(v.operation in _AVERAGES for v in _between([head], after)):
            # With an activation before the mean, as on maps.
            pool = "avg"
        if pool is None and not tokens:
            raise self._between_modules()
        if pool is None:
            raise InputError(
                f"{why.capitalize()} is a sequence of tokens, and the network's output follows from none of their last, first and mean. "
                'Choose with `pool="mean"` and `feature`.'
            )
        part = "position" if signal else "token"
        said = {"last": f", the last {part}", "cls": f", the first {part}", "avg": f", the mean over {part}s"}
        said = said if tokens else {}
        return self._feature(point.layer, pool, f"{why}{said.get(pool, '')}", names, classifies=True)

    def _gives(self, point: "_Point", rows: Tensor, after: dict[int, Value]) -> bool:
        """Whether the classifier makes of these rows what the network made of them."""
        head = point.product
        operand = next((v for v in _path(head.before()[0], _SHAPES | _SCALES) if self._is_row(v)), head.before()[0])
        if operand.tensor is not None and self._is_row(operand):
            return _same(rows, operand.tensor.flatten(1), scaled=True)
        if not point.head:
            return False
        with torch.no_grad(), contextlib.suppress(RuntimeError, TypeError, ValueError):
            rows = rows.unsqueeze(2) if _is_signal(point.value) else rows
            found = main_tensor(self.module.get_submodule(point.head)(rows))
            later = [v.tensor for v in _between([head], after) if self._is_row(v) and v.tensor is not None]
            return found is not None and any(_same(found.flatten(1), v.reshape(self.samples, -1)) for v in later)
        return False

    def _joined(self, points: "list[_Point]", after: dict[int, Value], heads: list[Value]) -> Feature:
        """The feature of several classifiers that read different things: as the network joins their answers."""
        names = tuple(dict.fromkeys(point.head for point in points))
        said = " and ".join(name or "(unnamed)" for name in names)
        later = list(_between(heads, after))
        apart = any(value.operation == "cat" or _weighs(value) for value in later)
        if any(not self._is_row(point.value) for point in points) or apart or not all(names):
            raise InputError(
                f"{type(self.module).__name__} has several classifiers ({said}) that read different features. Name one with `feature`, such as "
                f'`feature="{points[0].layer}"`.'
            )
        layers = list(dict.fromkeys(point.layer for point in points))
        widths = {point.value.shape[-1] if len(point.value.shape) > 1 else 1 for point in points}
        if len(widths) == 1:
            return self._feature(
                "+".join(layers), "avg", f"what {said} read, the classifiers: averaged as their answers are", names
            )
        return self._feature(
            "&".join(layers),
            "avg",
            f"what {said} read, the classifiers: side by side, as their answers are averaged",
            names,
        )

    def _vocabulary(self) -> Feature | None:
        """The feature of a language model: what the scores of its vocabulary are made of."""
        made = _path(self.value, _SHAPES | _COPIES | _SCALES)
        product = next((value for value in made if value.operation in _PRODUCTS), None)
        if not self.text or product is None or len(self.value.shape) != 3 or len(product.before()) != 1:
            return None
        sizes = {child.num_embeddings for child in self.module.modules() if isinstance(child, nn.Embedding)}
        if self.value.shape[-1] not in sizes or not product.module:
            return None
        point = self._point(product, product.module)
        why = f"what {product.module} reads, which scores the vocabulary; the mean over tokens"
        return self._feature(point.layer, "avg", why)

    def _encoded(self) -> Feature:
        """The feature of a network without a classifier."""
        removed = self._removed()
        if removed:
            return self._feature(
                f"{removed}{INPUT}", "avg", f"what {removed} reads, the place of a classifier", (removed,)
            )
        same = (v for v in _path(self.value, _SHAPES | _COPIES) if v.shape == self.value.shape)
        layer = next((self._ends(v) for v in same if self._ends(v)), "")
        why = f"the output of {layer or 'the network'}; no classifier"
        if self._is_row(self.value):
            return self._feature(layer, "avg", f"{why}{self._doubt()}")
        pooler = _pooler(self.seen)
        if pooler is not None:
            own = self._own_pooling(layer, why, pooler)
            if own is not None:
                return own
        if self.prefix:
            return self._feature(layer, "cls", f"{why}, its class token")
        over = "positions" if _is_signal(self.value) else "space" if len(self.value.shape) == 4 else "tokens"
        return self._feature(layer, "avg", f"{why}, the mean over {over}")

    def _doubt(self) -> str:
        """What to type if the output, which may be an embedding, are scores: of a linear layer, with something known of no classifier behind."""
        ends = (v for v in _path(self.value, _SIMPLE | _SUMS | _ANSWERS | _NORMS | _ENDS) if v.operation in _PRODUCTS)
        product = next(ends, None)
        if product is None or not self._is_row(product) or len(product.before()) != 1:
            return ""
        with contextlib.suppress(InputError):
            point = self._point(product, product.module)
            if point.head and self._is_row(point.value):
                return f' (if these are scores of classes: `feature="{point.layer}"`)'
        return ""

    def _own_pooling(self, layer: str, why: str, pooler: Tensor) -> Feature | None:
        """The pooling that the network returns, unless it ends in a layer that was trained for another purpose (a pooler of BERT)."""
        maps = len(self.value.shape) == 4 or _is_signal(self.value)
        pools: tuple[Pool, ...] = ("avg",) if maps else ("cls", "avg", "last")
        said = {
            "avg": f"the mean over {'space' if maps else 'tokens'}",
            "cls": "its first token",
            "last": "its last token",
        }
        for pool, rows in self._rows(layer, pools).items():
            if _same(rows, pooler.flatten(1)):
                return self._feature(layer, pool, f"{why}, {said[pool]}, as the network pools it")
        value = self.seen.values[pooler]
        if not self._is_row(value):
            return None
        between = [v for v in ancestors(value) if v is not self.value and any(a is self.value for a in ancestors(v))]
        operations = {v.operation for v in between}
        attends = any(
            v.operation in ("_softmax", "_safe_softmax") or "scaled_dot_product" in v.operation for v in between
        )
        if attends or not operations & _PRODUCTS:
            end = next((self._ends(v) for v in _path(value, _SIMPLE) if self._is_row(v) and self._ends(v)), "")
            if end:
                how = "its own attention pooling" if attends else "its own pooling"
                return self._feature(end, "map" if attends else "avg", f"the output of {end}, {how}; no classifier")
        if self.text or maps:
            return None
        read: Pool = "avg" if operations & _AVERAGES else "cls"
        return self._feature(layer, read, f"{why}, pooled where its pooler reads")

    def _removed(self) -> str | None:
        """A classifier that was taken out of a timm network, and left an identity in its place."""
        if not self._is_row(self.value) or not self.value.operation:
            return None
        inside = [name for name in self.value.ends if isinstance(self.module.get_submodule(_plain(name)), nn.Identity)]
        declared = getattr(self.module, "pretrained_cfg", None) or {}
        name = declared.get("classifier") if hasattr(declared, "get") else None
        return name if isinstance(name, str) and name in inside else next(reversed(inside), None)

    def _is_row(self, value: Value) -> bool:
        """Whether a value has one row per sample, perhaps with further dimensions of length one."""
        return value.shape[:1] == (self.samples,) and sum(side != 1 for side in value.shape[1:]) <= 1

    def _ends(self, value: Value) -> str:
        """The module that gives a value: a block, or the innermost one."""
        named = [name for name in value.ends if name]
        blocks = set(block_names(self.module))
        return next((name for name in named if _plain(name) in blocks), named[0] if named else "")


def _of_odd_length(module: nn.Module, example: Inputs) -> Inputs:
    """Texts of a length that is no multiple of a window, so that a network which fills them up does it here, too."""
    mask = example.get("attention_mask") if isinstance(example, dict) else None
    if not isinstance(example, dict) or mask is None or mask.shape[1] % 2 or "input_ids" not in example:
        return example
    between = example["input_ids"][mask == 0]
    filling = int(between[0]) if len(between) else getattr(getattr(module, "config", None), "pad_token_id", None)
    if filling is None:
        return example
    sides = (1, 0) if bool((mask[:, 0] == 0).any()) else (0, 1)
    longer = {
        name: nn.functional.pad(tensor, sides, value=filling if name == "input_ids" else 0)
        for name, tensor in example.items()
        if tensor.shape == mask.shape
    }
    return {**example, **longer}


@dataclass(frozen=True)
class _Point:
    layer: str
    value: Value
    head: str
    product: Value


def _is_signal(value: Value) -> bool:
    """Whether a value is ``n x c x t``, as convolutions along one axis give it."""
    return len(value.shape) == 3 and value.channels == 1


def _plain(layer: str) -> str:
    return layer.partition("#")[0].removesuffix(INPUT)


def _classifiers(output: Value) -> tuple[list[Value], dict[int, Value]]:
    """The products with weights from which an output follows by known operations, and by value what was computed of it next.

    None where a part of the output comes from elsewhere (a normalisation, an activation), or where one product feeds another, as in
    residual blocks.
    """
    heads: list[Value] = []
    after: dict[int, Value] = {}
    seen: set[int] = set()
    waiting = [output]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        before = value.before()
        if value.operation in _PRODUCTS | _DISTANCES or _compares(value):
            mixes = value.operation == "_trilinear" and len(before) > 1
            if _weighs(value) and not mixes:
                larger = _larger(before)
                mixes = not any(_is_gate(part) for part in before if part not in larger)
                if not mixes:
                    after[id(larger[0])] = value
                    waiting.extend(larger)
                    continue
            if mixes:
                raise InputError(
                    f"The classifier{value.module and ' ' + value.module} reads two features at once. Name one with `feature`"
                    + (f', such as `feature="{value.module}{INPUT}"`.' if value.module else ".")
                )
            if len(before) != 1 or not _covers_points(value):
                return [], {}
            heads.append(value)
            continue
        parts = before if value.operation in _SUMS else _larger(before)
        if (
            not parts
            and value.operation in _COMPARED
            and len({product for part in before for product in _made_of(part)}) == 1
        ):
            parts = before
        if not _known(value, after.get(id(value))) or not parts:
            return [], {}
        for part in parts:
            after[id(part)] = value
            waiting.append(part)
    others = [{id(value) for value in ancestors(head)} for head in heads]
    if any(
        id(head) in values for head in heads for values, other in zip(others, heads, strict=True) if head is not other
    ):
        return [], {}
    return heads, after


def _made_of(value: Value) -> Iterator[Value]:
    """The products from which a value follows without further ones."""
    seen, waiting = {id(value)}, [value]
    while waiting:
        current = waiting.pop()
        if current.operation in _PRODUCTS | _DISTANCES or not current.before():
            yield current
            continue
        for parent in current.before():
            if id(parent) not in seen:
                seen.add(id(parent))
                waiting.append(parent)


def _known(value: Value, following: Value | None) -> bool:
    """Whether an operation leaves the answers of a classifier in their places."""
    before = value.before()
    if value.operation in ("div", "div_") and any(_is_length(part) for part in before):
        # A vector that is scaled to length one is no list of answers.
        return False
    if value.operation == "tanh":
        # A soft cap: between two scalings.
        return before[0].operation in _SCALES and following is not None and following.operation in _SCALES
    if value.operation == "cos":
        # Of an angle, perhaps with a margin.
        return any(v.operation == "acos" for v in _path(before[0], _SCALES | {"add"}))
    if value.operation in _ON_MAPS and (len(value.shape) >= 4 or _is_signal(value)):
        return True
    if value.operation in _BATCH_NORMS:
        # Between a convolution and its activation it is no classifier's.
        return following is None or following.operation not in _ON_MAPS - _MAXIMA
    return value.operation in _SIMPLE | _SUMS | _ANSWERS | _MAXIMA | _ORDERS


def _weighs(value: Value) -> bool:
    """Whether answers are weighed by numbers that depend on the sample, too: gates of experts, attention."""
    before = value.before()
    if len(before) < 2 or not _larger(before):
        return False
    return value.operation in ("mul", "mul_") or (value.operation == "bmm" and 1 in value.shape[1:])


def _is_gate(value: Value) -> bool:
    """Whether numbers are shares or probabilities."""
    return any(v.operation in _PROBABILITIES for v in _path(value, _SIMPLE | _SUMS | _ORDERS))


def _without_detours(heads: list[Value]) -> tuple[list[Value], list[str]]:
    """Classifiers without those that read what products alone made of what another one reads (adapters of low rank).

    Returns:
        The classifiers, and by each the module that it belongs to: with such detours the one that holds them all.
    """
    reads = {id(v): head for head in heads for v in _path(head.before()[0], _SHAPES | _COPIES)}
    kept, detours = [], []
    for head in heads:
        way = list(_path(head.before()[0], _SHAPES | _COPIES | _SCALES | _PRODUCTS))
        end = next((at for at, value in enumerate(way) if reads.get(id(value), head) is not head), 0)
        products = [value for value in way[:end] if value.operation in _PRODUCTS]
        detours += products and [head, *products]
        kept += [] if products else [head]
    if not detours:
        return heads, [head.module for head in heads]
    return kept, [_common([value.module for value in (*kept, *detours)])] * len(kept)


def _common(names: list[str]) -> str:
    """The innermost module that holds all of these."""
    shared = itertools.takewhile(
        lambda parts: len(set(parts)) == 1, zip(*(name.split(".") for name in names), strict=False)
    )
    return ".".join(parts[0] for parts in shared)


def _reads_only(heads: list[Value], row: Value) -> bool:
    """Whether products read nothing but a row that weights made, with no further weights between."""
    seen, waiting = {id(row)}, [value for head in heads for value in head.before()]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if value.operation in _PRODUCTS or not value.before():
            return False
        waiting.extend(value.before())
    return any(value.operation in _PRODUCTS for value in ancestors(row))


def _is_length(value: Value) -> bool:
    return any("norm" in v.operation for v in _path(value, _SCALES | _SHAPES))


def _compares(value: Value) -> bool:
    """Whether each row meets each of several weights, number by number: prototypes of classes."""
    before = value.before()
    if value.operation not in _PAIRS or len(before) != 1 or len(value.shape) != 3:
        return False
    weights = [parent for parent in value.parents if not parent.data and len(parent.shape) >= 2]
    wide = torch.Size(value.shape).numel()
    row = any(len(v.shape) == 2 and torch.Size(v.shape).numel() < wide for v in _path(before[0], _SHAPES | _SCALES))
    return bool(weights) and row


def _covers_points(product: Value) -> bool:
    """Whether a product is a linear layer at every point, or on a whole map at once."""
    if product.operation != "convolution":
        return True
    picture, kernel = product.parents[0].shape[2:], product.parents[1].shape[2:]
    return all(side == 1 for side in kernel) or kernel == picture


def _alike(one: _Point, other: _Point) -> bool:
    """Whether two classifiers read the same numbers."""
    if one.value is other.value:
        return True
    first, second = one.value.tensor, other.value.tensor
    return first is not None and second is not None and first.shape == second.shape and torch.equal(first, second)


def _larger(values: list[Value]) -> list[Value]:
    """The one that a scaling is of: the others are as small as a number per row. None where that cannot be told."""
    if len(values) < 2:
        return values
    sizes = [_size(value) for value in values]
    largest = [value for value, size in zip(values, sizes, strict=True) if size == max(sizes)]
    return largest if len(largest) == 1 else []


def _size(value: Value) -> int:
    while value.operation == "expand" and value.before():
        value = value.before()[0]
    return int(torch.Size(value.shape).numel())


def _path(value: Value, operations: set[str]) -> Iterator[Value]:
    """A value and those that it follows from by these operations, nearest first."""
    while True:
        yield value
        parts = _larger(value.before())
        if value.operation not in operations or len(parts) != 1:
            return
        value = parts[0]


def _between(heads: Sequence[Value], after: dict[int, Value]) -> Iterator[Value]:
    for head in heads:
        value = head
        while id(value) in after:
            value = after[id(value)]
            yield value


def _prefix(module: nn.Module, seen: Trace) -> int:
    """Class, distillation and register tokens of a picture: what a sequence has beside the patches."""
    declared = getattr(module, "num_prefix_tokens", None)
    if isinstance(declared, int):
        return declared
    return min((seen.tokens - size for size in seen.maps if size > 1 and 0 <= seen.tokens - size <= _FEW), default=0)


def _pooler(seen: Trace) -> Tensor | None:
    output = seen.output
    found = output.get("pooler_output") if isinstance(output, dict) else None
    return found if isinstance(found, Tensor) else None


def _same(one: Tensor, other: Tensor, *, scaled: bool = False) -> bool:
    """Whether two tensors are equal to rounding; perhaps each row up to its length."""
    if one.shape != other.shape:
        return False
    one, other = one.double(), other.double()
    if scaled:
        one, other = (rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-30) for rows in (one, other))
    return bool((one - other).abs().max() <= 1e-4 * other.abs().max().clamp_min(1e-30))
