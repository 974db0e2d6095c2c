"""Aggregation without a tensor of E × C against loops over nodes, in values and gradients."""

import pytest
import torch
from torch.autograd import gradcheck
from torch_geometric.nn import GATConv, GATv2Conv, GCNConv, GENConv, GINConv, GraphConv, SAGEConv, TransformerConv

from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.aggregation import attention, edges
from deepgnn_cli.nn.aggregation.edges import Edges
from deepgnn_cli.nn.aggregation.maximum import maximum
from deepgnn_cli.nn.aggregation.operators import twin
from deepgnn_cli.nn.aggregation.power import add, mean, power_mean
from deepgnn_cli.nn.aggregation.softmax import softmax
from deepgnn_cli.nn.convs import Conv

C, HEADS = 4, 2
EPS = 1e-7
HUB = 10_000


def graphs():
    """Directed at random with parallel edges, self-loops and nodes without edges; one node; its loop; no edge."""
    random = torch.randint(0, 9, (2, 40), generator=torch.Generator().manual_seed(3))
    return {
        "random": (random, 12),
        "one node": (torch.empty(2, 0, dtype=torch.int64), 1),
        "a loop": (torch.zeros(2, 1, dtype=torch.int64), 1),
        "no edge": (torch.empty(2, 0, dtype=torch.int64), 3),
    }


GRAPHS = graphs()


@pytest.fixture(params=GRAPHS)
def given(request):
    return GRAPHS[request.param]


def message(x, eps):
    return x if eps is None else x.relu() + eps


def plain(reduce, x, edge_index, n, eps=None):
    """`reduce` of the messages [E_i, C] of each node i, zeros without any."""
    m = message(x, eps)
    into = [m[edge_index[0][edge_index[1] == i]] for i in range(n)]
    return torch.stack([reduce(own) if len(own) else torch.zeros(x.size(1)) for own in into])


REDUCTIONS = {
    "softmax": (
        lambda m: ((0.7 * m).softmax(0) * m).sum(0),
        lambda x, e, eps: softmax(x, e, 0.7, eps=eps),
    ),
    "softmax, negative t": (
        lambda m: ((-3 * m).softmax(0) * m).sum(0),
        lambda x, e, eps: softmax(x, e, -3.0, eps=eps),
    ),
    "softmax, constant weights": (
        lambda m: ((0.7 * m).softmax(0).detach() * m).sum(0),
        lambda x, e, eps: softmax(x, e, 0.7, eps=eps, stop_gradient=True),
    ),
    "softmax, far below the maximum": (
        lambda m: ((900 * m).softmax(0) * m).sum(0),
        lambda x, e, eps: softmax(x, e, 900.0, eps=eps),
    ),
    "max": (lambda m: m.max(0).values, lambda x, e, eps: maximum(x, e, eps=eps)),
    "add": (lambda m: m.sum(0), lambda x, e, eps: add(message(x, eps), e)),
    "mean": (lambda m: m.mean(0), lambda x, e, eps: mean(message(x, eps), e)),
}


def agree(ours, theirs, *inputs):
    assert torch.allclose(ours, theirs, atol=1e-10)
    seeds = torch.randn_like(ours)
    pairs = zip(
        torch.autograd.grad(ours, inputs, seeds, materialize_grads=True),
        torch.autograd.grad(theirs, inputs, seeds, materialize_grads=True, allow_unused=True),
        strict=True,
    )
    assert all(torch.allclose(a, b, atol=1e-8) for a, b in pairs)


@pytest.mark.parametrize("eps", [None, EPS])
@pytest.mark.parametrize("how", REDUCTIONS)
def test_values_and_gradients_of_the_plain_formula(given, how, eps, monkeypatch):
    monkeypatch.setitem(edges._BLOCK_BYTES, "cpu", 8 * C * 5)  # five edges a block
    (edge_index, n), (formula, fast) = given, REDUCTIONS[how]
    x = torch.randn(n, C, requires_grad=True)
    ours = fast(x, Edges(edge_index, n), eps)
    if edge_index.numel():
        agree(ours, plain(formula, x, edge_index, n, eps), x)
    else:
        assert torch.equal(ours, torch.zeros(n, C))


