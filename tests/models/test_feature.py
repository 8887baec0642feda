"""What the feature of a network is, for every form of network: heads of many kinds, encoders, what is refused."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lowdim.data import dataset_from_arrays
from lowdim.errors import InputError, UsageError
from lowdim.features import recorded
from lowdim.finetuning import finetune
from lowdim.models import DigitsNet, Feature, as_model, default_layers, find_feature, later_blocks, unwrapped


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def rows(network: nn.Module, feature: Feature, inputs: Any) -> Tensor:
    """What is measured as the feature."""
    found = recorded(network, feature.layer, inputs, [feature.pool], feature.layout)
    return found[feature.pool]


class Net(nn.Module):
    """A convolution, and whatever follows."""

    def __init__(self, after: Callable[["Net", Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.stem = nn.Conv2d(3, 6, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        for name, part in parts.items():
            setattr(self, name, part)
        self.after = after

    def forward(self, x: Tensor) -> Any:
        return self.after(self, self.stem(x).relu())

    def pooled(self, x: Tensor) -> Tensor:
        return self.pool(x).flatten(1)


class Cosine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.scale = nn.Parameter(noise(4, 6)), nn.Parameter(torch.tensor(7.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight))


class LowRank(nn.Module):
    """A linear layer with an adapter beside it, as modules or as mere weights."""

    def __init__(self, *, modules: bool) -> None:
        super().__init__()
        self.base, self.modules_too = nn.Linear(6, 4), modules
        self.down, self.up = nn.Linear(6, 2, bias=False), nn.Linear(2, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.modules_too:
            return self.base(x) + 0.5 * self.up(self.down(F.dropout(x, 0.1, self.training)))
        return F.linear(x, self.base.weight) + x @ self.down.weight.T @ self.up.weight.T


class Angles(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(noise(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        cosines = (x / x.norm(dim=1, keepdim=True)) @ (self.weight / self.weight.norm(dim=0))
        return 30 * torch.cos(torch.acos(cosines.clamp(-0.999, 0.999)) + 0.1)


class Bases(nn.Module):
    """Functions of each number, weighed: splines and radial bases, beside a linear part."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.base, self.curves = nn.LayerNorm(6), nn.Linear(6, 4), nn.Linear(18, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        bases = (-((self.norm(x).unsqueeze(2) - torch.tensor([-1.0, 0.0, 1.0])) ** 2)).exp().flatten(1)
        return self.base(F.silu(x)) + self.curves(bases)


class Cubes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(noise(6, 4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nid,iod->no", x.tanh().unsqueeze(2) ** torch.arange(3), self.weight)


def closeness(squares: Tensor) -> Tensor:
    return torch.log((squares + 1) / (squares + 1e-4))


def steps(cumulative: Tensor) -> Tensor:
    return torch.cat([1 - cumulative[:, :1], cumulative[:, :-1] - cumulative[:, 1:], cumulative[:, -1:]], 1)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))


