"""One network on one training set: stored prefixes, and fits of any plan on any part of the samples."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lowdim._files import json_digest
from lowdim._processes import Processes
from lowdim.data import Dataset, Split
from lowdim.errors import InputError
from lowdim.features import FeatureCache, network_content
from lowdim.finetuning._evaluate import BATCH, nc1, probe_head, stored_features
from lowdim.finetuning._plan import Plan
from lowdim.finetuning._prefix import Inputs, Prefix
from lowdim.finetuning._recipe import Recipe, default_recipe
from lowdim.finetuning._store import Compute, HeadInput, Store, example_inputs
from lowdim.finetuning._track import OnEpoch
from lowdim.finetuning._train import History, Progress, Test, train
from lowdim.finetuning._tuned import TunedModel
from lowdim.finetuning._update import Update, gradients, matrices, updates
from lowdim.finetuning._zero_shot import PROMPT, encode_classes, read_text_features, set_text_head
from lowdim.models import LoadedModel, fingerprint
from lowdim.probe import ProbeResult

_FROZEN = 16
"""Samples per pass of the frozen layers: in larger batches the maps of large images no longer fit into the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A tuned network, and how it came about.

    Attributes:
        model: In evaluation mode.
        store: What it was trained on.
        prefix: Where the stored values enter it; None where the store holds inputs.
        history: Of the training loop; empty for the probe.
        probe: The probe fitted to the features at the start (for ``"linear-probe"`` the result itself).
        updates: One entry per trained matrix, where asked for.
    """

    model: TunedModel
    store: Store
    prefix: Prefix | None
    history: History
    probe: ProbeResult | None
    updates: list[Update] = field(default_factory=list[Update])

    def features(self, indices: np.ndarray | None = None) -> np.ndarray:
        """What the head sees, for stored samples."""
        if self.model.plan.method in ("linear-probe", "zero-shot"):
            indices = np.arange(len(self.store)) if indices is None else indices
            return stored_rows(self.store, indices)
        return stored_features(self.model, self.store, self.prefix, indices)

    def log_probabilities(self, indices: np.ndarray | None = None) -> np.ndarray:
        """Of stored samples, ``n x K``."""
        return self.scores(self.features(indices))

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Log probabilities of what the head sees, ``n x K``."""
        with torch.inference_mode():
            rows = torch.from_numpy(features).to(self.model.head.weight.device)
            return self.model.head(rows).cpu().double().log_softmax(dim=1).numpy()


