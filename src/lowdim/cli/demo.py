"""``lowdim demo``: the tour on what ships with the package."""

from typing import TYPE_CHECKING

from lowdim.cli._common import Fresh, Out, say

if TYPE_CHECKING:
    from lowdim.report import Result

TOUR = {
    "layerwise-collapse": "lowdim measure --model timm:resnet18 --data photos/",
    "few-labels": "lowdim advise --data photos/ --model timm:resnet18",
    "damaged-picture": "lowdim complete table.csv",
    "parsimony-svd": "lowdim check weights/ --theorem parsimony",
}
"""What is shown, and what to type for other data."""


def demo(out: Out = None, fresh: Fresh = False) -> "Result":
    """What is this? A tour of a minute, on data that ships with the package.

    lowdim demo

    Measures a network, tries few labels, completes a damaged picture, shows the law of parsimony: four cards on one page, each with
    the command for your own data. Nothing is downloaded. Without torch it shows the half that needs none.
    """
    import importlib.util

    from lowdim.cli.reproduce import run
    from lowdim.experiments import load

    experiments = [load(id) for id in TOUR]
    without = [one for one in experiments if all(importlib.util.find_spec(package) for package in one.needs)]
    steps: list[tuple[str, str]] = []
    if len(without) < len(experiments):
        say("torch is not installed: showing the parts that need none.")
        steps = [("The rest of this tour, and everything about networks:", "pip install 'lowdim[all]'")]
    return run(without, name="demo", commands=TOUR, out=out, fresh=fresh, next_steps=steps)