HEADS = {
    "linear": (Net(lambda n, x: n.fc(n.pooled(x)), fc=nn.Linear(6, 4)), "fc:input", ("fc",), 6),
    "never run": (
        Net(lambda n, x: n.fc(n.pooled(x)), fc=nn.Linear(6, 4), projector=nn.Linear(6, 3)),
        "fc:input",
        ("fc",),
        6,
    ),
    "log softmax": (Net(lambda n, x: n.fc(n.pooled(x)).log_softmax(1), fc=nn.Linear(6, 4)), "fc:input", ("fc",), 6),
    "scaled, of one output": (
        Net(lambda n, x: 3 * n.fc(n.pooled(x)).squeeze(1), fc=nn.Linear(6, 1)),
        "fc:input",
        ("fc",),
        6,
    ),
    "MLP": (Net(lambda n, x: n.fc(n.pooled(x)), fc=mlp()), "fc.2:input", ("fc.2",), 5),
    "convolution": (Net(lambda n, x: n.fc(x).mean((2, 3)), fc=nn.Conv2d(6, 4, 1)), "fc:input", ("fc",), 6),
    "squeezenet": (Net(lambda n, x: n.pooled(n.fc(x).relu()), fc=nn.Conv2d(6, 4, 1)), "fc:input", ("fc",), 6),
    "on a map of one point": (
        Net(lambda n, x: n.fc(n.pool(x)).flatten(1), fc=nn.Conv2d(6, 4, 1)),
        "fc:input",
        ("fc",),
        6,
    ),
    "cosine": (Net(lambda n, x: n.fc(n.pooled(x)), fc=Cosine()), "fc:input", ("fc",), 6),
    "cosine without a module": (
        Net(
            lambda n, x: F.linear(F.normalize(n.flat(n.pool(x))), n.prototypes.weight),
            flat=nn.Flatten(),
            prototypes=nn.Linear(6, 4),
        ),
        "flat",
        (),
        6,
    ),
    "auxiliary output": (
        Net(lambda n, x: (n.fc(n.pooled(x)), n.aux(x)), fc=nn.Linear(6, 4), aux=nn.Conv2d(6, 2, 1)),
        "fc:input",
        ("fc",),
        6,
    ),
    "named outputs": (
        Net(lambda n, x: {"map": x, "logits": n.fc(n.pooled(x))}, fc=nn.Linear(6, 4)),
        "fc:input",
        ("fc",),
        6,
    ),
    "two heads on one feature": (
        Net(
            lambda n, x: (n.a(n.flat(x)) + n.b(n.flat(x))) / 2,
            a=nn.Linear(6, 4),
            b=nn.Linear(6, 4),
            flat=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        ),
        "a:input",
        ("a", "b"),
        6,
    ),
    "two heads on two features": (
        Net(lambda n, x: (n.a(n.pooled(x)) + n.b(x.amax((2, 3)))) / 2, a=nn.Linear(6, 4), b=nn.Linear(6, 4)),
        "a:input+b:input",
        ("a", "b"),
        6,
    ),
    "an output for each class": (
        Net(lambda n, x: torch.cat([n.a(n.pooled(x)), n.b(n.pooled(x))], 1), a=nn.Linear(6, 3), b=nn.Linear(6, 1)),
        "a:input",
        (),
        6,
    ),
    "two heads of two widths": (
        Net(
            lambda n, x: torch.stack([n.a(n.pooled(x)), n.b(n.pooled(x)[:, :2])]).mean(0),
            a=nn.Linear(6, 4),
            b=nn.Linear(2, 4),
        ),
        "a:input&b:input",
        ("a", "b"),
        8,
    ),
    "removed": (Net(lambda n, x: n.fc(n.pooled(x)), fc=nn.Identity()), "fc:input", ("fc",), 6),
    "none": (Net(lambda n, x: n.norm(n.pooled(x)), norm=nn.LayerNorm(6)), "norm", (), 6),
    "residual without a head": (Net(lambda n, x: n.pooled(x) + n.fc(n.pooled(x)), fc=nn.Linear(6, 6)), "output", (), 6),
    "a pyramid": (Net(lambda n, x: [x, n.down(x)], down=nn.Conv2d(6, 9, 2, 2)), "down", (), 9),
    "functional": (Net(lambda n, x: n.pooled(x) @ n.w.weight.T, w=nn.Linear(6, 4)), "pool", (), 6),
    "functional on channels last": (
        Net(lambda n, x: n.w(F.adaptive_avg_pool2d(x.to(memory_format=torch.channels_last), 1).flatten(1)), w=Cosine()),
        "w:input",
        ("w",),
        6,
    ),
    "functional, nothing on the way": (
        Net(
            lambda n, x: F.linear(
                F.adaptive_avg_pool2d(n.act(x).to(memory_format=torch.channels_last), 1).flatten(1), n.w.weight
            ),
            act=nn.ReLU(),
            w=nn.Linear(6, 4),
        ),
        "act",
        (),
        6,
    ),
    "distances to prototypes": (
        Net(lambda n, x: -torch.cdist(n.pooled(x), n.w.weight), w=nn.Linear(6, 4)),
        "pool",
        (),
        6,
    ),
    "squared distances": (
        Net(lambda n, x: -(n.pooled(x)[:, None] - n.w.weight[None]).pow(2).sum(2), w=nn.Linear(6, 4)),
        "pool",
        (),
        6,
    ),
    "cosine similarity": (
        Net(lambda n, x: F.cosine_similarity(n.pooled(x)[:, None], n.w.weight[None], dim=2), w=nn.Linear(6, 4)),
        "pool",
        (),
        6,
    ),
    "the nearest of three centres": (
        Net(lambda n, x: n.w(n.pooled(x)).reshape(-1, 4, 3).amax(2), w=nn.Linear(6, 12)),
        "w:input",
        (),
        6,
    ),
    "soft cap": (Net(lambda n, x: 30 * (n.fc(n.pooled(x)) / 30).tanh(), fc=nn.Linear(6, 4)), "fc:input", ("fc",), 6),
    "pooled with tanh": (Net(lambda n, x: n.fc(n.pooled(x)).tanh(), fc=nn.Linear(6, 4)), "output", (), 4),
    "of length one": (Net(lambda n, x: F.normalize(n.fc(n.pooled(x))), fc=nn.Linear(6, 4)), "output", (), 4),
    "log sigmoid": (Net(lambda n, x: F.logsigmoid(n.fc(n.pooled(x))), fc=nn.Linear(6, 4)), "fc:input", ("fc",), 6),
    "masked classes": (
        Net(
            lambda n, x: n.fc(n.pooled(x)).masked_fill(torch.tensor([True, False, False, False]), -1e9),
            fc=nn.Linear(6, 4),
        ),
        "fc:input",
        ("fc",),
        6,
    ),
    "both sides of one answer": (
        Net(lambda n, x: torch.stack([-n.fc(n.pooled(x))[:, 0], n.fc(n.pooled(x))[:, 0]], 1), fc=nn.Linear(6, 1)),
        "fc:input#2",
        (),
        6,
    ),
    "an adapter of low rank on the head": (
        Net(lambda n, x: n.fc(n.pooled(x)), fc=LowRank(modules=True)),
        "fc:input",
        ("fc",),
        6,
    ),
    "an adapter of bare weights": (
        Net(lambda n, x: n.fc(n.pooled(x)), fc=LowRank(modules=False)),
        "fc:input",
        ("fc",),
        6,
    ),
    "a normalisation of scores before a softmax": (
        Net(lambda n, x: n.norm(n.fc(n.pooled(x))).log_softmax(1), fc=nn.Linear(6, 4), norm=nn.BatchNorm1d(4)),
        "fc:input",
        ("fc",),
        6,
    ),
    "labels by two": (Net(lambda n, x: n.fc(n.pooled(x)).reshape(-1, 5, 2), fc=nn.Linear(6, 10)), "fc:input", (), 6),
    "labels by two, a head for each": (
        Net(lambda n, x: torch.stack([n.a(n.pooled(x)), n.b(n.pooled(x))], 1), a=nn.Linear(6, 2), b=nn.Linear(6, 2)),
        "a:input",
        (),
        6,
    ),
    "angles": (Net(lambda n, x: n.fc(n.pooled(x)), fc=Angles()), "fc:input", ("fc",), 6),
    "the largest score of a map": (
        Net(lambda n, x: F.adaptive_max_pool2d(n.fc(x), 1).flatten(1), fc=nn.Conv2d(6, 4, 1)),
        "fc:input",
        ("fc",),
        6,
    ),
    "a soft maximum over a map": (
        Net(lambda n, x: n.fc(x).flatten(2).logsumexp(2), fc=nn.Conv2d(6, 4, 1)),
        "fc:input",
        ("fc",),
        6,
    ),
    "linear at each point": (
        Net(lambda n, x: n.fc(x.permute(0, 2, 3, 1)).mean((1, 2)), fc=nn.Linear(6, 4)),
        "fc:input",
        ("fc",),
        6,
    ),
    "along one axis": (Net(lambda n, x: n.fc(x.flatten(2)).mean(2), fc=nn.Conv1d(6, 4, 1)), "fc:input", ("fc",), 6),
    "along one axis, after an activation": (
        Net(lambda n, x: n.fc(x.flatten(2)).relu().mean(2), fc=nn.Conv1d(6, 4, 1)),
        "fc:input",
        ("fc",),
        6,
    ),
    "experts and their gates": (
        Net(
            lambda n, x: torch.einsum(
                "ne,nek->nk", n.gate(n.pooled(x)).softmax(1), torch.stack([n.a(n.pooled(x)), n.b(n.pooled(x))], 1)
            ),
            gate=nn.Linear(6, 2),
            a=nn.Linear(6, 4),
            b=nn.Linear(6, 4),
        ),
        "a:input",
        ("a", "b"),
        6,
    ),
    "double precision": (Net(lambda n, x: n.fc(n.pooled(x)), fc=nn.Linear(6, 4)).double(), "fc:input", ("fc",), 6),
    "half precision": (Net(lambda n, x: n.fc(n.pooled(x)), fc=nn.Linear(6, 4)).bfloat16(), "fc:input", ("fc",), 6),
    "bases of each number, beside a linear part": (
        Net(lambda n, x: n.fc(n.pooled(x)), fc=Bases()),
        "fc:input",
        ("fc",),
        6,
    ),
    "powers of each number": (Net(lambda n, x: n.fc(n.pooled(x)), fc=Cubes()), "fc:input", ("fc",), 6),
    "closeness to prototypes": (
        Net(lambda n, x: closeness(torch.cdist(n.pooled(x), n.w.weight) ** 2), w=nn.Linear(6, 4)),
        "pool",
        (),
        6,
    ),
    "steps between answers": (
        Net(lambda n, x: steps(n.fc(n.pooled(x)).sigmoid()), fc=nn.Linear(6, 4)),
        "fc:input",
        (),
        6,
    ),
    "the larger of two answers": (
        Net(lambda n, x: torch.maximum(n.fc(n.pooled(x)), n.fc(n.pooled(x.flip(3)))), fc=nn.Linear(6, 4)),
        "fc:input#2+fc:input",
        ("fc",),
        6,
    ),
    "auxiliary output first, by name": (
        Net(lambda n, x: {"aux": n.a(x.amax((2, 3))), "out": n.b(n.pooled(x))}, a=nn.Linear(6, 4), b=nn.Linear(6, 4)),
        "b:input",
        ("b",),
        6,
    ),
    "loss first": (
        Net(lambda n, x: {"loss": x.mean(), "preds": n.fc(n.pooled(x))}, fc=nn.Linear(6, 4)),
        "fc:input",
        ("fc",),
        6,
    ),
    "compiled parts": (Net(lambda n, x: n.fc(n.pooled(x)), fc=nn.Linear(6, 4)), "fc:input", ("fc",), 6),
}


