"""The shape checks of the test suite are on."""

import jaxtyping
import pytest
import torch

from lowdim.metrics import nearest_mean


def test_a_shape_that_does_not_fit_its_annotation_is_seen():
    with pytest.raises(jaxtyping.TypeCheckError, match="means"):
        nearest_mean(torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_test_can_do_without():
    with pytest.raises(RuntimeError):
        nearest_mean(torch.zeros(2, 3), torch.zeros(2, 4))


def test_a_call_that_passed_says_nothing_of_other_shapes():
    nearest_mean(torch.zeros(2, 3), torch.zeros(4, 3))
    with pytest.raises(jaxtyping.TypeCheckError, match="means"):
        nearest_mean(torch.zeros(2, 3), torch.zeros(4, 5))
    with pytest.raises(jaxtyping.TypeCheckError, match="means"):
        nearest_mean(torch.zeros(2, 3), torch.zeros(4))
    with pytest.raises(jaxtyping.TypeCheckError, match="coordinates"):
        nearest_mean(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(4, 3))
