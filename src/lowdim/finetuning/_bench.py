"""One network on one training set: stored prefixes, and fits of any plan on any part of the samples."""

import itertools
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lowdim._files import json_digest
from lowdim._job import Job
from lowdim.data import Dataset, Split
from lowdim.data._batches import cut_texts
from lowdim.data._finite import require_finite, rounding_warnings, some
from lowdim.errors import InputError, NonFiniteError
from lowdim.features import (
    FeatureCache,
    FeatureStream,
    SplitSource,
    content_digest,
    has_mirror,
    network_content,
    tamed_layers,
)
from lowdim.finetuning._evaluate import accuracy_of, described, nc1, probe_head, set_head, stored_features
from lowdim.finetuning._plan import Plan
from lowdim.finetuning._prefix import Inputs, call
from lowdim.finetuning._recipe import Recipe
from lowdim.finetuning._store import INPUTS, Compute, HeadInput, HeldStore, Store, example_inputs, room_in
from lowdim.finetuning._track import OnEpoch
from lowdim.finetuning._train import History, Test, train
from lowdim.finetuning._tuned import TunedModel, not_finite_because
from lowdim.finetuning._update import Update, gradients, matrices, updates
from lowdim.finetuning._zero_shot import PROMPT
from lowdim.finetuning.methods import method_named
from lowdim.models import LoadedModel, fingerprint
from lowdim.probe import FrozenHead, Known, fit_frozen_views, fit_known

