"""The solvers of noisy tables: factor analysis, and what trees and a kernel find in what it leaves over."""