class Bench:
    """Fits plans for one network on one data set's training split.

    Args:
        network: The pre-trained one; it is left alone.
        data: Its train split is used, and nothing else.
        folder: For stored prefixes and the states of running fits. Another run continues there; what belongs to another network,
            other data or another recipe is left alone.
        device: Where networks run.
        cache: For stored prefixes instead, which other runs find again.
        cache_budget: Bytes of all stored prefixes.
        views: Augmented views per image.
        class_weights: Weight classes by the inverse of their size in the loss.
        prompts: For ``"zero-shot"``: sentences in which ``{}`` stands for the class.
        text_features: For ``"zero-shot"``: one row per class, instead of the network's own text encoder.
        seed: Of everything random.
        processes: Of the job: they share the frozen layers' work and every training step.
        progress: Called with what is being done, steps done and steps in all.
    """

    def __init__(
        self,
        network: LoadedModel,
        data: Dataset,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        cache: Path | None = None,
        cache_budget: float = 4e9,
        views: int = 1,
        class_weights: bool = False,
        prompts: Sequence[str] = (PROMPT,),
        text_features: np.ndarray | None = None,
        seed: int = 0,
        processes: Processes | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.network, self.train = network, data["train"]
        self.class_names = data.classes
        self.classes = len(data.classes)
        self.prompts, self.text_features = tuple(prompts), text_features
        self.device, self.views = torch.device(device), views
        self.cache = FeatureCache(cache or folder / "features", cache_budget)
        self.class_weights, self.seed = class_weights, seed
        self.processes = processes or Processes()
        self._progress = progress
        if len(np.unique(self.train.labels)) < 2:
            raise InputError("The training split has samples of one class only; a classifier needs at least two.")
        content = [network.fingerprint, self.train.digest(), network.preprocessing.as_dict(), views, seed]
        self.folder = folder / json_digest(content)[:16]
        self.example: Inputs = example_inputs(self.train, network.preprocessing, self.device)
        self._content = network_content(network.module, fingerprint(network.module))
        self._stores: dict[str, Store] = {}
        self.heldout: dict[str, np.ndarray] = {}  # predictions of `heldout_predictions`, by what they depend on
        self.warnings: list[str] = []

    @property
    def labels(self) -> np.ndarray:
        """Of the training samples."""
        return self.train.labels

    def recipe(self, plan: Plan, samples: int | None = None) -> Recipe:
        """The default recipe of a plan for so many samples (all by default)."""
        return default_recipe(plan.method, len(self.labels) if samples is None else samples, self.classes)

    def store(self, key: str, model: TunedModel, prefix: Prefix | None, other: Split | None = None) -> Store:
        """The stored samples for networks that are frozen up to the block in `key` (``"features"``: up to the head;
        ``"zero-shot"``: all of it; ``"inputs"``: not); the training samples, or others."""
        name = key if other is None else f"{key}-{other.digest()[:16]}"
        if name not in self._stores:
            names, compute = self._frozen(key, model, prefix)
            self._stores[name] = Store(
                self.train if other is None else other,
                self.network.preprocessing,
                compute=compute,
                names=names,
                network=self._content,
                cache=self.cache,
                views=1 if key in ("features", "zero-shot") or other is not None else self.views,
                batch_size=_FROZEN,
                device=self.device,
                seed=self.seed,
                processes=self.processes,
                progress=self._reporter("running the frozen layers"),
            )
        return self._stores[name]

    def _frozen(self, key: str, model: TunedModel, prefix: Prefix | None) -> tuple[list[str], Compute | None]:
        """What the frozen part computes, by names that do not depend on the plan, and how."""
        if key == "features":
            head_input = HeadInput(self.network.module, model.pooling, self.device)
            return head_input.names, head_input
        if key == "zero-shot":
            return ["|normalised"], lambda inputs: {"|normalised": _features(model, inputs)}
        if prefix is None:
            return ["inputs"], None
        name = f"{prefix.name}:input|all"
        return [name], lambda inputs: {name: prefix.compute(inputs)}

    def fit(
        self,
        plan: Plan,
        *,
        recipe: Recipe | None = None,
        indices: np.ndarray | None = None,
        with_updates: bool = False,
        watched: Split | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Fitted:
        """Trains a plan on some of the samples.

        Args:
            plan: What to train.
            recipe: How; the default one of the method otherwise.
            indices: Positions in the train split; all by default.
            with_updates: Measure the rank of each update and its share in the first gradient's subspace.
            watched: Samples on which accuracy and NC1 are measured after every epoch.
            on_epoch: Called after every epoch with the method, the epoch's number and the history.
        """
        model = TunedModel(self.network.module, plan, self.classes, self.example, self.seed)
        if plan.method == "zero-shot":
            set_text_head(model, self._text_features())
            store = self.store("zero-shot", model, None)
            return Fitted(model=model.eval(), store=store, prefix=None, history=History(), probe=None)
        prefix = self._prefix(model)
        key = "features" if plan.method == "linear-probe" else f"block-{prefix.name}" if prefix else "inputs"
        store = self.store(key, model, prefix)
        indices = np.arange(len(store)) if indices is None else indices
        fitted = Fitted(model=model, store=store, prefix=prefix, history=History(), probe=None)
        recipe = recipe or self.recipe(plan, len(indices))
        probe = None
        if plan.method == "linear-probe" or recipe.from_probe:
            weights = self._weights(indices) if self.class_weights else None
            probe = probe_head(model, fitted.features(indices), self.labels[indices], self.seed, weights)
        if plan.method == "linear-probe":
            if self.views > 1:
                self._warn("The probe is fitted to the plain images only: --views has no effect on it.")
            return Fitted(model=model.eval(), store=store, prefix=None, history=History(), probe=probe)
        with torch.no_grad():
            for parameter in model.head.parameters():
                parameter.div_(recipe.temperature)
        before, gradient = (matrices(model), gradients(model, store, prefix)) if with_updates else ({}, {})
        history = train(
            model,
            store,
            recipe,
            prefix=prefix,
            indices=indices,
            class_weights=self._weights(indices) if self.class_weights else None,
            seed=self.seed,
            state=self.folder / f"{plan.method}-{self._key(plan, recipe, indices)}.safetensors",
            processes=self.processes,
            progress=self._reporter(f"training {plan.describe()}"),
            test=None if watched is None else self._test(model, self.store(key, model, prefix, watched), prefix),
            on_epoch=None if on_epoch is None else partial(on_epoch, plan.method),
        )
        found = updates(model, before, gradient, self.classes) if with_updates else []
        return Fitted(model=model, store=store, prefix=prefix, history=history, probe=probe, updates=found)

    def _test(self, model: TunedModel, store: Store, prefix: Prefix | None) -> Test:
        samples = Fitted(model=model, store=store, prefix=prefix, history=History(), probe=None)

        def test() -> tuple[float, float | None]:
            features = samples.features()
            right = samples.scores(features).argmax(axis=1) == store.labels
            return float(right.mean()), nc1(features, store.labels, self.classes)

        return test

    def _key(self, plan: Plan, recipe: Recipe, indices: np.ndarray) -> str:
        return json_digest([plan.as_dict(), asdict(recipe), self.seed, self.class_weights, indices.tolist()])[:16]

    def _text_features(self) -> np.ndarray:
        if self.text_features is not None:
            return read_text_features(self.text_features, self.classes)
        return encode_classes(self.network, self.class_names, self.prompts)

    def _prefix(self, model: TunedModel) -> Prefix | None:
        if not model.blocks:
            return None
        try:
            return Prefix(model.base, model.blocks[0], self.example)
        except InputError as error:
            self._warn(f"{error} Every epoch runs the whole network.")
            return None

    def _warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)

    def _weights(self, indices: np.ndarray) -> Tensor:
        counts = np.bincount(self.labels[indices], minlength=self.classes)
        weights = np.where(counts > 0, len(indices) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)
        return torch.tensor(weights, dtype=torch.float32, device=self.device)

    def _reporter(self, what: str) -> Progress | None:
        progress = self._progress
        return None if progress is None else lambda done, total: progress(what, done, total)


def _features(model: TunedModel, inputs: Inputs) -> Tensor:
    with torch.inference_mode():
        return model.features(inputs).float()


def stored_rows(store: Store, indices: np.ndarray) -> np.ndarray:
    """The stored features at these positions."""
    rows: list[np.ndarray] = []
    for start in range(0, len(indices), BATCH):
        value = store.batch(indices[start : start + BATCH]).value
        assert value is not None
        rows.append(value.float().cpu().numpy())
    return np.concatenate(rows)