_FROZEN = 16
"""Samples per pass of the frozen layers: in larger batches the maps of large images no longer fit into the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A tuned network, and how it came about.

    Attributes:
        model: In evaluation mode.
        store: What it was trained on.
        history: Of the training loop; empty where nothing is trained by steps.
        updates: One entry per trained matrix, where asked for.
        head: What is known about a frozen head.
        known: What the samples look like, where nothing but the head was fitted to them.
    """

    model: TunedModel
    store: Store | HeldStore
    history: History = field(default_factory=History)
    updates: list[Update] = field(default_factory=list[Update])
    head: FrozenHead | None = None
    known: Known | None = None

    def features(self, indices: np.ndarray | None = None) -> np.ndarray:
        """What the head sees, for stored samples."""
        return stored_features(self.model, self.store, np.arange(len(self.store)) if indices is None else indices)

    def log_probabilities(self, indices: np.ndarray | None = None) -> np.ndarray:
        """Of stored samples, ``n x K``."""
        return self.scores(self.features(indices))

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Log probabilities of what the head sees, ``n x K``."""
        with torch.inference_mode():
            rows = torch.from_numpy(features).to(self.model.head.weight.device)
            return self.model.head(rows).cpu().double().log_softmax(dim=1).numpy()


class Bench:
    """Fits plans for one network, which is left alone, on one data set's training split, and nothing else.

    The job's folder keeps stored prefixes and the states of running fits. Another run continues there; what belongs to another
    network, other data or another recipe is left alone. `changes` that are not None replace fields of the methods' recipes, as the
    job's batch size does.
    """

    def __init__(
        self,
        network: LoadedModel,
        data: Dataset,
        job: Job,
        *,
        views: int = 1,
        class_weights: bool = False,
        prompts: Sequence[str] = (PROMPT,),
        text_features: np.ndarray | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> None:
        assert job.folder is not None
        self.network, self.train, self.job = network, data["train"], job
        self.class_names, self.classes = data.classes, len(data.classes)
        self.prompts, self.text_features = tuple(prompts), text_features
        self.device, self.views, self.class_weights = torch.device(job.device or "cpu"), views, class_weights
        changes = {**(changes or {}), "batch_size": job.batch_size}
        self.changes = {name: value for name, value in changes.items() if value is not None}
        if len(np.unique(self.train.labels)) < 2:
            raise InputError("The training split has samples of one class only; a classifier needs at least two.")
        for split in data.splits.values():
            require_finite(split)
        self.example: Inputs = example_inputs(self.train, network.preprocessing, self.device)
        self.feature = network.feature(self.example)
        content = [network.fingerprint, self.train.digest(), network.preprocessing.as_dict(), views, job.seed]
        content += [self.feature.layer, self.feature.pool]
        self.folder = job.folder / json_digest(content)[:16]
        self.cache = FeatureCache(job.cache or job.folder / "features", job.cache_budget)
        self._content = network_content(network.module, fingerprint(network.module))
        self._stores: dict[str, Store] = {}
        self._views: dict[str, list[list[np.ndarray]]] = {}
        self._heads: dict[Plan, Fitted] = {}  # frozen heads on all samples
        self.heldout: dict[str, np.ndarray] = {}  # predictions of `heldout_predictions`, by what they depend on
        self.warnings = [text for part in data.splits.values() for text in cut_texts(part, network.preprocessing)]
        self.warnings += rounding_warnings(self.train)

    @property
    def labels(self) -> np.ndarray:
        """Of the training samples."""
        return self.train.labels

    def seconds_of(self, plan: Plan, *, busy: bool = False) -> float:
        """That training a plan would take, about, on an idle machine or with what else runs here now (`busy`): three passes per sample and
        epoch, of a block at 3/4 of the depth a quarter of that."""
        recipe = self.recipe(plan)
        if recipe is None:
            return 0.0
        passes = 3 * (1.0 if method_named(plan.method).whole else 0.25) * recipe.epochs
        return passes * len(self.labels) * self._seconds_of_a_pass[busy]

    @cached_property
    def _seconds_of_a_pass(self) -> tuple[float, float]:
        """Of a sample through the network: on an idle machine, and now.

        The clock runs while other programs have the processor, and threads that wait for each other use it up; the processor time of one
        thread hardly depends on what else runs.
        """
        module = self.network.module
        home = next((parameter.device for parameter in module.parameters()), self.device)
        inputs = example_inputs(self.train, self.network.preprocessing, home, _FROZEN)
        run = torch.inference_mode()(lambda: call(module, inputs))

        def shortest(timer: Callable[[], float]) -> float:
            return min(timeit.repeat(run, timer=timer, repeat=3, number=1)) / _FROZEN

        now = shortest(time.perf_counter)
        if home.type != "cpu":
            return now, now
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            alone = shortest(time.process_time)
        finally:
            torch.set_num_threads(threads)
        return min(alone, now), now

    def recipe(self, plan: Plan, samples: int | None = None) -> Recipe | None:
        """How a plan is trained on so many samples (all by default); None for methods that are not trained by steps."""
        default = method_named(plan.method).recipe
        if default is None:
            return None
        return replace(default(len(self.labels) if samples is None else samples, self.classes), **self.changes)

    def store(self, model: TunedModel, other: Split | None = None) -> Store:
        """What the frozen part of a network gives for the training samples, or for others; without one the inputs."""
        frozen = model.method.recipe is None and not model.blocks
        key = f"block-{model.prefix.name}" if model.prefix else "inputs"
        if frozen:
            key = "output" if model.method.own_output else "features"
        name = key if other is None else f"{key}-{other.digest()[:16]}"
        if name not in self._stores:
            stored_as, compute = self._frozen(model, key)
            self._stores[name] = Store(
                self.train if other is None else other,
                self.network.preprocessing,
                compute=compute,
                names=[stored_as],
                network=self._content,
                cache=self.cache,
                views=1 if frozen or other is not None else self.views,
                batch_size=_FROZEN,
                device=self.device,
                seed=self.job.seed,
                processes=self.job.processes,
                progress=self.job.reporter("running the frozen layers"),
            )
        return self._stores[name]

    def _frozen(self, model: TunedModel, key: str) -> tuple[str, Compute | None]:
        """What the frozen part computes, under a name that does not depend on the plan, and how."""
        if key == "features":
            head_input = HeadInput(self.network.module, self.feature, self.device)
            return head_input.name, head_input
        part = model.frozen_part()
        if part is None:
            return INPUTS, None
        name = f"{model.prefix.name}:input|all" if model.prefix else "|output"
        return name, lambda inputs: {name: part(inputs)}

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
        """Trains a plan on the samples at `indices` (all by default), perhaps by another recipe than its own.

        `with_updates` measures the rank of each update and its share in the first gradient's subspace. On `watched` samples
        accuracy and NC1 are measured after every epoch, after which `on_epoch` gets the method, the epoch and the history.
        """
        if indices is None and plan in self._heads:
            return self._heads[plan]
        model = TunedModel(self.network.module, plan, self.classes, self.example, self.job.seed, feature=self.feature)
        method = model.method
        if method.layered:
            fitted = self._fit_layered(model, np.arange(len(self.labels)) if indices is None else indices)
            if indices is None:
                self._heads[plan] = fitted
            return fitted
        if method.head is not None:
            method.head(model, self, np.arange(len(self.labels)) if indices is None else indices)
        if model.blocks:
            try:
                model.split(self.example)
            except InputError as error:
                self._warn(f"{error} Every epoch runs the whole network.")
        fitted = Fitted(model=model, store=self.store(model))
        indices = np.arange(len(fitted.store)) if indices is None else indices
        weights = self._weights(indices) if self.class_weights else None
        recipe = None if method.recipe is None else recipe or self.recipe(plan, len(indices))
        if method.head is None and (recipe is None or recipe.from_probe):
            features = fitted.features(indices)
            finite = np.ones(len(self.labels), bool)
            finite[indices] = np.isfinite(features).all(axis=1)
            self._require_finite(finite, indices)
            heldout = probe_head(
                model, features, self.labels[indices], self.job.seed, weights, self.train.copies[indices]
            )
            if recipe is None:
                fitted = replace(fitted, known=fit_known(described(model, features), self.labels[indices], heldout))
        if recipe is None:
            if self.views > 1:
                self._warn(f"The method {plan.method} sees the plain images only: `views` has no effect on it.")
            model.eval()
            return fitted
        assert isinstance(fitted.store, Store)  # what is trained has samples, not rows
        _soften(model, recipe.temperature)
        before, gradient = (matrices(model), gradients(model, fitted.store)) if with_updates else ({}, {})
        key = [plan.as_dict(), asdict(recipe), self.job.seed, self.class_weights, indices.tolist()]
        history = train(
            model,
            fitted.store,
            recipe,
            self.job,
            indices=indices,
            class_weights=weights,
            state=self.folder / f"{plan.method}-{json_digest(key)[:16]}.safetensors",
            test=None if watched is None else self._test(model, watched),
            on_epoch=None if on_epoch is None else partial(on_epoch, plan.method),
        )
        _soften(model, recipe.softening)
        measured = updates(model, before, gradient, self.classes) if with_updates else []
        return replace(fitted, history=history, updates=measured)

    def _fit_layered(self, model: TunedModel, indices: np.ndarray) -> Fitted:
        """The frozen head; on the plain images alone where their mirror images do harm."""
        if self.views > 1:
            self._warn(
                f"The method {model.plan.method} sees each image and its mirror image: `views` has no effect on it."
            )
        started = time.monotonic()
        views = self._tamed(model)
        self._require_finite(
            np.all([np.isfinite(rows).all(axis=1) for view in views for rows in view], axis=0), indices
        )
        head, mirrored = fit_frozen_views(
            [[rows[indices] for rows in view] for view in views],
            self.labels[indices],
            classes=self.classes,
            class_weights=self.weights_of_classes(indices),
            copies=self.train.copies[indices],
            seed=self.job.seed,
        )
        if not mirrored:
            plan = replace(model.plan, mirror=False)
            model = TunedModel(
                self.network.module, plan, self.classes, self.example, self.job.seed, feature=self.feature
            )
        set_head(model.eval(), head)
        seen = [np.hstack(view) for view in (views if mirrored else views[:1])]
        rows = np.mean(seen, axis=0)
        known = fit_known(rows[indices], self.labels[indices], head.heldout)
        store = HeldStore(self.labels, torch.from_numpy(rows).to(self.device), rows.nbytes, time.monotonic() - started)
        return Fitted(model=model, store=store, head=head, known=known)

    def _require_finite(self, finite: np.ndarray, indices: np.ndarray) -> None:
        """Refuses to fit to samples of which the network makes nothing."""
        if len(bad := indices[~finite[indices]]):
            raise NonFiniteError(
                f"{len(bad)} of {len(indices)} training samples have NaN or infinite features in {self.network.name}: "
                f"{some(self.train.items, bad)}. {not_finite_because(self.network.module)}"
            )

    def _tamed(self, model: TunedModel) -> list[list[np.ndarray]]:
        """By view, the plain images first, what the head of a layered method sees of each layer."""
        key = json_digest([model.layers, model.plan.mirror])
        if key not in self._views:
            beside = [*itertools.product(model.layers, model.pools)]
            part = HeadInput(self.network.module, self.feature, self.device, beside)
            seen = (False, True) if model.plan.mirror and has_mirror(self.example) else (False,)
            self._views[key] = []
            for mirrored in seen:
                source = SplitSource(self.train, self.network.preprocessing, mirrored=mirrored)
                stream = FeatureStream(
                    part.forward,
                    source,
                    source.labels,
                    cache=self.cache,
                    content=content_digest(self._content, source),
                    batch_size=_FROZEN,
                )
                with room_in(self.cache):
                    self._views[key].append(part.layers_of(tamed_layers(stream)))
        return self._views[key]

    def _test(self, model: TunedModel, watched: Split) -> Test:
        samples = Fitted(model=model, store=self.store(model, watched))

        def test() -> tuple[float, float | None]:
            features = samples.features()
            return accuracy_of(samples.scores(features), watched.labels), nc1(features, watched.labels, self.classes)

        return test

    def _warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)

    def weights_of_classes(self, indices: np.ndarray) -> np.ndarray | None:
        """By which classes count alike among the samples at these positions, where that is asked for."""
        return self._weights(indices).double().cpu().numpy() if self.class_weights else None

    def _weights(self, indices: np.ndarray) -> Tensor:
        counts = np.bincount(self.labels[indices], minlength=self.classes)
        weights = np.where(counts > 0, len(indices) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)
        return torch.tensor(weights, dtype=torch.float32, device=self.device)


def _soften(model: TunedModel, temperature: float) -> None:
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.div_(temperature)
