"""Every check that scikit-learn has for estimators, none excused."""

from collections.abc import Callable

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from lowdim.completion import DeepMatrixCompletion


@parametrize_with_checks([DeepMatrixCompletion()])
@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_estimator_contract(estimator: DeepMatrixCompletion, check: Callable[[DeepMatrixCompletion], None]) -> None:
    check(estimator)
