"""Rank of an update and its share in the first gradient's subspace."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lowdim.finetuning._bench import Bench
from lowdim.finetuning._plan import Plan
from lowdim.finetuning._recipe import Recipe
from lowdim.finetuning._tuned import TunedModel
from lowdim.finetuning._update import gradients, update_of


def test_planted_update_inside_and_outside() -> None:
    generator = np.random.default_rng(0)
    left, _ = np.linalg.qr(generator.normal(size=(30, 30)))
    right, _ = np.linalg.qr(generator.normal(size=(20, 20)))
    gradient = left[:, :6] @ np.diag(np.arange(6, 0, -1.0)) @ right[:, :6].T
    before = generator.normal(size=(30, 20))
    inside = left[:, :2] @ np.diag([3.0, 1.0]) @ right[:, :2].T
    outside = 2 * np.outer(left[:, 10], right[:, 10])
    update = update_of("w", before, before + inside + outside, gradient, classes=3)
    assert update.share == pytest.approx(10 / 14)
    assert update.rank == 3
    assert update.chance == pytest.approx(36 / 600)
    assert update.relative_norm == pytest.approx(np.sqrt(14) / np.linalg.norm(before))


def test_a_random_update_has_the_share_of_chance() -> None:
    generator = np.random.default_rng(1)
    found = [
        update_of("w", np.zeros((40, 30)), generator.normal(size=(40, 30)), generator.normal(size=(40, 30)), classes=3)
        for _ in range(20)
    ]
    # 20 draws of a chi-square ratio with 36 degrees of freedom: standard error about 5 % of the mean.
    assert np.mean([update.share for update in found]) == pytest.approx(found[0].chance, rel=0.2)


def test_no_update_and_no_gradient() -> None:
    still = update_of("w", np.eye(3), np.eye(3), np.eye(3), 1)
    assert still.rank == 0 and still.share is None
    assert update_of("w", np.eye(3), 2 * np.eye(3), np.zeros((3, 3)), 1).share is None


def test_gradients_are_those_of_the_mean_loss(bench: Bench) -> None:
    model = TunedModel(bench.network.module, Plan("layer", ("blocks.4",)), 10, bench.example)
    with torch.no_grad():
        model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    model.split(bench.example)
    found = gradients(model, bench.store(model))
    inputs = torch.from_numpy(
        np.stack([bench.network.preprocessing.normalised(bench.train.load(i)) for i in range(len(bench.train))])
    )
    loss = F.cross_entropy(model(inputs), torch.from_numpy(bench.labels))
    expected = torch.autograd.grad(loss, [dict(model.named_parameters())[name] for name in found])
    for tensor, name in zip(expected, found, strict=True):
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_fit_reports_its_matrices(bench: Bench) -> None:
    recipe = Recipe(rate=1e-3, head_rate=1e-3, epochs=1, batch_size=16)
    fitted = bench.fit(Plan("layer", ("blocks.4",)), recipe=recipe, with_updates=True)
    assert [update.name for update in fitted.updates] == ["blocks.4.conv1.weight", "blocks.4.conv2.weight"]
    assert all(update.share is not None and update.share > update.chance for update in fitted.updates)
