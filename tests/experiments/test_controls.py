"""For every experiment: what must fail its verdicts if they mean anything. Here, or where it is named."""

import dataclasses
import functools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import lowdim.data
from lowdim.data import load_data
from lowdim.dynamics import Bases
from lowdim.experiments import MODULES, load, separation_figures, separation_tradeoff, transfer, unconstrained_features
from lowdim.experiments import deep_completion as completion

ELSEWHERE = {
    "terminal-phase": "test_networks.py::test_the_terminal_phase_needs_training_beyond_zero_error",
    "layerwise-collapse": "test_networks.py::test_untrained_networks_fail_the_verdicts_of_collapse",
    "prevalence-of-separation": "test_networks.py::test_untrained_networks_fail_the_verdicts_of_collapse",
    "data-scarcity": "test_networks.py::test_few_labels_are_judged_by_the_slide",
    "parsimony-svd": "test_linear_networks.py::test_a_wrong_recursion_of_rho_fails_a_verdict",
    "separation-theorem": "test_linear_networks.py::test_a_wrong_sharp_law_fails_a_verdict",
    "separation-scale": "test_linear_networks.py::test_a_wrong_sharp_law_fails_a_verdict",
} | {
    id: "test_after.py::test_a_broken_formula_fails_its_verdict" for id in MODULES if load(id).section == 5
}  # fmt: skip


def run(id, **changes):
    experiment = load(id)
    outcome = experiment.run(dataclasses.replace(experiment.settings(), **changes), lambda done, total: None)
    return outcome.verdicts


def wrong_basis(monkeypatch):
    """W in place of its transpose, in all factors but the last."""
    right = Bases.of_target.__func__

    def wrong(cls, phi, directions, *arguments):
        return right(cls, phi, [*(d.swapaxes(-1, -2) for d in directions[:-1]), directions[-1]], *arguments)

    monkeypatch.setattr(Bases, "of_target", classmethod(wrong))


def wrong_law(monkeypatch):
    """n^(-1/(L-1)) for n^(-1/L)."""
    monkeypatch.setattr(separation_figures, "sharp_ratio", lambda eps, n, depth: eps**2 * n ** (-1 / (depth - 1)))


def with_a_wrong_basis(id, **changes):
    def control(monkeypatch):
        wrong_basis(monkeypatch)
        return run(id, **changes)

    return control


def with_a_wrong_law(id, **changes):
    def control(monkeypatch):
        wrong_law(monkeypatch)
        return run(id, **changes)

    return control


def a_time_that_does_not_grow(monkeypatch):
    settings = separation_tradeoff.TradeoffSettings()
    return separation_tradeoff._verdicts(settings, 50.0 - np.arange(len(settings.scales)))


def layers_that_undo_it(monkeypatch):
    """The profile read from the last layer to the first: as straight, and rising."""
    right = separation_figures.Classes.profile
    monkeypatch.setattr(separation_figures.Classes, "profile", lambda self, run: right(self, run)[::-1])
    return run("separation-init", depth=5)


def narrow_for_compressed(monkeypatch):
    """The compressed network replaced by a random one of its width."""

    def narrow(entries, assumed, depth, scale, gamma, random, *_):
        return completion.orthogonal_network(entries.shape, 2 * assumed, depth, scale, random)

    monkeypatch.setattr(completion, "compressed_network", narrow)
    return run("completion-narrow", d=60, rank=2, share=0.4, step=0.02, assumed_ranks=(2,))


def another_minimum(monkeypatch):
    right = unconstrained_features.optimum
    monkeypatch.setattr(unconstrained_features, "optimum", lambda *arguments: 1.001 * right(*arguments))
    return run("unconstrained-features", starts=1)


def full_fine_tuning_that_wins(monkeypatch):
    def tuned(accuracy):
        return SimpleNamespace(accuracy={"test": accuracy}, nc1={"test": 1.0})

    case = SimpleNamespace(real=True, normalised=True)
    return transfer._table_verdicts(case, {"layer": [tuned(0.5)], "full-batch-statistics": [tuned(0.6)]})


