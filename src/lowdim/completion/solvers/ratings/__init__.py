"""The solvers of explicit ratings: posterior averaging, and a quick variational form of it."""
