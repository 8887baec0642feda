"""The solver `exact`: recovery from few entries, nearly free of noise."""
