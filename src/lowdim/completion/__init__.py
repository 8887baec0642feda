"""Completing an incomplete matrix: validated entries, solvers, and the dynamics of deep factorizations."""

from lowdim.completion.entries import Entries
from lowdim.completion._estimator import CompletionWarning, DeepMatrixCompletion

__all__ = ["CompletionWarning", "DeepMatrixCompletion", "Entries"]