def labels_that_mean_nothing(monkeypatch):
    """Each method is trained on labels spread evenly over the true classes, in each seed."""
    right = transfer._tuned
    monkeypatch.setattr(lowdim.data, "load_data", functools.partial(load_data, limit=200))
    monkeypatch.setattr(
        transfer,
        "_tuned",
        lambda case, method, seed, data, folder: right(case, method, seed, transfer.mixed(data, seed), folder),
    )
    return run("layerwise-finetuning", data="", shots=5, seeds=2, methods=("linear-probe", "layer"))


def scores_of_other_networks(monkeypatch):
    """NC1 of the networks in another order than their accuracy."""
    accuracy = np.linspace(0.1, 0.7, 14)
    verdicts = [
        transfer.ranking_verdicts(random.permutation(1 / accuracy), 1 / accuracy[::-1], accuracy, judged=True)[0]
        for random in map(np.random.default_rng, range(3))
    ]
    return verdicts if all(verdict.failed for verdict in verdicts) else []


CONTROLS = {
    **{
        id: with_a_wrong_basis(id)
        for id in MODULES
        if id.startswith("parsimony") and id != "parsimony-svd"
    },
    "separation-linear-relu": with_a_wrong_law("separation-linear-relu", depth=6, relu_loss=1e-4),
    "separation-depth": with_a_wrong_law("separation-depth", depths=(6, 8), relu_depths=()),
    "separation-init": layers_that_undo_it,
    "separation-tradeoff": a_time_that_does_not_grow,
    "factorization-compressed": with_a_wrong_basis("factorization-compressed", d=24, rank=2, over_rank=3),
    "completion-depth-width": lambda _: run("completion-depth-width", d=20, rank=1, share=0.9, scale=1e-2, trials=1, widths=(4, 20), steps=(10.0, 10.0)),
    "completion-sample-complexity": lambda _: run("completion-sample-complexity", d=20, rank=2, trials=1, shares=(0.5,), width=8, max_iterations=1),
    "completion-compressed": lambda _: run("completion-compressed", d=60, rank=2, share=0.4, step=0.02, gamma=1e-9, fixed=False),
    "completion-narrow": narrow_for_compressed,
    "unconstrained-features": another_minimum,
    "transfer-table": full_fine_tuning_that_wins,
    "layerwise-finetuning": labels_that_mean_nothing,
    "collapse-and-transfer": scores_of_other_networks,
}  # fmt: skip


def test_every_experiment_has_a_control():
    assert set(CONTROLS) | set(ELSEWHERE) == set(MODULES)
    for place in ELSEWHERE.values():
        file, name = place.split("::")
        assert f"def {name}(" in (Path(__file__).parent / file).read_text()


@pytest.mark.parametrize("id", CONTROLS)
def test_the_control_fails(monkeypatch, id):
    assert [verdict.name for verdict in CONTROLS[id](monkeypatch) if verdict.failed]


def test_networks_in_the_order_of_their_collapse_hold():
    accuracy = np.linspace(0.1, 0.7, 14)
    verdicts = transfer.ranking_verdicts(1 / accuracy, 1 / accuracy[::-1], accuracy, judged=True)
    assert [verdict.holds for verdict in verdicts] == [True, True]
    blind = transfer.ranking_verdicts(1 / accuracy, 1 / accuracy, accuracy, judged=True)
    assert [verdict.failed for verdict in blind] == [False, True]


def test_mixed_labels_say_nothing_of_the_classes():
    data = load_data("digits", shots=20)
    found = transfer.mixed(data, 0)["train"].labels
    together = np.zeros((10, 10))
    np.add.at(together, (data["train"].labels, found), 1)
    np.testing.assert_array_equal(together, 2)


def test_collapse_that_needs_no_classes_is_no_finding():
    def verdicts(layer, mixed):
        last = {"linear-probe": [1.0, 1.0], "layer": layer, transfer.MIXED: mixed}
        return transfer.layerwise_verdicts({(name, "test"): np.array(values) for name, values in last.items()})

    assert [one.failed for one in verdicts([0.8, 0.8], [0.9, 1.1])] == [False, False, False]
    assert [one.failed for one in verdicts([0.8, 0.9], [0.9, 0.9])] == [False, True, False]
    assert [one.failed for one in verdicts([1.1, 0.9], [1.2, 1.2])] == [True, False, False]
