"""ZINC, the peptides and QM9 from small files in their true form: as PyG reads them, to a row, and nothing run."""

import csv
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from ogb.utils.features import get_atom_feature_dims, get_bond_feature_dims
from torch_geometric.datasets import QM9, ZINC, LRGBDataset

from deepgnn_cli.cli.main import run_command
from deepgnn_cli.data.datasets.qm9 import PROPERTIES
from deepgnn_cli.data.download import DataError, DataUnavailable
from deepgnn_cli.data.molecules import ATOMS, BONDS
from deepgnn_cli.data.tensor_pickle import load_pickle

PARTS = ("train", "val", "test")


def ring(draw, n):
    """A ring with a chord: its bonds both ways, sorted."""
    once = [(i, (i + 1) % n) for i in range(n)] + [(0, n // 2)]
    pairs = sorted({(a, b) for a, b in once if a != b} | {(b, a) for a, b in once if a != b})
    return torch.tensor(pairs).t().contiguous()


def zinc_molecule(draw, n):
    bonds = torch.zeros(n, n, dtype=torch.int8)
    for a, b in ring(draw, n).t().tolist():
        if a < b:
            bonds[a, b] = bonds[b, a] = int(draw.integers(1, 4))
    atoms = torch.from_numpy(draw.integers(28, size=n)).to(torch.int8)
    value = torch.tensor([float(draw.normal())])
    return {"num_atom": n, "atom_type": atoms, "bond_type": bonds, "logP_SA_cycle_normalized": value}


def write_zinc(root, *, counts=(20, 8, 8), protocol=None, change=lambda part, molecules: molecules):
    draw, folder = np.random.default_rng(0), root / "zinc" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in zip(PARTS, counts, strict=True):
        molecules = change(part, [zinc_molecule(draw, int(draw.integers(4, 9))) for _ in range(count)])
        (folder / f"{part}.pickle").write_bytes(pickle.dumps(molecules, protocol=protocol))
        chosen = draw.permutation(count)[: count - 2]
        (folder / f"{part}.index").write_text(",".join(map(str, chosen)) + "\n")
    return folder


def write_peptides(root, target, *, counts=(20, 8, 8), change=lambda part, graphs: graphs):
    draw, folder = np.random.default_rng(0), root / f"peptides-{target}" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in zip(PARTS, counts, strict=True):
        graphs = []
        for number in range(count):
            ends = ring(draw, int(draw.integers(8, 12)))
            x = torch.stack([torch.from_numpy(draw.integers(k, size=int(ends.max()) + 1)) for k in ATOMS], dim=1)
            attr = torch.stack([torch.from_numpy(draw.integers(k, size=ends.size(1))) for k in BONDS], dim=1)
            kinds = torch.tensor([[float((number + k) % 2) for k in range(10)]])
            y = kinds if target == "func" else torch.from_numpy(draw.normal(size=(1, 11))).float()
            graphs.append((x, attr, ends, y))
        torch.save(change(part, graphs), folder / f"{part}.pt")
    return folder


def write_qm9(root, count=30, change=lambda molecules: molecules):
    draw, folder = np.random.default_rng(0), root / "qm9" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    molecules = []
    for number in range(count):
        ends = ring(draw, int(draw.integers(4, 9)))
        n, e = int(ends.max()) + 1, ends.size(1)
        molecules.append(
            {
                "x": torch.from_numpy(draw.integers(2, size=(n, 11))).float(),
                "z": torch.ones(n, dtype=torch.long),
                "pos": torch.from_numpy(draw.normal(size=(n, 3))).float(),
                "edge_index": ends,
                "edge_attr": torch.eye(4)[torch.from_numpy(draw.integers(4, size=e))],
                "y": torch.from_numpy(draw.normal(size=(1, 19)) * 10 + 50).float(),
                "name": f"gdb_{number + 1}",
                "idx": number,
            }
        )
    torch.save(change(molecules), folder / "qm9_v3.pt")
    return folder


def same_as_pyg(graph, data_sets):
    """Our union against the molecules that PyG's own class reads from a copy of the very files."""
    theirs = [data for data_set in data_sets for data in data_set]
    sizes = torch.tensor([data.num_nodes for data in theirs])
    assert torch.equal(graph.part_of, torch.arange(len(theirs)).repeat_interleave(sizes))
    assert torch.equal(graph.x, torch.cat([data.x for data in theirs]).float())
    first = [int(sizes[:number].sum()) for number in range(len(theirs))]
    ends = [data.edge_index + start for data, start in zip(theirs, first, strict=True)]
    assert torch.equal(graph.edge_index, torch.cat(ends, dim=1))
    attr = torch.cat([data.edge_attr for data in theirs]).float()
    assert torch.equal(graph.edge_attr, attr if attr.dim() == 2 else attr[:, None])
    if graph.num_classes > 1 or graph.name.startswith("zinc"):
        assert torch.equal(graph.y, torch.cat([data.y for data in theirs]).reshape(len(theirs), -1))


# PyG reads its own cache by way of a warning where another test has taken its classes off torch's list.
@pytest.mark.filterwarnings("ignore:Weights only load failed")
@pytest.mark.parametrize("subset", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_zinc_is_what_pyg_reads(build, tmp_path, subset, protocol):
    write_zinc(tmp_path, protocol=protocol)
    shutil.copytree(tmp_path / "zinc", tmp_path / "pyg")
    graph = build("zinc", subset=subset)
    same_as_pyg(graph, [ZINC(str(tmp_path / "pyg"), subset=subset, split=part) for part in PARTS])
    sizes = [int(mask.sum()) for mask in (graph.train, graph.val, graph.test)]
    assert sizes == ([18, 6, 6] if subset else [20, 8, 8])
    assert graph.name == ("zinc" if subset else "zinc_full") and (graph.metric, graph.level) == ("mae", "graph")
    assert (graph.categories, graph.edge_categories) == ((28,), (4,))


# PyG reads its own cache by way of a warning where another test has taken its classes off torch's list.
@pytest.mark.filterwarnings("ignore:Weights only load failed")
@pytest.mark.parametrize("target", ["func", "struct"])
def test_peptides_are_what_pyg_reads(build, tmp_path, target):
    write_peptides(tmp_path, target)
    shutil.copytree(tmp_path / f"peptides-{target}", tmp_path / "pyg" / f"peptides-{target}")
    graph = build(f"peptides_{target}")
    same_as_pyg(graph, [LRGBDataset(str(tmp_path / "pyg"), f"Peptides-{target}", part) for part in PARTS])
    assert [int(mask.sum()) for mask in (graph.train, graph.val, graph.test)] == [20, 8, 8]
    assert (graph.metric, graph.num_classes) == (("average_precision", 10) if target == "func" else ("mae", 11))
    assert graph.num_features == sum(ATOMS) and graph.num_edge_features == sum(BONDS)


def test_the_categories_are_those_of_ogb():
    assert (list(ATOMS), list(BONDS)) == (get_atom_feature_dims(), get_bond_feature_dims())


SIZES = {"train_molecules": 18, "val_molecules": 5}


# PyG reads its own cache by way of a warning where another test has taken its classes off torch's list.
@pytest.mark.filterwarnings("ignore:Weights only load failed")
def test_qm9_is_what_pyg_reads_and_its_split_is_drawn_once(build, tmp_path):
    write_qm9(tmp_path)
    shutil.copytree(tmp_path / "qm9", tmp_path / "pyg")
    theirs = QM9(str(tmp_path / "pyg"))
    graph = build("qm9", target="homo", **SIZES)
    same_as_pyg(graph, [theirs])
    assert torch.equal(graph.y[:, 0], torch.cat([data.y for data in theirs])[:, 2])
    assert torch.equal(build("qm9", target=2, **SIZES).y, graph.y) and graph.name == "qm9_homo"
    assert [int(mask.sum()) for mask in (graph.train, graph.val, graph.test)] == [18, 5, 7]
    assert (graph.train.int() + graph.val.int() + graph.test.int() == 1).all()
    assert torch.equal(build("qm9", **SIZES, seed=5).test, graph.test)
    assert not torch.equal(build("qm9", **SIZES, split_seed=1).test, graph.test)
    with pytest.raises(ValueError, match="leave none of 30 to test"):
        build("qm9")


def test_the_targets_of_qm9_have_the_names_of_their_columns(build, tmp_path):
    assert len(PROPERTIES) == 19 and len(set(PROPERTIES)) == 19
    assert [PROPERTIES[k] for k in (0, 1, 2, 3, 4, 6, 7, 11, 12, 18)] == [
        "mu", "alpha", "homo", "lumo", "gap", "zpve", "u0", "cv", "u0_atom", "c",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="target"):
        build("qm9", target="banana")
    with pytest.raises(ValueError, match="target"):
        build("qm9", target=19)


def test_standardised_targets_have_mean_0_and_deviation_1_over_what_trains(build, tmp_path):
    write_qm9(tmp_path)
    plain, graph = build("qm9", target="u0", **SIZES), build("qm9", target="u0", standardise=True, **SIZES)
    trains = plain.y[plain.train, 0].double()
    assert torch.allclose(graph.y[:, 0].double(), (plain.y[:, 0].double() - trains.mean()) / trains.std(), atol=1e-5)
    assert abs(float(graph.y[graph.train].mean())) < 1e-5 and abs(float(graph.y[graph.train].std()) - 1) < 1e-5


TO_A_ROW = {
    "zinc": (write_zinc, "mae", "lower"),
    "peptides_func": (lambda root: write_peptides(root, "func"), "average_precision", "higher"),
    "peptides_struct": (lambda root: write_peptides(root, "struct"), "mae", "lower"),
    "qm9": (write_qm9, "mae", "lower"),
}


def run_of(root, capsys, *words):
    """The folder and the row of a short run."""
    words = [*words, "hidden=8", "layers=3", f"data_dir={root}", f"output_dir={root / 'outputs'}"]
    assert run_command(["train", *words]) == 0, capsys.readouterr().err
    (result,) = (root / "outputs").glob("*/result.csv")
    with result.open(newline="") as file:
        (row,) = csv.DictReader(file)
    return result.parent, row


@pytest.mark.parametrize("name", TO_A_ROW)
@pytest.mark.parametrize("model", [["model=deepergcn"], ["model=gcn", "conv=gated", "residual=res", "norm=batch"]])
def test_to_a_row(tmp_path, capsys, name, model):
    write, metric, direction = TO_A_ROW[name]
    write(tmp_path)
    words = ["dataset.train_molecules=18", "dataset.val_molecules=5"] if name == "qm9" else []
    folder, row = run_of(tmp_path, capsys, f"dataset={name}", *model, *words, "trainer.max_epochs=2")
    assert (row["metric"], row["direction"], row["status"]) == (metric, direction, "ok")
    assert all(np.isfinite(float(row[f"{part}_score"])) for part in PARTS)
    assert (folder / "layers.csv").exists() and (folder / "influence.csv").exists()


def test_the_epoch_of_the_lowest_validation_error_is_kept_and_predicted(tmp_path, capsys):
    write_zinc(tmp_path)
    words = ["dataset=zinc", "model=gin", "trainer.max_epochs=12", "trainer.select=val_score", "optimizer.lr=0.02"]
    folder, row = run_of(tmp_path, capsys, *words)
    curve = pd.read_csv(folder / "epochs.csv")
    assert int(row["best_epoch"]) == int(curve["epoch"][curve["val_score"].idxmin()]) < 12
    assert run_command(["predict", str(folder), "--split", "test", "--out", str(tmp_path / "out.csv")]) == 0
    table = pd.read_csv(tmp_path / "out.csv")
    missed = (table["prediction_0"] - table["target_0"]).abs()
    assert len(table) == 6 and np.isclose(missed.mean(), float(row["test_score"]), rtol=1e-5)
    capsys.readouterr()
    assert run_command(["evaluate", str(folder)]) == 0
    assert "as in result.csv" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["gcn_zinc", "gin_zinc", "gated_zinc", "gcn_peptides_func", "gated_peptides_struct"])
def test_a_published_recipe_trains_and_stands_beside_its_number(tmp_path, capsys, name):
    data = "zinc" if "zinc" in name else name.partition("_")[2]
    TO_A_ROW[data][0](tmp_path)
    words = ["encoding.vectors=2"] if name == "gated_zinc" else []
    _, row = run_of(tmp_path, capsys, f"experiment={name}", *words, "trainer.max_epochs=1")
    assert row["dataset"] == data and float(row["reported"]) > 0 and "arXiv" in row["reported_source"]


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def refused(root, capsys, *words):
    words = [*words, f"data_dir={root}", f"output_dir={root / 'outputs'}"]
    assert run_command(["train", *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "Traceback" not in said.err
    assert not (root / "outputs").exists()
    return said.err


@pytest.mark.parametrize("name", TO_A_ROW)
def test_nothing_in_a_file_is_run(tmp_path, capsys, name):
    mark = tmp_path / "run"
    hostile = {
        "zinc": lambda: write_zinc(tmp_path, change=lambda part, found: [*found, Hostile(mark)]),
        "peptides_func": lambda: write_peptides(tmp_path, "func", change=lambda part, found: [*found, Hostile(mark)]),
        "peptides_struct": lambda: write_peptides(
            tmp_path, "struct", change=lambda part, found: [*found, Hostile(mark)]
        ),
        "qm9": lambda: write_qm9(tmp_path, change=lambda found: [*found, Hostile(mark)]),
    }
    hostile[name]()
    said = refused(tmp_path, capsys, f"dataset={name}")
    assert "posix.mkdir" in said and "could run code" in said and not mark.exists()


def test_what_a_storage_names_is_not_run_either(tmp_path):
    """The bytes of a storage are a pickle of their own, which torch itself would read without a check."""
    mark = tmp_path / "run"

    class Storage:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (pickle.dumps(Hostile(mark)),)

    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Storage(), 0, (1,), (1,), False, {})

    (tmp_path / "a.pickle").write_bytes(pickle.dumps([Tensor()]))
    (found,) = load_pickle(tmp_path / "a.pickle")
    with pytest.raises(ValueError, match="posix.mkdir"):
        found.tensor()
    assert not mark.exists()


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((2**40, 2**40), (0, 0), 0),
        ((4,), (1,), 0),
        ((2,), (1,), 2),
        ((2,), (-1,), 1),
        ((-1,), (1,), 0),
        ((2,), (2**70,), 0),
    ],
)
def test_a_tensor_does_not_reach_beyond_its_numbers(tmp_path, size, stride, offset):
    class Tensor:
        def __reduce__(self):
            storage = torch.tensor([1.0, 2.0, 3.0]).untyped_storage()
            typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
            return torch._utils._rebuild_tensor_v2, (typed, offset, size, stride, False, {})

    (tmp_path / "a.pickle").write_bytes(pickle.dumps([Tensor()]))
    (found,) = load_pickle(tmp_path / "a.pickle")
    with pytest.raises(ValueError, match="does not fit its 3 numbers|whole numbers should be"):
        found.tensor()


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.int64, torch.float32, torch.float64])
def test_tensors_of_a_pickle_are_read_exactly(tmp_path, dtype):
    whole = torch.arange(24).reshape(4, 6).to(dtype)
    kept = [whole, whole.t(), whole[1:3, ::2], torch.empty(0, 3, dtype=dtype), whole[2, 3], {"n": np.int64(3)}]
    (tmp_path / "a.pickle").write_bytes(pickle.dumps(kept))
    found = load_pickle(tmp_path / "a.pickle")
    for ours, theirs in zip(found[:-1], kept[:-1], strict=True):
        assert torch.equal(ours.tensor(), theirs) and ours.tensor().dtype == dtype


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_damaged_files_are_one_line(tmp_path, capsys):
    cut(write_zinc(tmp_path) / "val.pickle")
    assert "val.pickle is no whole file" in refused(tmp_path, capsys, "dataset=zinc")
    write_zinc(tmp_path).joinpath("test.index").write_text("0,1,8\n")
    assert "test.index" in (said := refused(tmp_path, capsys, "dataset=zinc")) and "molecule 8, and there are 8" in said
    write_zinc(tmp_path).joinpath("test.index").write_text("0,1,1\n")
    assert "a molecule twice" in refused(tmp_path, capsys, "dataset=zinc")
    write_zinc(tmp_path).joinpath("test.index").write_text("0,one\n")
    assert "test.index cannot be read" in refused(tmp_path, capsys, "dataset=zinc")
    write_zinc(tmp_path).joinpath("train.pickle").write_bytes(pickle.dumps({"a": 1}))
    assert "should hold a list of molecules" in refused(tmp_path, capsys, "dataset=zinc")
    cut(write_peptides(tmp_path, "func") / "train.pt")
    assert "train.pt is no whole file" in refused(tmp_path, capsys, "dataset=peptides_func")
    cut(write_qm9(tmp_path) / "qm9_v3.pt")
    assert "qm9_v3.pt is no whole file" in refused(tmp_path, capsys, "dataset=qm9")