@pytest.mark.parametrize("form", HEADS)
def test_where_the_head_stands(form: str) -> None:
    network, layer, heads, width = HEADS[form]
    inputs = noise(3, 3, 8, 8)
    feature = find_feature(network, inputs)
    assert (feature.name, feature.heads, feature.width) == (layer, heads, width)
    assert rows(network, feature, inputs).shape == (3, width)
    layers = default_layers(network, feature)
    assert layers[-1] == feature.layer
    assert not [name for name in layers for head in heads if name.startswith(f"{head}.")]


def test_what_the_heads_read_is_what_is_measured() -> None:
    inputs = noise(3, 3, 8, 8)
    for form in (
        "linear",
        "MLP",
        "convolution",
        "cosine",
        "squeezenet",
        "an adapter of low rank on the head",
        "linear at each point",
        "along one axis",
        "along one axis, after an activation",
    ):
        network = HEADS[form][0]
        feature = find_feature(network, inputs)
        expected = network.stem(inputs).relu().mean((2, 3))
        if form == "MLP":
            expected = network.fc[:2](expected)
        torch.testing.assert_close(rows(network, feature, inputs), expected)
        assert feature.outputs == 4


def test_the_order_of_calls_decides_in_shared_modules() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x).relu())

    network, x = Shared(), noise(3, 4)
    feature = find_feature(network, x)
    assert (feature.layer, feature.heads) == ("layer:input#2", ("layer",))
    torch.testing.assert_close(rows(network, feature, x), network.layer(x).relu())


