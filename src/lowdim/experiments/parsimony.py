"""The law of parsimony for equivariant updates: plain gradient descent, weight decay, momentum and polar steps."""

from dataclasses import dataclass

import numpy as np

from lowdim._verdicts import Verdict
from lowdim.dynamics import GradientDescent, Polar, Rule, scale_recursion
from lowdim.errors import UsageError
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.experiments._parsimony import (
    SOURCE,
    Setting,
    Study,
    exact_verdicts,
    loss_lines,
    require_invariant,
    study,
    surfaces,
)
from lowdim.figures import Lines, Series, Table

AWAY = 0.25
"""Share of its start down to which rho is away from 0."""


@dataclass(frozen=True)
class SvdSettings:
    """The lecture's figure: L = 3, d = 30, r = 3, eps = 1."""

    depth: int = 3
    width: int = 30
    rank: int = 3
    eps: float = 1.0
    step: float = 1 / 900
    iterations: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        require_invariant(self.width, self.rank)

    @property
    def setting(self) -> Setting:
        """Target and weights."""
        return Setting(self.depth, self.width, self.rank, self.eps, self.seed)


@dataclass(frozen=True)
class DecaySettings(SvdSettings):
    """Several weight decays; Case 1 takes a larger step, as its target has fewer rows."""

    weight_decays: tuple[float, ...] = (0.0, 1.0, 10.0)
    step_case_1: float = 1 / 90


@dataclass(frozen=True)
class MomentumSettings(SvdSettings):
    """Heavy-ball with and without decay, and polar (Muon) steps; these also beyond the time at which rho reaches 0."""

    momentum: float = 0.9
    weight_decay: float = 1.0
    polar_step: float = 1e-2
    polar_iterations: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        most = (1 - AWAY) * self.eps
        if self.polar_step > most:
            raise UsageError(
                f"polar_step must be at most {most:g} at eps={self.eps:g}, not {self.polar_step:g}: every step takes that much off rho."
            )


def run_svd(settings: SvdSettings, progress: Progress) -> Outcome:
    """Both cases of the theorem under plain gradient descent."""
    rule = GradientDescent(settings.step)
    result = study(settings.setting, rule, settings.iterations)
    progress(1, 2)
    other = study(settings.setting, rule, settings.iterations, full_output=False)
    verdicts = exact_verdicts("", result, rule) + exact_verdicts("fewer outputs: ", other, rule)
    figures = [*surfaces("svd", "Gradient descent", result), loss_lines("svd", result, rule)]
    progress(2, 2)
    note = f"rho({settings.iterations}) = {result.rho[-1]:.6f} (recursion), {result.forms.rho[-1, 0]:.6f} (measured in W_1)."
    return Outcome(verdicts, figures, [], [note])


def run_weight_decay(settings: DecaySettings, progress: Progress) -> Outcome:
    """Decay shrinks the invariant singular values: by the recursion, or geometrically with fewer outputs."""
    verdicts: list[Verdict] = []
    series: list[Series] = []
    rows: list[list[object]] = []
    total = 2 * len(settings.weight_decays)
    shown: Study | None = None
    for decay in settings.weight_decays:
        for full_output in (True, False):
            step = settings.step if full_output else settings.step_case_1
            rule = GradientDescent(step, weight_decay=decay)
            result = study(settings.setting, rule, settings.iterations, full_output=full_output)
            label = f"decay {decay:g}, {'as many' if full_output else 'fewer'} outputs"
            verdicts += exact_verdicts(f"{label}: ", result, rule)
            series += _rho_series(label, result)
            rows.append([decay, "2" if full_output else "1", step, result.rho[-1], result.forms.rho[-1, 0]])
            shown = result if full_output else shown
            progress(len(rows), total)
    table = Table(
        "rho",
        f"rho after {settings.iterations} iterations",
        ["weight decay", "case", "step", "recursion", "measured"],
        rows,
    )
    assert shown is not None
    figures = [_rho_lines("decay", series), *surfaces("decay", f"Weight decay {settings.weight_decays[-1]:g}", shown)]
    return Outcome(verdicts, figures, [table])


