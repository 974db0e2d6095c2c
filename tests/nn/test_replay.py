"""Laws of what is evaluated twice: the gradient is that of stored activations, or the call is refused."""

from __future__ import annotations

import copy
import sys
import threading
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.nn import GCNConv, GINConv, SAGEConv

from deepgnn_cli.nn import deepen

N, C = 12, 8
EDGES = torch.randint(0, N, (2, 40), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _float64_everywhere(_float64):
    """The numbers differ by rounding only."""


class Centred(nn.Module):
    """Takes a running mean away, which it updates before it reads it: in place, or by a new tensor."""

    def __init__(self, channels: int, *, buffer: bool, in_place: bool) -> None:
        super().__init__()
        self.conv, self.in_place = GCNConv(channels, channels), in_place
        if buffer:
            self.register_buffer("mean", torch.zeros(channels))
        else:
            self.mean = torch.zeros(channels)

    def forward(self, x, edge_index):
        h = self.conv(x, edge_index)
        if self.training:
            with torch.no_grad():
                if self.in_place:
                    self.mean.mul_(0.9).add_(0.1 * h.mean(0))
                else:
                    self.mean = 0.9 * self.mean + 0.1 * h.mean(0)
        return h - self.mean


class Counting(nn.Module):
    """Every third call is another function."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.calls = GCNConv(channels, channels), 0

    def forward(self, x, edge_index):
        self.calls += 1
        return self.conv(x, edge_index) * (2.0 if self.calls % 3 == 0 else 1.0)


class Gated(nn.Module):
    """Reads a tensor that wants a gradient and is an attribute."""

    gate: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.raw = GCNConv(channels, channels), nn.Parameter(torch.zeros(channels))

    def forward(self, x, edge_index):
        return self.conv(x, edge_index) * self.gate


def _spectral(channels: int) -> nn.Module:
    return GINConv(
        nn.Sequential(spectral_norm(nn.Linear(channels, channels)), nn.ReLU(), nn.Linear(channels, channels))
    )


def _old_spectral(channels: int) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return GINConv(nn.utils.spectral_norm(nn.Linear(channels, channels)))


def _old_weight_norm(channels: int) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return GINConv(nn.utils.weight_norm(nn.Linear(channels, channels)))


CONVS: dict[str, Callable[[int], nn.Module]] = {
    "spectral_norm": _spectral,
    "spectral_norm by a hook": _old_spectral,
    "weight_norm by a hook": _old_weight_norm,
    "buffer in place": lambda c: Centred(c, buffer=True, in_place=True),
    "buffer replaced": lambda c: Centred(c, buffer=True, in_place=False),
    "attribute in place": lambda c: Centred(c, buffer=False, in_place=True),
    "attribute replaced": lambda c: Centred(c, buffer=False, in_place=False),
    "counter": Counting,
    "lstm": lambda c: SAGEConv(c, c, aggr="lstm"),
    "batch norm": lambda c: GINConv(nn.Sequential(nn.Linear(c, c), nn.BatchNorm1d(c), nn.ReLU(), nn.Dropout(0.3))),
}


def body_of(conv: Callable[[int], nn.Module], how: str, layers: int = 6, **options: object) -> nn.Module:
    torch.manual_seed(1)
    if how == "reversible":
        return deepen(conv, C, layers, residual="reversible", **options)
    return deepen(conv, C, layers, residual="res", checkpoint_every=2, **options)


def stored(body: nn.Module) -> nn.Module:
    return keeping(copy.deepcopy(body))


def keeping(twin: nn.Module) -> nn.Module:
    """`twin`, which now stores its activations."""
    if hasattr(twin.stack, "engine"):
        twin.stack.engine.store_activations = True
    else:
        twin.stack.checkpoint_every = 0
    return twin


def gradients(body: nn.Module, edges: Tensor = EDGES) -> list[Tensor]:
    """Of the input and of all parameters, after three passes that move what the convs keep."""
    x = torch.linspace(-1, 1, N * C).view(N, C).sin().requires_grad_()
    torch.manual_seed(3)
    for _ in range(2):
        body(x, edges)
    body.zero_grad()
    body(x, edges).square().mean().backward()
    return [x.grad, *(p.grad for p in body.parameters()), *(b.double() for b in body.buffers())]


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        if a is None or b is None:
            assert (a is None or not a.any()) and (b is None or not b.any())
        else:
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("how", ["reversible", "checkpointed"])
@pytest.mark.parametrize("name", CONVS)
def test_a_conv_with_a_state_gets_the_gradients_of_stored_activations(name, how):
    edges = EDGES[:, EDGES[1].sort().indices]  # an LSTM wants them by target
    expected = gradients(keeping(body_of(CONVS[name], how)), edges)
    assert_equal(gradients(body_of(CONVS[name], how), edges), expected)


def test_a_tensor_that_is_an_attribute_gets_its_gradient():
    body = body_of(Gated, "reversible")
    found = []
    for each in (body, stored(body)):
        gates = [module for module in each.modules() if isinstance(module, Gated)]
        for module in gates:
            module.gate = module.raw.sigmoid()
        each(torch.ones(N, C), EDGES).square().mean().backward()
        found.append([module.raw.grad for module in gates])
    assert_equal(*found)
    assert found[0][0].abs().sum() > 0


def test_a_tensor_from_a_closure_is_refused_where_it_wants_a_gradient():
    weight = torch.ones(C // 2, requires_grad=True)

    class Closure(nn.Module):
        def forward(self, x, edge_index):
            return x * weight * 0.1

    body = body_of(lambda c: Closure(), "reversible")
    out = body(torch.randn(N, C, requires_grad=True), EDGES)
    with pytest.raises(ValueError, match="neither an argument nor a parameter"):
        out.sum().backward()


def test_another_result_of_the_second_evaluation_is_refused():
    generator = np.random.default_rng(0)

    class Noisy(nn.Module):
        def forward(self, x, edge_index):
            return x * generator.random()

    body = body_of(lambda c: Noisy(), "reversible")
    out = body(torch.randn(N, C, requires_grad=True), EDGES)
    with pytest.raises(ValueError, match="do not find their input again"):
        out.sum().backward()


@pytest.mark.parametrize("how", ["reversible", "checkpointed"])
def test_the_mode_of_the_first_evaluation_holds_in_the_second(how):
    body = body_of(CONVS["batch norm"], how)
    twin = stored(body)
    found = []
    for each in (body, twin):
        torch.manual_seed(3)
        x = torch.linspace(-1, 1, N * C).view(N, C).requires_grad_()
        out = each(x, EDGES)
        each.eval()
        out.square().mean().backward()
        found.append([x.grad, *(p.grad for p in each.parameters())])
    assert_equal(*found)
    assert not any(module.training for module in body.modules())


def test_a_replica_of_data_parallel_gets_its_gradients():
    """Where the model holds parameters, replicas hold tensors with a history, as `torch.nn.parallel.replicate` does."""

    def replica(module: nn.Module) -> nn.Module:
        copied = module._replicate_for_data_parallel()
        copied._former_parameters = {}
        for name, child in module._modules.items():
            copied._modules[name] = None if child is None else replica(child)
        for name, parameter in module._parameters.items():
            if parameter is not None:
                copied._former_parameters[name] = parameter * 1
                setattr(copied, name, copied._former_parameters[name])
        return copied

    body = body_of(CONVS["batch norm"], "reversible", norm="layer")
    found = []
    for each in (body, stored(body)):
        torch.manual_seed(2)
        replica(each)(torch.linspace(-1, 1, N * C).view(N, C), EDGES).square().mean().backward()
        found.append([p.grad for p in each.parameters()])
    assert_equal(*found)
    assert all(gradient is not None for gradient in found[0])


@pytest.mark.parametrize("store", [False, True])
def test_an_edge_mask_registered_later_explains_as_in_other_wirings(store):
    masks = []
    for how in (store, True):
        body = body_of(lambda c: GCNConv(c, c), "reversible", layers=3, store_activations=how)
        torch.manual_seed(4)
        explainer = Explainer(
            body,
            GNNExplainer(epochs=3),
            explanation_type="model",
            node_mask_type="attributes",
            edge_mask_type="object",
            model_config={"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"},
        )
        masks.append(explainer(torch.randn(N, C), EDGES, index=1).edge_mask)
    assert masks[0].abs().sum() > 0 and torch.allclose(*masks)


def _in_threads(work: Callable[[int], None], count: int = 4) -> None:
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # handed on to the test
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors, errors[0]


def test_several_threads_evaluate_one_body():
    body = body_of(lambda c: GCNConv(c, c), "reversible").eval()
    inputs = [torch.randn(N, C) for _ in range(4)]
    with torch.no_grad():
        expected = [body(x, EDGES) for x in inputs]
    shapes = {name: value.shape for name, value in body.state_dict().items()}

    def work(number: int) -> None:
        with torch.no_grad():
            for _ in range(30):
                assert torch.allclose(body(inputs[number], EDGES), expected[number])

    _in_threads(work)
    assert shapes == {name: value.shape for name, value in body.state_dict().items()}


def test_several_threads_train_bodies_of_their_own():
    """The generators are the process's: a pass that replays random numbers has them for itself."""
    bodies = [body_of(CONVS["batch norm"], "reversible") for _ in range(3)]

    def work(number: int) -> None:
        for _ in range(5):
            x = torch.ones(N, C, requires_grad=True)
            bodies[number](x, EDGES).square().mean().backward()

    _in_threads(work, 3)


def test_weights_are_initialised_as_in_any_other_wiring():
    """Each layer's weights are [C, C] parameters of modules of their own, whatever walks through them."""
    body = body_of(lambda c: GCNConv(c, c), "reversible", layers=4)
    shapes = {tuple(p.shape) for p in body.parameters()}
    assert shapes == {(C // 2, C // 2), (C // 2,)}
    body.apply(lambda m: nn.init.eye_(m.weight) if hasattr(m, "weight") else None)
    assert all(torch.equal(p, torch.eye(C // 2)) for p in body.parameters() if p.dim() == 2)