def test_a_block_that_runs_again_for_the_second_half_of_a_feature_is_tuned() -> None:
    class Twice(nn.Module):
        """Averages its answers on the input and on its negative."""

        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return (self.head(self.body(x)) + self.head(self.body(-x))) / 2

    network, x = Twice(), noise(12, 4)
    assert find_feature(network, x).layer == "head:input#2+head:input"
    data = dataset_from_arrays(x.numpy(), np.arange(12) % 2, x.numpy(), np.arange(12) % 2)
    assert (
        finetune(as_model(network), data, method="layer", layer="body.0", epochs=1).as_dict()["feature"]["width"] == 4
    )


def test_sequences_with_the_samples_second_are_not_measured() -> None:
    block = nn.TransformerEncoderLayer(6, 2, 8, dropout=0)
    network = Net(lambda n, x: n.fc(n.block(x.flatten(2).permute(2, 0, 1)).mean(0)), block=block, fc=nn.Linear(6, 4))
    feature = find_feature(network, noise(3, 3, 8, 8))
    assert feature.layer == "fc:input"
    assert feature.apart >= {"block", "block.linear1"}
    assert not feature.apart & {*default_layers(network, feature), *later_blocks(network, feature)}
    labels = np.arange(8) % 2
    images = dataset_from_arrays(np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3), np.uint8), labels)
    tuned = finetune(as_model(network, kind="image"), images, method="layer", layer="block", epochs=1, batch_size=4)
    assert any("takes 36 rows for 3 samples" in warning for warning in tuned.warnings)


class Decoder(nn.Module):
    """Tokens, a classifier at each, and the answer of the token that `read` picks."""

    def __init__(self, read: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.embed, self.norm, self.score = nn.Embedding(20, 6), nn.LayerNorm(6), nn.Linear(6, 3)
        self.read = read

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.read(self.score(self.norm(self.embed(input_ids))), attention_mask)


TOKENS = {
    "input_ids": torch.randint(1, 20, (3, 5), generator=torch.Generator().manual_seed(0)),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]),
}
READ = {
    "last": lambda logits, mask: logits[torch.arange(3), mask.sum(1) - 1],
    "cls": lambda logits, mask: logits[:, 0],
    "avg": lambda logits, mask: (logits * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True),
}


@pytest.mark.parametrize("pool", READ)
def test_the_token_that_the_classifier_reads(pool: str) -> None:
    network = Decoder(READ[pool])
    feature = find_feature(network, TOKENS)
    assert (feature.layer, feature.pool, feature.heads) == ("score:input", pool, ("score",))
    torch.testing.assert_close(network.score(rows(network, feature, TOKENS)), network(**TOKENS))


