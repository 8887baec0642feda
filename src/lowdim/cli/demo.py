"""``lowdim demo``: the tour on what ships with the package."""

from typing import TYPE_CHECKING

import typer

from lowdim.cli._command import command
from lowdim.cli._common import Fresh, Out, say

if TYPE_CHECKING:
    from lowdim.report import Result

TOUR = ("layerwise-collapse", "few-labels", "parsimony-svd", "separation-scale", "damaged-picture")
NEXT = (
    (
        "How do the classes of your images separate in a network, layer by layer?",
        "lowdim measure --model timm:resnet18 --data photos/",
    ),
    (
        "You have few labels: which model, which layer, or just a probe?",
        "lowdim advise --data photos/ --model timm:resnet18",
    ),
    ("Your table has holes:", "lowdim complete table.csv"),
    ("The whole lecture:", "lowdim reproduce all"),
)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(app)(demo)


def demo(out: Out = None, fresh: Fresh = False) -> "Result":
    """What is this? A tour of a minute, on data that ships with the package.

    lowdim demo

    Measures a network, tries few labels, shows the law of parsimony and progressive separation, completes a damaged picture.
    One page, nothing is downloaded. Without torch it shows the half that needs none.
    """
    import importlib.util

    from lowdim.cli.reproduce import run
    from lowdim.experiments import load

    experiments = [load(id) for id in TOUR]
    without = [one for one in experiments if all(importlib.util.find_spec(package) for package in one.needs)]
    steps = NEXT
    if len(without) < len(experiments):
        say("torch is not installed: showing the parts that need none.")
        steps = (*NEXT, ("The rest of this tour, and everything about networks:", "pip install 'lowdim[all]'"))
    return run(without, name="demo", out=out, fresh=fresh, next_steps=steps)