def changed(key, to):
    """The first molecule's entry is another one."""
    return lambda *found: [found[-1][0] | {key: to(found[-1][0][key])}, *found[-1][1:]]


def moved(place, to):
    def change(part, graphs):
        first = list(graphs[0])
        first[place] = to(first[place])
        return [tuple(first), *graphs[1:]]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("bond_type", lambda bonds: bonds[:, 1:]), "atoms and bonds of shape"),
        (changed("atom_type", lambda atoms: 3), "has no tensor atom_type"),
        (changed("logP_SA_cycle_normalized", lambda y: torch.zeros(2)), "has targets of shape [2]"),
        (changed("atom_type", lambda atoms: atoms + 28), "x holds category"),
        (lambda part, found: [], "holds no molecule"),
        (lambda part, found: [3, *found], "has no tensor"),
    ],
)
def test_wrong_molecules_of_zinc_are_named(tmp_path, capsys, change, said):
    write_zinc(tmp_path, change=change)
    assert said in refused(tmp_path, capsys, "dataset=zinc", "dataset.subset=false")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (moved(0, lambda x: x[:, :8]), "atoms of shape"),
        (moved(0, lambda x: x + 200), "x holds category"),
        (moved(1, lambda attr: attr[1:]), "bond features of shape"),
        (moved(2, lambda ends: ends + 100), "has a bond of atoms"),
        (moved(2, lambda ends: ends[0]), "bonds of shape"),
        (moved(3, lambda y: y[:, 1:]), "targets of shape [9]"),
        (moved(3, lambda y: "nine"), "is not (x, edge_attr, edge_index, y)"),
        (lambda part, graphs: [graph[:3] for graph in graphs], "is not (x, edge_attr, edge_index, y)"),
        (lambda part, graphs: torch.zeros(3), "should hold a list of molecules"),
    ],
)
def test_wrong_peptides_are_named(tmp_path, capsys, change, said):
    write_peptides(tmp_path, "func", change=change)
    assert said in refused(tmp_path, capsys, "dataset=peptides_func")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("y", lambda y: y[:, :12]), "targets of shape [12]"),
        (changed("x", lambda x: "C"), "is not of tensors"),
        (lambda found: [{"x": found[0]["x"]}], "has no edge_attr and no edge_index and no y"),
        (lambda found: found[0], "should hold a list of molecules"),
    ],
)
def test_wrong_molecules_of_qm9_are_named(tmp_path, capsys, change, said):
    write_qm9(tmp_path, change=change)
    assert said in refused(tmp_path, capsys, "dataset=qm9")