def test_a_token_that_no_pooling_gives_is_refused() -> None:
    with pytest.raises(InputError, match="none of their last, first and mean"):
        find_feature(Decoder(lambda logits, mask: logits[:, 1]), TOKENS)


def test_heads_on_different_features_that_are_not_averaged_are_refused_by_name() -> None:
    network = Net(
        lambda n, x: torch.cat([n.a(n.pooled(x)), n.b(n.pooled(x) ** 2)], 1), a=nn.Linear(6, 4), b=nn.Linear(6, 2)
    )
    with pytest.raises(InputError, match=r"a and b.*`feature=\"a:input\"`"):
        find_feature(network, noise(2, 3, 8, 8))
    assert find_feature(network, noise(2, 3, 8, 8), layer="a:input").width == 6


DOUBTFUL = {
    "with weights that depend on the sample": (
        Net(
            lambda n, x: torch.bmm(n.w(x.amax((2, 3))).view(-1, 5, 6), n.pooled(x)[:, :, None]).squeeze(2),
            w=nn.Linear(6, 30),
        ),
        "reads two features at once",
        "pool",
    ),
    "of a map, with a classifier beside it": (
        Net(lambda n, x: (n.mask(x), n.fc(n.pooled(x))), mask=nn.Conv2d(6, 2, 1), fc=nn.Linear(6, 5)),
        r"returns \(3, 2, 6, 6\) first, and beside it the answers of fc.*`feature=\"fc:input\"`",
        "fc:input",
    ),
    "in order of size": (
        Net(lambda n, x: n.fc(n.pooled(x)).softmax(1).topk(3), fc=nn.Linear(6, 5)),
        r"in order of their size \(topk\).*`feature=\"fc:input\"`",
        "fc:input",
    ),
    "normalised over the batch": (
        Net(lambda n, x: n.norm(n.fc(n.pooled(x))), fc=nn.Linear(6, 5), norm=nn.BatchNorm1d(5)),
        r"normalisation over batches \(norm\) of what fc gives.*`feature=\"fc:input\"`.*`feature=\"norm\"`",
        "fc:input",
    ),
    "of two features at once": (
        Net(lambda n, x: n.fc(n.pooled(x), x.amax((2, 3))), fc=nn.Bilinear(6, 6, 5)),
        r"fc reads two features at once.*`feature=\"fc:input\"`",
        "fc:input",
    ),
    "of experts that read different features": (
        Net(
            lambda n, x: n.gate(n.pooled(x)) * n.a(n.pooled(x)) + n.b(n.pooled(x).relu()),
            gate=nn.Linear(6, 1),
            a=mlp(),
            b=mlp(),
        ),
        r"a.2 and b.2\) that read different features.*`feature=\"a.2:input\"`",
        "a.2:input",
    ),
}


@pytest.mark.parametrize("form", DOUBTFUL)
def test_what_is_in_doubt_is_refused_with_what_to_type(form: str) -> None:
    network, message, layer = DOUBTFUL[form]
    with pytest.raises(InputError, match=message):
        find_feature(network, noise(3, 3, 8, 8))
    assert find_feature(network, noise(3, 3, 8, 8), layer=layer).layer == layer


def test_what_may_be_something_else_is_said() -> None:
    x = noise(3, 3, 8, 8)
    scores = Net(lambda n, x: F.normalize(n.fc(n.pooled(x))), fc=nn.Linear(6, 4))
    assert find_feature(scores, x).why.endswith('no classifier (if these are scores of classes: `feature="fc:input"`)')
    several = Net(
        lambda n, x: [n.a(n.pooled(x)), n.b(x.amax((2, 3))), n.c(n.pooled(x))],
        a=nn.Linear(6, 4),
        b=nn.Linear(6, 4),
        c=nn.Linear(6, 2),
    )
    assert (
        find_feature(several, x).why
        == "what a reads, the classifier; b, whose answers come beside it, reads something else"
    )


def test_one_row_that_a_product_weighs_from_several_is_no_signal() -> None:
    network = Net(
        lambda n, x: n.fc(torch.bmm(n.score(n.lift(x)).transpose(1, 2).softmax(2), n.lift(x))).squeeze(1),
        lift=nn.Linear(4, 6),
        score=nn.Linear(6, 1),
        fc=nn.Linear(6, 3),
    )
    network.forward = lambda x: network.after(network, x)  # type: ignore[method-assign]
    x = noise(3, 5, 4)
    feature = find_feature(network, x)
    assert (feature.layer, feature.width) == ("fc:input", 6)
    torch.testing.assert_close(network.fc(rows(network, feature, x)), network(x))


