"""The solver of noisy tables: factor analysis, and what trees and kernels find in what it leaves over."""
