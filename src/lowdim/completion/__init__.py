"""Completing an incomplete matrix: validated entries, solvers, and the dynamics of deep factorizations."""
