"""Peak memory, each measurement in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

START = """
import json, resource, sys, torch
import numpy as np
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB
"""

WIDE = """
from lowdim.statistics import ClassStatistics, between_span, span_scatter
from lowdim.metrics import cdnv, separation, simplex_distance, variability
d, K, N = map(int, sys.argv[1:])
generator = torch.Generator().manual_seed(0)
labels = torch.arange(N) % K
features = torch.randn(N, d, generator=generator)
for start in range(0, N, 100):
    features[start : start + 100] += 3 * torch.randn(1, d, generator=generator)
small = features[:200, :50].contiguous()
def measure(features, labels):
    statistics = ClassStatistics.from_samples(features, labels, classes=K, scatter="none")
    span = between_span(statistics)
    found = variability(statistics, span_scatter(features, labels, statistics, span))
    return found.value, separation(statistics).value, simplex_distance(statistics), float(cdnv(statistics).sum())
measure(small, labels[:200])
before = peak()
value = measure(features, labels)[0]
print(json.dumps([peak() - before, value]))
"""

STREAM = """
from torch import nn
from lowdim.profiling import profile
class Source(nn.Module):
    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(1, 4000)
        self.head = nn.Linear(4000, 10)
    def forward(self, x):
        return self.head(torch.sin(self.lift(x)))
torch.manual_seed(0)
N = int(sys.argv[1])
inputs = torch.randn(N, 1)
labels = torch.arange(N) % 10
found = profile(Source(), (inputs, labels), layers="head:input", cache_budget=float(sys.argv[2]))
print(json.dumps([peak(), found.layers[0].samples]))
"""


def measure(code, *arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    command = [sys.executable, "-c", START + code, *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=environment)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


@pytest.mark.parametrize(
    ("width", "classes", "samples", "megabytes"),
    [(20_000, 40, 800, 150), pytest.param(50_000, 100, 2000, 500, marks=pytest.mark.slow)],
)
def test_wide_features_need_no_square_matrix(width, classes, samples, megabytes):
    """d x d would be 3.2 and 20 GB."""
    used, value = measure(WIDE, width, classes, samples)
    assert used < megabytes
    assert value > 0


@pytest.mark.parametrize("budget", [pytest.param(0, marks=pytest.mark.slow), 4e9])
@pytest.mark.parametrize(("samples", "times"), [(2500, 2), pytest.param(2500, 10, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_samples(budget, samples, times):
    few, count = measure(STREAM, samples, budget)
    many, more = measure(STREAM, times * samples, budget)
    assert (count, more) == (samples, times * samples)
    assert many < 1.05 * few
