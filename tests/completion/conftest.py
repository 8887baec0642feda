from hypothesis import settings

# Numba compiles on the first call, so a deadline for one example would fail at random.
settings.register_profile("completion", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("completion")
