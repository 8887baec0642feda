"""The solver `gd`: the compressed deep linear network of the lecture, trained by gradient descent."""
