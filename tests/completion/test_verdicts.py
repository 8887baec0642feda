"""The verdicts of the compressed network that only the lecture's size has."""

import pytest

from lowdim.experiments.deep_completion import step_verdicts


@pytest.mark.parametrize(
    ("d", "fixed", "adaptive", "holds"),
    [
        (300, 5_000, 500, [True]),
        (300, 4_900, 500, [False]),
        (1000, 19_300, 965, [True, True]),
        (1000, 20_200, 1_014, [False, True]),
        (1000, 20_300, 500, [True, False]),
        (1000, 18_300, 500, [True, False]),
    ],
)
def test_iterations_of_the_compressed_network(d: int, fixed: int, adaptive: int, holds: list[bool]) -> None:
    assert [verdict.holds for verdict in step_verdicts(d, fixed, adaptive)] == holds