@pytest.mark.parametrize("own", [1, C])
@pytest.mark.parametrize("scale", [1.0, 800.0])
def test_a_learned_temperature(own, scale):
    edge_index, n = GRAPHS["random"]
    x = torch.randn(n, C, requires_grad=True)
    t = (torch.randn(own) * scale).requires_grad_()
    agree(
        softmax(x, Edges(edge_index, n), t, eps=EPS),
        plain(lambda m: ((t * m).softmax(0) * m).sum(0), x, edge_index, n, EPS),
        x,
        t,
    )


@pytest.mark.parametrize("learned", [None, 1, C])
@pytest.mark.parametrize("bounds", [(1e-7, 10.0), (0.3, 1.2), (1e-4, 100.0)])
def test_power_mean(learned, bounds):
    edge_index, n = GRAPHS["random"]
    low, high = bounds
    x = torch.randn(n, C, requires_grad=True)
    p = 3.0 if learned is None else (1.5 + torch.rand(learned)).requires_grad_()
    m = x.relu() + EPS
    raised = m.clamp(low, high).pow(p)
    total = torch.zeros(n, C).index_add(0, edge_index[1], raised[edge_index[0]])
    count = torch.bincount(edge_index[1], minlength=n).clamp(min=1).unsqueeze(1)
    want = (total / count).clamp(low, high).pow(1 / p)
    ours = power_mean(x, Edges(edge_index, n), p, eps=EPS, low=low, high=high)
    agree(ours, want, *([x] if learned is None else [x, p]))