def test_the_copy_is_of_the_files_that_are_there(build, tmp_path):
    write_zinc(tmp_path)
    first = build("zinc")
    assert torch.equal(build("zinc").y, first.y)
    write_zinc(tmp_path, counts=(30, 8, 8))
    assert int(build("zinc").train.sum()) == 28


def test_the_archive_is_fetched_and_named_without_its_question_mark(build, tmp_path, monkeypatch):
    import zipfile

    from deepgnn_cli.data.datasets import qm9

    folder = write_qm9(tmp_path / "there")
    with zipfile.ZipFile(tmp_path / "qm9_v3.zip", "w") as archive:
        archive.write(folder / "qm9_v3.pt", "qm9_v3.pt")
    monkeypatch.setattr(qm9, "HOME", (tmp_path / "qm9_v3.zip").as_uri())
    assert build("qm9", root=tmp_path / "here", **SIZES).num_items == 30
    assert not list((tmp_path / "here").glob("*.zip*"))


def test_missing_files_are_told_with_their_place(build, tmp_path):
    for name, file in (("zinc", "train.pickle"), ("peptides_struct", "train.pt"), ("qm9", "qm9_v3.pt")):
        with pytest.raises(DataUnavailable, match=file):
            build(name)


def test_all_of_it_needs_no_chemistry_package():
    code = "import sys, deepgnn_cli.data.datasets.qm9, deepgnn_cli.data.datasets.zinc; print('rdkit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
    assert issubclass(DataUnavailable, DataError)