def test_scripted_parts_are_run_and_not_looked_into() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        body = torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.ReLU()).eval())
    network = nn.Sequential(body, nn.Linear(4, 2)).eval()
    feature = find_feature(network, noise(3, 3))
    assert (feature.layer, feature.width) == ("1:input", 4)
    torch.testing.assert_close(rows(network, feature, noise(3, 3)), body(noise(3, 3)))


def test_a_language_model_has_the_feature_from_which_it_scores_its_vocabulary() -> None:
    network = Decoder(lambda logits, mask: logits)
    assert find_feature(network, TOKENS).layer == "score"
    network.score = nn.Linear(6, 20)
    feature = find_feature(network, TOKENS)
    assert (feature.layer, feature.pool, feature.heads, feature.width) == ("score:input", "avg", (), 6)
    with torch.no_grad():
        tokens, mask = network.norm(network.embed(TOKENS["input_ids"])), TOKENS["attention_mask"].unsqueeze(2)
    torch.testing.assert_close(rows(network, feature, TOKENS), (tokens * mask).sum(1) / mask.sum(1))


def test_a_normalisation_before_an_activation_ends_an_encoder() -> None:
    network = Net(lambda n, x: n.pooled(n.norm(n.up(x)).relu()), up=nn.Conv2d(6, 9, 1), norm=nn.BatchNorm2d(9))
    assert (
        find_feature(network, noise(3, 3, 8, 8)).describe()
        == "output, 9 wide: the output of the network; no classifier"
    )


