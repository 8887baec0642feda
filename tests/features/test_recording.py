import numpy as np
import pytest
import torch
from torch import nn

from lowdim.errors import InputError, UsageError
from lowdim.features import POOLS, pool_output, recording, reduce_output, run_forward


class Twice(nn.Module):
    """One ReLU called twice, as residual blocks do."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(3, 4), nn.Linear(4, 5), nn.ReLU()

    def forward(self, x):
        return self.relu(self.second(self.relu(self.first(x))))


def record(module, layers, inputs, **options):
    with recording(module, layers, **options) as recorder, torch.no_grad():
        module(inputs)
    return recorder.take()


def inputs(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_an_in_place_activation_does_not_corrupt_what_was_caught():
    network = nn.Sequential(nn.Linear(3, 6), nn.ReLU(inplace=True), nn.Flatten())
    x = inputs(8, 3)
    caught = record(network, ["0", "1", "2"], x)
    linear = network[0](x)
    torch.testing.assert_close(caught["0", "avg"], linear, rtol=0, atol=0)
    torch.testing.assert_close(caught["1", "avg"], linear.relu(), rtol=0, atol=0)
    assert (caught["0", "avg"] < 0).any()


@pytest.mark.parametrize("pool", ["avg", "flatten"])
def test_in_place_changes_of_maps_do_not_reach_what_was_caught(pool):
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True))
    x = inputs(4, 2, 5, 5)
    maps = network[0](x)
    expected = maps.mean(dim=(2, 3)) if pool == "avg" else maps.flatten(1)
    torch.testing.assert_close(record(network, ["0"], x, pools=[pool])["0", pool], expected)


def test_a_module_called_twice_is_two_layers():
    network, x = Twice(), inputs(7, 3)
    caught = record(network, ["relu", "first", "second"], x)
    assert list(caught) == [("first", "avg"), ("relu", "avg"), ("second", "avg"), ("relu#2", "avg")]
    torch.testing.assert_close(caught["relu", "avg"], network.first(x).relu())
    torch.testing.assert_close(caught["relu#2", "avg"], network(x))


def test_every_forward_pass_starts_anew():
    network = Twice()
    with recording(network, ["relu"]) as recorder, torch.no_grad():
        for size in (3, 5):
            network(inputs(size, 3))
            assert {key: len(value) for key, value in recorder.take().items()} == {
                ("relu", "avg"): size,
                ("relu#2", "avg"): size,
            }
        assert recorder.take() == {}


def test_the_input_of_a_layer_whatever_way_it_comes():
    class Doubling(nn.Module):
        def __init__(self, keyword):
            super().__init__()
            self.head, self.keyword = nn.Linear(3, 2), keyword

        def forward(self, x):
            return self.head(input=2 * x) if self.keyword else self.head(2 * x)

    x = inputs(4, 3)
    for keyword in (True, False):
        torch.testing.assert_close(record(Doubling(keyword), ["head:input"], x)["head:input", "avg"], 2 * x)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training):
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Sequential(nn.Linear(4, 2)))
    network.train(training)
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    record(network, ["1", "3.0"], inputs(6, 3))
    with pytest.raises(ZeroDivisionError), recording(network, ["1", "3.0:input"]):
        assert not network.training
        1 / 0  # noqa: B018
    with pytest.raises(UsageError), recording(network, ["1", "nowhere"]):
        pass
    assert [module.training for module in network.modules()] == modes
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in network.modules())
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_hooks_go_even_when_the_forward_pass_or_the_reduction_fails():
    network = nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (2, 2, 1)))
    with pytest.raises(InputError, match="not tokens"), recording(network, ["1"], pools=["cls"]):
        network(inputs(2, 3))
    with pytest.raises(RuntimeError), recording(network, ["0"]):
        network(inputs(2, 5))
    assert all(not module._forward_hooks for module in network.modules())


def test_an_unknown_layer_offers_names():
    with pytest.raises(UsageError, match=r"no layer 'frist'.*Did you mean first"), recording(Twice(), ["frist"]):
        pass


def test_reductions_are_what_they_say():
    maps = inputs(3, 2, 4, 5)
    torch.testing.assert_close(reduce_output(maps, "avg", None, "x"), maps.mean(dim=(2, 3)))
    torch.testing.assert_close(reduce_output(maps, "flatten", None, "x"), maps.reshape(3, 40))
    tokens = inputs(3, 6, 4)
    torch.testing.assert_close(reduce_output(tokens, "cls", None, "x"), tokens[:, 0])
    for pool in ("avg", "mean"):
        torch.testing.assert_close(reduce_output(tokens, pool, None, "x"), tokens.mean(dim=1))
    for wrapped in ((tokens, None), [tokens], {"hidden": tokens, "other": None}):
        torch.testing.assert_close(reduce_output(wrapped, "cls", None, "x"), tokens[:, 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_mean_leaves_padding_out_in_every_type(dtype):
    """300 tokens of 400 sum to more than float16 holds, and bfloat16 cannot count to 301."""
    tokens = torch.full((2, 400, 3), 400.0)
    tokens[:, 301:] = -1e4
    mask = (torch.arange(400) < 301).int().expand(2, 400)
    found = reduce_output(tokens.to(dtype), "mean", mask, "x")
    assert found.dtype == dtype
    torch.testing.assert_close(found, torch.full((2, 3), 400.0, dtype=dtype), rtol=0, atol=0)
    torch.testing.assert_close(reduce_output(tokens, "mean", mask[:, :5], "x"), tokens.mean(dim=1))


@pytest.mark.parametrize("pool", [pool for pool in POOLS if pool != "map"])
def test_no_pooling_of_half_precision_overflows(pool):
    """512 tokens of 200 sum to 102,400; float16 ends at 65,504."""
    tokens = torch.full((3, 512, 2), 200.0, dtype=torch.float16)
    mask = torch.ones(3, 512, dtype=torch.int64)
    for given in (mask, None):
        assert (reduce_output(tokens, pool, given, "x") == 200).all()
    maps = torch.full((3, 2, 32, 32), 200.0, dtype=torch.float16)
    assert (reduce_output(maps, "avg", None, "x") == 200).all()


def test_the_last_token_is_the_last_that_is_not_padding():
    tokens = torch.arange(12.0).reshape(3, 4, 1)
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]])  # padded right, padded left, no token at all
    found = reduce_output(tokens, "last", mask, "x").flatten()
    assert found[:2].tolist() == [1.0, 7.0]
    assert not found[2].isfinite()
    assert reduce_output(tokens, "last", None, "x").flatten().tolist() == [3.0, 7.0, 11.0]


@pytest.mark.parametrize("pool", [pool for pool in POOLS if pool != "map"])
def test_gradients_flow_through_a_pooling_and_stop_at_a_recorder(pool):
    tokens = inputs(2, 3, 4).requires_grad_()
    pool_output(tokens, pool, torch.ones(2, 3), "x").sum().backward()
    assert tokens.grad.any()
    assert not reduce_output(tokens, pool, None, "x").requires_grad


@pytest.mark.parametrize(
    ("output", "pool", "message"),
    [
        (torch.zeros(3), "avg", r"\(3,\)"),
        (torch.zeros(3, 2, dtype=torch.int64), "avg", "floating-point"),
        (None, "avg", "NoneType"),
        ((), "avg", "tuple"),
        ({}, "avg", "dict"),
        ("text", "avg", "str"),
        (torch.zeros(3, 2, 4, 4), "cls", 'Use `pool="avg"`'),
        (torch.zeros(3, 2, 4, 4), "mean", 'Use `pool="avg"`'),
    ],
)
def test_outputs_without_a_row_per_sample_are_refused(output, pool, message):
    with pytest.raises(InputError, match=message) as raised:
        reduce_output(output, pool, None, "stage.2")
    assert "stage.2" in str(raised.value)


def test_a_forward_pass_makes_no_graph_and_finds_the_scores():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x, scale=None):
            output = type("Output", (), {})()
            output.logits = self.head(x)
            return output

    network = Wrapped()
    found = run_forward(network, {"x": inputs(4, 3)}, torch.device("cpu"))
    assert found.shape == (4, 2)
    assert not found.requires_grad
    assert network.head.weight.grad is None
    auxiliary = run_forward(nn.LSTM(3, 2), inputs(4, 3), torch.device("cpu"))
    assert auxiliary is not None and auxiliary.shape == (4, 2)
    np.testing.assert_array_equal(run_forward(nn.Identity(), inputs(2, 2), torch.device("cpu")), inputs(2, 2))


def test_channels_are_found_where_a_network_keeps_them_last():
    """Swin's maps are n x h x w x c, ConvNeXt's n x c x h x w with a LayerNorm inside; a square map of equal width is ambiguous."""
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        swin = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, depths=(1, 1, 1, 1))
        convnext = timm.create_model("convnext_atto", pretrained=False)
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for network, layer, channels in ((swin, "layers.1.blocks.0", 192), (convnext, "stages.1.blocks.0", 80)):
        raw = []
        handle = network.get_submodule(layer).register_forward_hook(
            lambda module, args, output, raw=raw: raw.append(output)
        )
        with recording(network, [layer]) as recorder:
            run_forward(network, images, torch.device("cpu"))
            found = recorder.take()[layer, "avg"]
        handle.remove()
        space = (1, 2) if network is swin else (2, 3)
        assert found.shape == (2, channels)
        torch.testing.assert_close(found, raw[0].mean(dim=space))
