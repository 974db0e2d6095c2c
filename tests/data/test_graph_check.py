"""Random damage to a valid graph is repaired as documented, or refused with a line that names the field.

`DEEPGNN_EXAMPLES=10000` tries that many.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.graph_check import checked
from deepgnn_cli.nn.adjacency import Adjacency

N = 6


def valid(**fields):
    part = torch.arange(N) % 3
    plain = Graph(
        name="own",
        split="own",
        x=torch.arange(2.0 * N).reshape(N, 2),
        edge_index=torch.tensor([[0, 1, 2, 5], [1, 0, 3, 5]]),
        y=torch.tensor([0, 1, 2, 0, 1, 2]),
        num_classes=3,
        train=part == 0,
        val=part == 1,
        test=part == 2,
    )
    return replace(plain, **fields)


def same(a, b):
    return all(torch.equal(getattr(a, f), getattr(b, f)) for f in ("x", "edge_index", "y", "train", "val", "test"))


WHOLE = valid()
TAKEN = {
    "double": {"x": WHOLE.x.double()},
    "half": {"x": WHOLE.x.half()},
    "int": {"x": WHOLE.x.long()},
    "sparse": {"x": WHOLE.x.to_sparse()},
    "numpy": {"x": WHOLE.x.numpy()},
    "column": {"y": WHOLE.y[:, None]},
    "float labels": {"y": WHOLE.y.float()},
    "one-hot": {"y": torch.nn.functional.one_hot(WHOLE.y).float()},
    "numbers": {m: getattr(WHOLE, m).nonzero()[:, 0] for m in ("train", "val", "test")},
    "bytes": {m: getattr(WHOLE, m).byte() for m in ("train", "val", "test")},
    "ten splits": {m: getattr(WHOLE, m)[:, None].expand(N, 10) for m in ("train", "val", "test")},
    "int32 edges": {"edge_index": WHOLE.edge_index.int()},
}


@pytest.mark.parametrize("form", TAKEN)
def test_an_unusual_form_is_taken(form):
    assert same(checked(valid(**TAKEN[form])), WHOLE)


def test_split_index_chooses_the_column():
    masks = {m: torch.stack([getattr(WHOLE, m), getattr(WHOLE, m).flip(0)], 1) for m in ("train", "val", "test")}
    assert torch.equal(checked(valid(**masks), split_index=1).train, WHOLE.train.flip(0))
    with pytest.raises(ValueError, match=r"split_index=2 is not in 0..1"):
        checked(valid(**masks), split_index=2)


def put(tensor, index, value):
    changed = tensor.clone()
    changed[index] = value
    return changed


REFUSED = {
    "id N": ({"edge_index": put(WHOLE.edge_index, (0, 0), N)}, "edge_index holds node 6"),
    "id -1": ({"edge_index": put(WHOLE.edge_index, (1, 0), -1)}, "edge_index holds node -1"),
    "transposed": ({"edge_index": WHOLE.edge_index.t()}, r"try edge_index.t\(\)"),
    "nan": ({"x": put(WHOLE.x, (3, 1), float("nan"))}, r"x holds nan at \[3, 1\]"),
    "too large": ({"x": put(WHOLE.x.double(), (0, 0), 1e300)}, "x holds inf"),
    "flat": ({"x": WHOLE.x[:, 0]}, r"try x\[:, None\]"),
    "label K": ({"y": put(WHOLE.y, 0, 3)}, "y holds label 3"),
    "from one": ({"y": WHOLE.y + 1}, "subtract 1"),
    "unlabelled": ({"y": put(WHOLE.y, 0, -1)}, "y has no label for 1 nodes of train"),
    "empty": ({"val": torch.zeros(N, dtype=torch.bool)}, "val is empty"),
    "overlap": ({"test": ~WHOLE.train}, "val and test share 2 nodes"),
    "short mask": ({"train": WHOLE.train[:4]}, "train has 4 entries"),
    "metric": ({"metric": "f1"}, "metric='f1'"),
    "edges": ({"edge_attr": torch.ones(3, 2)}, "edge_attr has shape"),
    "weights": ({"edge_weight": -torch.ones(4)}, "edge_weight has negative"),
    "batch": ({"part_of": torch.arange(N)}, "joins nodes of two graphs"),
    "many classes": ({"y": torch.ones(N, 3)}, "set metric to"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_a_wrong_graph_is_refused_by_field(form):
    fields, line = REFUSED[form]
    with pytest.raises(ValueError, match=line) as caught:
        checked(valid(**fields))
    assert "\n" not in str(caught.value)


FIELDS = ("x", "edge_index", "y", "train", "val", "test", "edge_attr", "edge_weight", "part_of")
DTYPES = (torch.float64, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool, torch.complex64)
VALUES = (float("nan"), float("inf"), -1.0, -100.0, 0.5, 2.0, 6.0, 1e4, -(2.0**14), 0.0)


@settings(
    max_examples=int(os.environ.get("DEEPGNN_EXAMPLES", "300")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.data())
def test_random_damage_is_repaired_or_refused(data):
    graph = valid(edge_attr=torch.ones(4, 2), edge_weight=torch.ones(4), part_of=torch.zeros(N, dtype=torch.int64))
    for _ in range(data.draw(st.integers(1, 3))):
        field = data.draw(st.sampled_from(FIELDS))
        old = getattr(graph, field)
        if not isinstance(old, torch.Tensor) or old.layout != torch.strided:
            continue
        how = data.draw(st.sampled_from(("value", "dtype", "shape", "sparse", "foreign")))
        new = old.clone()
        if how == "value" and old.numel() and not old.is_complex():
            value = data.draw(st.sampled_from(VALUES))
            if not old.is_floating_point():
                value = int(max(min(value, 2.0**62), -(2.0**62))) if value == value and abs(value) < 1e19 else -1
                value = value % 2 if old.dtype in (torch.bool, torch.uint8) else max(min(value, 2**30), -(2**30))
            new.view(-1)[data.draw(st.integers(0, old.numel() - 1))] = value
        elif how == "dtype" and not old.is_complex():
            new = old.to(data.draw(st.sampled_from(DTYPES)))
        elif how == "shape":
            cut = data.draw(
                st.sampled_from((lambda t: t[:-1], lambda t: t[..., None], lambda t: t[:0], lambda t: t.t()))
            )
            new = cut(new) if new.dim() in (1, 2) else new.reshape(-1)
            new = new.contiguous()
        elif how == "sparse":
            new = new.to_sparse()
        elif how == "foreign":
            new = data.draw(st.sampled_from(("text", [[1, 2], [3]], old.tolist(), {"a": 1}, 3)))
        graph = replace(graph, **{field: new})
    try:
        good = checked(graph)
    except ValueError as error:
        line = str(error)
        assert "\n" not in line and line.startswith("the graph is wrong: ")
        assert any(field.replace("part_of", "batch") in line for field in FIELDS), line
        return
    n = good.num_nodes
    assert good.x.dtype == torch.float32 and good.x.isfinite().all() and good.x.shape == (n, good.num_features)
    assert good.edge_index.dtype == torch.int64 and ((good.edge_index >= 0) & (good.edge_index < n)).all()
    assert good.y.shape == (n,) and good.y.max() < good.num_classes
    counts = good.train.int() + good.val.int() + good.test.int()
    assert counts.max() == 1 and all(mask.any() for mask in (good.train, good.val, good.test))
    assert (good.y[counts > 0] >= 0).all()
    both = torch.ones(n, 1)
    Adjacency(good.edge_index, n, good.edge_attr, good.part_of, good.edge_weight).operator("sym")(both)


@pytest.mark.parametrize("kind", ["sym", "sym_loopless", "mean", "sum"])
def test_edge_weights_are_the_entries_of_the_operators(kind):
    draw = torch.Generator().manual_seed(0)
    ends = torch.tensor([[0, 1, 2, 0, 3], [1, 2, 0, 2, 3]])
    weight = torch.rand(5, generator=draw, dtype=torch.float64)
    a = torch.zeros(4, 4, dtype=torch.float64)
    a[ends[1], ends[0]] = weight
    if kind == "sym":
        a += torch.diag(torch.where(a.diag() == 0, 1.0, 0.0).double())
    degree = a.sum(1)
    root = torch.where(degree > 0, degree.rsqrt(), 0)
    wanted = {
        "sum": a,
        "mean": torch.where(degree > 0, 1 / degree, 0)[:, None] * a,
    }.get(kind, root[:, None] * a * root)
    found = Adjacency(ends, 4, edge_weight=weight).operator(kind, torch.float64)
    assert torch.allclose(found(torch.eye(4, dtype=torch.float64)), wanted)


def test_no_damage_ends_the_process():
    """What corrupts memory may kill the process: so the damage is done in another one."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", "random_damage"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout[-2000:]