def test_channels_are_where_the_operations_put_them() -> None:
    """Signals ``n x c x t`` and maps with their channels last are averaged over their positions, in modules that know no channels, too."""
    signals = nn.Sequential(
        nn.Conv1d(2, 6, 3), nn.ReLU(), nn.MaxPool1d(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    x = noise(3, 2, 20)
    feature = find_feature(signals, x)
    assert (feature.layer, feature.channels["1"], feature.channels["2:input"]) == ("5:input", 1, 1)
    maps = signals[:2](x)
    for layer, expected in {"1": maps.mean(2), "2": signals[2](maps).mean(2), "1:input": signals[0](x).mean(2)}.items():
        found = find_feature(signals, x, layer=layer)
        torch.testing.assert_close(rows(signals, found, x), expected)
    flat = recorded(signals, "1", x, ["flatten"], feature.layout)["flatten"]
    torch.testing.assert_close(flat, maps.flatten(1))

    last = Net(
        lambda n, x: n.fc(n.act(n.lift(x.permute(0, 2, 3, 1))).mean((1, 2))),
        lift=nn.Linear(6, 6),
        act=nn.GELU(),
        fc=nn.Linear(6, 3),
    )
    x = noise(3, 3, 8, 8)
    found = find_feature(last, x, layer="act")
    torch.testing.assert_close(
        rows(last, found, x), last.act(last.lift(last.stem(x).relu().permute(0, 2, 3, 1))).mean((1, 2))
    )


def test_a_feature_that_was_asked_for() -> None:
    network, x = DigitsNet(4, width=5, depth=2), noise(2, 1, 8, 8)
    assert find_feature(network, x, layer="head:input") == find_feature(network, x)
    found = find_feature(network, x, layer="blocks.0")
    assert (found.layer, found.width, found.heads, found.why) == ("blocks.0", 5, (), "as asked for")
    for layer, message in (("blocks.?", "matches 2"), ("blocks.9", "Did you mean")):
        with pytest.raises(UsageError, match=message):
            find_feature(network, x, layer=layer)
    with pytest.raises(InputError, match="never runs"):
        find_feature(HEADS["never run"][0], noise(2, 3, 8, 8), layer="projector")
    with pytest.raises(UsageError, match="no pooling 'median'"):
        find_feature(network, x, pool="median")  # type: ignore[arg-type]


def test_a_pooling_that_was_asked_for() -> None:
    """At the maps or tokens that the classifier's row was taken from."""
    network, x = HEADS["linear"][0], noise(2, 3, 8, 8)
    found = find_feature(network, x, pool="avg")
    assert (found.layer, found.heads) == ("fc:input", ("fc",))
    assert find_feature(network, x, pool="flatten").why.endswith("(one row per sample: no pooling)")
    decoder = Decoder(READ["last"])
    mean = find_feature(decoder, TOKENS, pool="mean")
    assert (mean.layer, mean.pool, mean.heads) == ("score:input", "mean", ("score",))
    with pytest.raises(InputError, match="attention"):
        find_feature(decoder, TOKENS, pool="map")


REFUSED = {
    "an activation before the functional head": (
        lambda n, x: n.pooled(x).sigmoid() @ n.w.weight.T,
        "between its modules",
    ),
    "NumPy on the way": (lambda n, x: n.w(torch.from_numpy(n.pooled(x).detach().numpy())), "NumPy in between"),
    "numbers of classes": (lambda n, x: n.w(n.pooled(x)).argmax(1), r"output gives \(2,\)"),
    "nothing": (lambda n, x: None, "without a tensor"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_cannot_be_told_is_refused(form: str) -> None:
    after, message = REFUSED[form]
    with pytest.raises(InputError, match=message):
        find_feature(Net(after, w=nn.Linear(6, 4)), noise(2, 3, 8, 8))


def test_what_wraps_a_network_is_taken_off_or_refused() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    assert unwrapped(nn.DataParallel(network)) is network
    exported = torch.export.export(network, (noise(2, 3),)).module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, torch.qint8)
        traced = torch.jit.trace(network, noise(2, 3))
    for wrapped, said in ((exported, "exported"), (quantised, "quantised"), (traced, "traced")):
        with pytest.raises(InputError, match=f"The network is {said}.*Give the Python network"):
            as_model(wrapped)


def test_the_network_is_left_as_it_was() -> None:
    network = DigitsNet(3).train()
    find_feature(network, noise(2, 1, 8, 8))
    assert all(module.training for module in network.modules())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in network.modules())


def test_a_network_that_fails_says_on_what_and_what_to_try() -> None:
    with pytest.raises(InputError, match=r"fails on inputs of shape 2 x 3 x 8 x 8: RuntimeError: .*`image_size`"):
        find_feature(DigitsNet(3), noise(2, 3, 8, 8))
    with pytest.raises(InputError, match="random masks"):
        find_feature(Net(lambda n, x: n.fc(n.pooled(torch.rand_like(x))), fc=nn.Linear(6, 4)), noise(2, 3, 8, 8))


# --- Forms of transformers. Each tiny configuration with its library's own answer.

TINY = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
TEXT = {"vocab_size": 20, "hidden_size": 8, "max_position_embeddings": 16, **TINY}
PICTURE = {"hidden_size": 8, "image_size": 32, "patch_size": 8, **TINY}


def built(transformers: Any, config: str, model: str, settings: dict[str, Any]) -> nn.Module:
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        made = getattr(transformers, config)(**settings)
        return getattr(transformers, model)(made).eval()


def mean_of(output: Any) -> Tensor:
    mask = TOKENS["attention_mask"].unsqueeze(2)
    return (output.last_hidden_state * mask).sum(1) / mask.sum(1)


def pooler_of(output: Any) -> Tensor:
    return output.pooler_output.flatten(1)


def first_of(output: Any) -> Tensor:
    return output.last_hidden_state[:, 0]


ENCODERS = {
    "ELECTRA": ("ElectraConfig", "ElectraModel", {**TEXT, "embedding_size": 4}, "encoder.layer.1", mean_of),
    "ALBERT": (
        "AlbertConfig",
        "AlbertModel",
        {**TEXT, "embedding_size": 4},
        "encoder.albert_layer_groups.0.albert_layers.0#2",
        mean_of,
    ),
    "BERT": ("BertConfig", "BertModel", TEXT, "encoder.layer.1", mean_of),
    "OPT, the 350m form": (
        "OPTConfig",
        "OPTModel",
        {**TEXT, "ffn_dim": 16, "word_embed_proj_dim": 4, "do_layer_norm_before": False},
        "decoder.project_out",
        mean_of,
    ),
    "GPT-2": (
        "GPT2Config",
        "GPT2Model",
        {"vocab_size": 20, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16},
        "ln_f",
        mean_of,
    ),
    "Swin": (
        "SwinConfig",
        "SwinModel",
        {"image_size": 32, "patch_size": 4, "embed_dim": 4, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
        "layernorm",
        pooler_of,
    ),
    "SigLIP": ("SiglipVisionConfig", "SiglipVisionModel", PICTURE, "head", pooler_of),
    "ViT": ("ViTConfig", "ViTModel", PICTURE, "layernorm", first_of),
    "DINOv2 with registers": (
        "Dinov2WithRegistersConfig",
        "Dinov2WithRegistersModel",
        {**PICTURE, "num_register_tokens": 3},
        "layernorm",
        pooler_of,
    ),
    "BEiT": ("BeitConfig", "BeitModel", PICTURE, "pooler.layernorm", pooler_of),
    "CLIP's vision side": ("CLIPVisionConfig", "CLIPVisionModel", PICTURE, "post_layernorm", pooler_of),
    "ConvNeXt": (
        "ConvNextConfig",
        "ConvNextModel",
        {"hidden_sizes": [4, 8], "depths": [1, 1], "num_stages": 2},
        "layernorm",
        pooler_of,
    ),
    "MobileNetV2": (
        "MobileNetV2Config",
        "MobileNetV2Model",
        {"depth_multiplier": 0.35},
        "conv_1x1.activation",
        pooler_of,
    ),
}


@pytest.mark.parametrize("form", ENCODERS)
def test_encoders_of_transformers(form: str) -> None:
    transformers = pytest.importorskip("transformers")
    config, model, settings, layer, expected = ENCODERS[form]
    network = built(transformers, config, model, settings)
    inputs = (
        TOKENS
        if expected is mean_of
        else noise(3, 3, 64 if form == "MobileNetV2" else 32, 64 if form == "MobileNetV2" else 32)
    )
    feature = find_feature(network, inputs)
    assert (feature.layer, feature.heads) == (layer, ())
    with torch.no_grad():
        output = network(**inputs) if isinstance(inputs, dict) else network(inputs)
    torch.testing.assert_close(rows(network, feature, inputs), expected(output), rtol=1e-4, atol=1e-5)
    if form == "MobileNetV2":
        assert feature.width == 1280
    if form == "DINOv2 with registers":
        mean = find_feature(network, inputs, pool="mean")
        torch.testing.assert_close(rows(network, mean, inputs), output.last_hidden_state[:, 4:].mean(1))


def test_a_token_that_a_pooler_chooses_by_its_number_is_no_pooling_of_ours() -> None:
    """CLIP's text side takes the token with the largest number: neither the first nor the last, and no mean either."""
    transformers = pytest.importorskip("transformers")
    network = built(transformers, "CLIPTextConfig", "CLIPTextModel", {**TEXT, "eos_token_id": 2})
    tokens = {"input_ids": TOKENS["input_ids"].clone(), "attention_mask": torch.ones(3, 5, dtype=torch.long)}
    tokens["input_ids"][:, 2] = 19
    feature = find_feature(network, tokens)
    assert (feature.pool, feature.why) == ("avg", "the output of final_layer_norm; no classifier, the mean over tokens")
    tokens["input_ids"][:, 2], tokens["input_ids"][:, 4] = 3, 19
    assert find_feature(network, tokens).pool == "last"


def test_a_decoder_with_a_classifier_reads_its_last_token() -> None:
    transformers = pytest.importorskip("transformers")
    settings = {**ENCODERS["GPT-2"][2], "pad_token_id": 0, "num_labels": 3}
    network = built(transformers, "GPT2Config", "GPT2ForSequenceClassification", settings)
    tokens = {**TOKENS, "input_ids": TOKENS["input_ids"] * TOKENS["attention_mask"]}
    feature = find_feature(network, tokens)
    assert (feature.layer, feature.pool) == ("score:input", "last")
    with torch.no_grad():
        torch.testing.assert_close(network.score(rows(network, feature, tokens)), network(**tokens).logits)


# --- Hard forms of timm.

HARD = {
    "deit_tiny_distilled_patch16_224": ({"img_size": 32, "depth": 2}, 192),
    "crossvit_9_240": ({}, 384),
    "levit_128s": ({}, 384),
    "vit_tiny_patch16_224": ({"img_size": 32, "depth": 2, "global_pool": "avg"}, 192),
    "vit_base_patch16_siglip_224": ({"img_size": 32, "depth": 1, "embed_dim": 24, "num_heads": 2}, 24),
    "vit_small_patch14_reg4_dinov2": ({"img_size": 28, "depth": 1, "embed_dim": 24, "num_heads": 2}, 24),
    "test_byobnet": ({}, 256),
    "test_convnext": ({}, 64),
    "test_efficientnet": ({}, 256),
    "test_mambaout": ({}, None),
    "cait_xxs24_224": ({"depth": 2}, 192),
    "volo_d1_224": ({"img_size": 64}, 384),
    "resnet18": ({"num_classes": 0}, 512),
}


@pytest.mark.parametrize("name", HARD)
def test_hard_forms_of_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    arguments, width = HARD[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(name, **arguments).eval()
    side = arguments.get("img_size", network.pretrained_cfg["input_size"][-1])
    inputs = noise(2, 3, side, side)
    feature = find_feature(network, inputs)
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(inputs), pre_logits=True).flatten(1)
    found = rows(network, feature, inputs)
    assert width in (None, found.shape[1])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_the_last_map_of_a_pyramid() -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("test_resnet", features_only=True).eval()
    inputs = noise(2, 3, 64, 64)
    with torch.no_grad():
        maps = network(inputs)
    feature = find_feature(network, inputs)
    torch.testing.assert_close(rows(network, feature, inputs), maps[-1].mean((2, 3)))


def test_a_single_module_has_no_feature_of_its_own() -> None:
    with pytest.raises(InputError, match=r"reads the inputs themselves\. Measure those: give `features` as the model"):
        find_feature(nn.Linear(4, 3), torch.randn(2, 4))
