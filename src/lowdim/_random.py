"""Seeds for independent parts of one run."""

import numpy as np


def child_seed(seed: int, *path: str | int) -> int:
    """A seed for one named part of a run, independent of the seeds of its other parts.

    The same on every machine and every run, so adding a part changes no other part's numbers.

    Example:
        >>> child_seed(0, "split") == child_seed(0, "split"), child_seed(0, "split") == child_seed(0, "chance")
        (True, False)
    """
    words = [part if isinstance(part, int) else int.from_bytes(part.encode()[:16], "little") for part in path]
    return int(np.random.SeedSequence([seed, *words]).generate_state(1, np.uint32)[0])