def run_momentum(settings: MomentumSettings, progress: Progress) -> Outcome:
    """The law holds for every orthogonally equivariant update, not only for gradient descent."""
    rules: dict[str, Rule] = {
        f"heavy-ball {settings.momentum:g}": GradientDescent(settings.step, momentum=settings.momentum),
        f"heavy-ball {settings.momentum:g}, decay {settings.weight_decay:g}": GradientDescent(
            settings.step, settings.weight_decay, settings.momentum
        ),
    }
    iterations = dict.fromkeys(rules, settings.iterations)
    polar = Polar(settings.polar_step)
    steady = _iterations_before_zero(settings, polar)
    name = "polar (Muon)" + (f", first {steady} iterations" if steady < settings.iterations else "")
    rules[name], iterations[name] = polar, steady
    results: dict[str, Study] = {}
    verdicts: list[Verdict] = []
    for name, rule in rules.items():
        results[name] = study(settings.setting, rule, iterations[name])
        verdicts += exact_verdicts(f"{name}: ", results[name], rule)
        progress(len(results), len(rules))
    longer = study(settings.setting, polar, settings.polar_iterations)
    crossing = int(np.argmax(longer.rho <= settings.polar_step))
    beyond = 0 < crossing < 0.7 * settings.polar_iterations
    verdicts.append(
        Verdict.of(
            "control: polar steps beyond the time at which rho reaches 0, off-diagonal blocks",
            longer.forms.off_block[-1].max(),
            ">",
            1e-6,
            judged=beyond,
            note="" if beyond else "rho does not reach 0 early enough: rounding is not amplified",
        )
    )
    rows = [[name, result.rho[-1], result.forms.rho[-1, 0]] for name, result in results.items()]
    title = f"rho after {settings.iterations} iterations, or as many as its name says"
    table = Table("rho", title, ["update", "recursion", "measured"], rows)
    series = [line for name, result in results.items() for line in _rho_series(name, result)]
    names = list(rules)
    figures = [
        _rho_lines("momentum", series),
        *surfaces("momentum", names[0].capitalize(), results[names[0]]),
        *surfaces("polar", "Polar steps", results[names[2]]),
        Lines(
            "polar-blocks",
            "Polar steps: rounding is amplified once rho is near 0",
            "iteration",
            "off-diagonal share",
            [
                Series(f"W_{layer + 1}", longer.run.times[1:], longer.forms.off_block[1:, layer])
                for layer in range(settings.depth)
            ],
            log_y=True,
        ),
    ]
    return Outcome(verdicts, figures, [table])


def _iterations_before_zero(settings: MomentumSettings, rule: Rule) -> int:
    """How long rho keeps `AWAY` of its start, within the iterations asked for: nearer to 0 rounding is amplified."""
    rho = scale_recursion(settings.eps, rule, settings.iterations, depth=settings.depth, full_output=True)
    return max(1, int(np.argmin(np.append(rho, 0.0) >= AWAY * settings.eps)) - 1)


def _rho_series(name: str, result: Study) -> list[Series]:
    times = result.run.times
    measured = Series(f"{name}, measured", times[::5], result.forms.rho[::5, 0], style="points")
    return [Series(f"{name}, recursion", times, result.rho), measured]


def _rho_lines(name: str, series: list[Series]) -> Lines:
    return Lines(f"{name}-rho", "The singular value shared by the invariant part", "iteration", "rho", series)


EXPERIMENTS = (
    Experiment(
        "parsimony-svd",
        2,
        "Gradient descent changes 2r directions only",
        "The law of parsimony: singular values and vectors during training",
        "A deep linear network is trained from orthogonal weights on a target of rank r. "
        "In every layer all but 2r singular values move together on a curve known in advance, and their vectors never move.",
        SOURCE,
        SvdSettings,
        run_svd,
        full={"width": 100, "iterations": 500},
    ),
    Experiment(
        "parsimony-weight-decay",
        2,
        "Weight decay shrinks what is not learned",
        "The law of parsimony with weight decay",
        "The same with several weight decays, and with as many or fewer outputs than inputs. "
        "The invariant singular values follow their scalar recursion, faster towards zero with more decay.",
        SOURCE,
        DecaySettings,
        run_weight_decay,
        full={"width": 100, "iterations": 500},
    ),
    Experiment(
        "parsimony-momentum",
        2,
        "Momentum keeps the law, and polar steps while rho is away from 0",
        "The law of parsimony with momentum",
        "Heavy-ball momentum and polar steps (the direction of Muon) commute with rotations, so the theorem extends to them. "
        "One should see the same flat middle as for gradient descent, and for polar steps rounding that grows once rho reaches 0.",
        SOURCE + "; the extension to equivariant updates is this project's own",
        MomentumSettings,
        run_momentum,
        full={"width": 100},
    ),
)