def test_ties_of_the_maximum_share_its_gradient_evenly():
    edge_index = torch.tensor([[0, 1, 2, 2], [3, 3, 3, 0]])
    x = torch.tensor([[5.0], [5.0], [1.0], [0.0]], requires_grad=True)
    maximum(x, Edges(edge_index, 4)).sum().backward()
    assert x.grad.flatten().tolist() == [0.5, 0.5, 1.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_far_below_the_maximum_does_not_underflow(dtype):
    """Node 2 sees messages around 1 alone, while another node's is 2,000."""
    x = torch.tensor([[1.0], [0.5], [2000.0], [0.0]], dtype=dtype, requires_grad=True)
    edges = Edges(torch.tensor([[0, 1, 2], [2, 2, 3]]), 4)
    out = softmax(x, edges, 1.0)
    weight = torch.tensor([1.0, 0.5], dtype=dtype).softmax(0)
    assert out[2].item() == pytest.approx((weight * torch.tensor([1.0, 0.5], dtype=dtype)).sum().item(), rel=1e-6)
    assert out[3].item() == 2000
    out.sum().backward()
    assert x.grad.isfinite().all() and x.grad[2].item() == 1


def test_a_hub_of_ten_thousand_neighbours():
    n = HUB + 1
    into = torch.stack([torch.arange(1, n), torch.zeros(HUB, dtype=torch.int64)])
    edge_index = torch.cat([into, into.flip(0)], 1)
    hub, x = Edges(edge_index, n), torch.randn(n, C, requires_grad=True)
    for how in ("softmax", "softmax, far below the maximum", "max", "mean"):
        formula, fast = REDUCTIONS[how]
        ours = fast(x, hub, EPS)
        assert torch.allclose(ours[0], formula(x[1:].relu() + EPS)) and torch.allclose(ours[5], x[0].relu() + EPS)
        (gradient,) = torch.autograd.grad(ours[0].sum(), x)
        (want,) = torch.autograd.grad(formula(x[1:].relu() + EPS).sum(), x)
        assert torch.allclose(gradient, want, atol=1e-10)


def test_gradients_of_finite_differences():
    edge_index, n = GRAPHS["random"]
    graph, x = Edges(edge_index, n), torch.rand(n, C, requires_grad=True)
    t, p = torch.tensor([0.9], requires_grad=True), torch.tensor([2.5], requires_grad=True)
    assert gradcheck(lambda x, t: softmax(x, graph, t), (x, t))
    assert gradcheck(lambda x, p: power_mean(x, graph, p, low=1e-7, high=10.0), (x, p))
    heads = torch.randn(n, HEADS, 3, requires_grad=True)
    scores = torch.randn(graph.count, HEADS, requires_grad=True)
    kept = torch.rand(graph.count, HEADS) > 0.4
    assert gradcheck(lambda s, v: attention.attend(s, v, graph, kept=kept, keep=0.6), (scores, heads))
    weight, other = torch.randn(HEADS, 3, requires_grad=True), torch.randn(n, HEADS, 3, requires_grad=True)
    assert gradcheck(lambda q, k: attention.dot(q, k, graph), (heads, other))
    assert gradcheck(lambda s, t, a: attention.dynamic(s, t, a, graph, negative_slope=0.2), (heads, other, weight))


@pytest.mark.parametrize("loops", [False, True])
def test_dropped_coefficients_count_in_the_normalisation(given, loops):
    """`Σ_j k_e α_e v_j / keep`, α the softmax over all of a node's edges."""
    edge_index, n = given
    graph = Edges(edge_index, n, loops=loops)
    scores, values = torch.randn(graph.count, HEADS), torch.randn(n, HEADS, 3)
    kept = torch.rand(graph.count, HEADS) > 0.5
    want = torch.zeros(n, HEADS, 3)
    for i in range(n):
        own = graph.target == i
        alpha = scores[own].softmax(0) * kept[own] / 0.5
        want[i] = (alpha.unsqueeze(-1) * values[graph.source[own]]).sum(0)
    assert torch.allclose(attention.attend(scores, values, graph, kept=kept, keep=0.5), want)


def test_self_loops_take_the_place_of_those_there_and_the_mean_of_the_other_edges_features():
    graph = Edges(torch.tensor([[0, 1, 1, 2], [1, 1, 0, 1]]), 3, loops=True)
    features = torch.tensor([[1.0], [9.0], [5.0], [3.0]])
    columns = (graph.source, graph.target, graph.arrange(features).flatten())
    found = {(s, t): v for s, t, v in zip(*(a.tolist() for a in columns), strict=True)}
    assert found == {(0, 1): 1, (2, 1): 3, (1, 1): 2, (1, 0): 5, (0, 0): 5, (2, 2): 0}


OPERATORS = {
    "gen": lambda d: GENConv(C, C, edge_dim=d),
    "gen, own width": lambda d: GENConv(6, C, edge_dim=d, msg_norm=True, learn_msg_scale=True, bias=True),
    "gen, learned t": lambda d: GENConv(C, C, edge_dim=d, learn_t=True),
    "gen, constant weights": lambda d: GENConv(C, C, aggr="softmax_sg", edge_dim=d),
    "gen, power": lambda d: GENConv(C, C, aggr="power", p=2.0, learn_p=True, edge_dim=d),
    "gen, max": lambda d: GENConv(C, C, aggr="max", edge_dim=d),
    "gen, mean": lambda d: GENConv(C, C, aggr="mean", edge_dim=d),
    "gen, add": lambda d: GENConv(C, C, aggr="add", edge_dim=d),
    "gat": lambda d: GATConv(C, C, heads=HEADS, edge_dim=d),
    "gat, mean": lambda d: GATConv(6, C, heads=HEADS, concat=False, residual=True, edge_dim=d),
    "gat, no loops": lambda d: GATConv(C, C, add_self_loops=False, bias=False, edge_dim=d),
    "gatv2": lambda d: GATv2Conv(C, C, heads=HEADS, edge_dim=d),
    "gatv2, shared": lambda d: GATv2Conv(
        6, C, heads=HEADS, concat=False, share_weights=True, residual=True, edge_dim=d
    ),
    "transformer": lambda d: TransformerConv(C, C, heads=HEADS, edge_dim=d),
    "transformer, beta": lambda d: TransformerConv(6, C, heads=HEADS, concat=False, beta=True, edge_dim=d),
    "transformer, bare": lambda d: TransformerConv(C, C, root_weight=False, bias=False, edge_dim=d),
}
LINEAR = {
    "sage": lambda d: SAGEConv(C, C),
    "sage, max": lambda d: SAGEConv(C, C, aggr="max", normalize=True, project=True),
    "sage, softmax": lambda d: SAGEConv(C, C, aggr="softmax", root_weight=False),
    "graph": lambda d: GraphConv(C, C),
    "graph, max": lambda d: GraphConv(C, C, aggr="max"),
    "gin": lambda d: GINConv(torch.nn.Linear(C, C), train_eps=True),
    "gcn": lambda d: GCNConv(C, C),
}


@pytest.mark.parametrize("edge_dim", [None, 3, C])
@pytest.mark.parametrize("name", [*OPERATORS, *LINEAR])
def test_pygs_operators_give_what_they_gave(name, edge_dim, monkeypatch):
    if name in LINEAR and edge_dim is not None:
        return
    monkeypatch.setitem(edges._BLOCK_BYTES, "cpu", 8 * C * 5)
    edge_index, n = GRAPHS["random"]
    operator = (OPERATORS | LINEAR)[name](edge_dim)
    x = torch.randn(n, getattr(operator, "in_channels", C), requires_grad=True)
    features = None if edge_dim is None else torch.randn(edge_index.size(1), edge_dim, requires_grad=True)
    assert twin(operator, features) is not None
    ours = Conv(operator)(x, Adjacency(edge_index, n, features))
    theirs = operator(x, edge_index) if features is None else operator(x, edge_index, features)
    agree(ours, theirs, x, *operator.parameters(), *([] if features is None else [features]))


@pytest.mark.parametrize("edge_dim", [None, 3])
@pytest.mark.parametrize("kind", [GATConv, GATv2Conv, TransformerConv])
def test_dropout_of_coefficients_keeps_the_mean_and_falls_away_in_evaluation(kind, edge_dim):
    edge_index, n = GRAPHS["random"]
    conv = Conv(kind(C, C, dropout=0.5, edge_dim=edge_dim))
    features = None if edge_dim is None else torch.randn(edge_index.size(1), edge_dim)
    adjacency, x = Adjacency(edge_index, n, features), torch.randn(n, C)
    with torch.no_grad():
        draws = torch.stack([conv(x, adjacency) for _ in range(4000)])
        assert not torch.equal(draws[0], draws[1])
        assert torch.allclose(draws.mean(0), conv.eval()(x, adjacency), atol=0.15)


def test_what_is_not_covered_is_left_to_pyg():
    conv = GATConv(C, C)
    conv.register_propagate_forward_pre_hook(lambda *_: None)
    for operator in (conv, GENConv(C, C, aggr="median"), GATConv((C, C), C), GCNConv(C, C, improved=True)):
        assert twin(operator, None) is None
    assert twin(GATv2Conv(C, C), torch.randn(3, 2)) is None
    assert twin(GENConv(C, C, flow="target_to_source"), None) is None


@pytest.mark.parametrize("name", ["gen", "gat", "gatv2", "transformer"])
@pytest.mark.parametrize("edge_dim", [None, 3])
def test_autocast_leaves_the_aggregation_in_single_precision(name, edge_dim):
    edge_index, n = GRAPHS["random"]
    operator = OPERATORS[name](edge_dim).float()
    features = None if edge_dim is None else torch.randn(edge_index.size(1), edge_dim).float()
    x = torch.randn(n, C).float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = Conv(operator)(x, Adjacency(edge_index, n, features))
    out.float().sum().backward()
    assert x.grad.isfinite().all()
    assert torch.allclose(out.float(), Conv(operator)(x, Adjacency(edge_index, n, features)), atol=0.1)