def test_numbers_to_be_predicted_are_taken_one_or_several_a_node_and_infinite_ones_refused():
    y = torch.tensor([0.5, float("nan"), 2.0, 1.0, 0.0, -3.0])
    known = {"train": torch.tensor([0]), "val": torch.tensor([2]), "test": torch.tensor([3])}
    taken = checked(valid(y=y, num_classes=1, metric="mae", **known))
    assert taken.y.shape == (N, 1) and torch.equal(taken.y[:, 0].isnan(), y.isnan())
    assert (taken.task.kind, taken.task.direction, taken.task.minimised) == ("regression", "lower", "mae")
    two = torch.stack([y, y * 2], dim=1).double()
    assert checked(valid(y=two, num_classes=2, metric="rmse", loss="mae", **known)).y.dtype == torch.float32
    for wrong, said in (
        ({"y": y, "num_classes": 2}, "y has shape"),
        ({"y": y.nan_to_num(float("inf")), "num_classes": 1}, "infinite"),
        ({"y": y, "num_classes": 1, "train": torch.tensor([0, 1])}, "no label for 1 nodes of train"),
        ({"y": y, "num_classes": 1, "loss": "cross_entropy"}, "does not train regression"),
    ):
        with pytest.raises(ValueError, match=said):
            checked(valid(**known | {"metric": "mae"} | wrong))


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "r2"])
@pytest.mark.parametrize("wrong", ["val", "test"])
def test_a_set_of_which_the_metric_says_nothing_is_refused(metric, wrong):
    nan = float("nan")
    told = torch.tensor([[0.0, nan], [1.0, nan], [0.0, nan], [1.0, nan], [1.0, nan], [0.0, 1.0]])
    parts = {"train": torch.tensor([0]), "val": torch.tensor([1, 2]), "test": torch.tensor([4, 5])}
    assert checked(valid(y=told, num_classes=2, metric=metric, **parts)).metric == metric
    for value in (1.0, nan):
        y = told.clone()
        y[parts[wrong], 0] = value
        y[parts[wrong], 1] = 1.0
        with pytest.raises(ValueError, match=f"metric={metric} .* in {wrong} .*; draw another split"):
            checked(valid(y=y, num_classes=2, metric=metric, **parts))
