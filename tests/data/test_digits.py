"""The digits come from scikit-learn's file, read without importing scikit-learn."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits as sklearn_digits

from lowdim.data import _digits


@pytest.mark.parametrize("found", ["the file", "the function"])
def test_the_table_is_scikit_learns(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if found == "the function":
        monkeypatch.setattr(_digits, "find_spec", lambda name: None)
    pixels, labels = _digits._table()
    np.testing.assert_array_equal(pixels, sklearn_digits().data)
    np.testing.assert_array_equal(labels, sklearn_digits().target)


def test_scikit_learn_is_not_imported_for_them() -> None:
    code = "import sys; from lowdim.data import load_digits; load_digits(); sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
