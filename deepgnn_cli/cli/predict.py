"""`deepgnn predict`: what the trained model of a run says of every node, as CSV."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deepgnn_cli.cli.compare import check_target
from deepgnn_cli.cli.terminal import Parser
from deepgnn_cli.cli.words import find_own_modules
from deepgnn_cli.runfiles.files import write_out

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from deepgnn_cli.data.graph import Graph
    from deepgnn_cli.runs.trained import TrainedRun

_ABOUT = "What the trained model of a run says of every node, as CSV: to --out, or to the terminal."
_COLUMNS = """\
columns
  node           its id in dataset=table, otherwise its number, from 0; graph, where whole graphs are labelled
  class          the likeliest, called as in one's own data; where a node may have several, all whose probability
                 is above 1/2: "0 3 17"
  label          what the data says, in the same form; empty where it says nothing
  split          train, val or test; empty in none
  probability_K  of each class K; of a regression prediction_K and target_K in place of class, label and these

examples
  deepgnn predict outputs/RUN --split test --out predictions.csv
  deepgnn predict outputs/RUN --data new.pt --out predictions.csv     another graph, with features like the run's
"""
_SPLITS = ("train", "val", "test")


def main(argv: Sequence[str]) -> int:
    """Run `deepgnn predict` and return its exit status.

    Raises:
        ValueError: the user's input is wrong.
    """
    options = _parser().parse_args(argv)
    if options.data and options.split != "all":
        raise ValueError(
            f"--split {options.split} is a split of the run's own graph; all of the graph in --data is predicted"
        )
    if options.out:
        check_target(options.out)
    find_own_modules()
    from deepgnn_cli.data.graph_file import read_graph
    from deepgnn_cli.runs.trained import load

    run = load(options.run, device=options.device)
    table = predictions(run, read_graph(options.data, f"--data {options.data}") if options.data else None)
    if options.split != "all":
        table = table[table["split"] == options.split]
    text = table.to_csv(index=False, lineterminator="\n")
    if options.out:
        write_out(options.out, text.encode())
        print(f"wrote {options.out}", file=sys.stderr)
    else:
        sys.stdout.write(text)
    return 0


def predictions(run: TrainedRun, data: object = None) -> pd.DataFrame:
    """The table, a row a node, or a graph where graphs are labelled.

    Args:
        run: the trained model.
        data: as for `TrainedRun.predict`; of another graph than the run's, labels and splits are not told.
    """
    import numpy as np
    import pandas as pd

    found, graph = run.predict(data), run.graph
    count, classes = found.probabilities.shape
    if graph.task.kind == "regression":
        return _numbers(found.logits, graph if data is None else None, graph.level)
    names = np.array(graph.class_names or range(classes))
    several = graph.multi_label
    label = pd.Series(pd.NA, range(count), dtype="Int64" if names.dtype.kind == "i" and not several else object)
    split = label.astype(object)
    nodes: Sequence[object] = range(count)
    if data is None:
        known = ~graph.y.isnan().all(dim=1) if several else graph.y >= 0
        label[known.numpy()] = _lists(graph.y[known] == 1) if several else names[graph.y[known].numpy()]
        for name in _SPLITS:
            split[getattr(graph, name).numpy()] = name
        nodes = [*(graph.node_names or ()), *nodes[len(graph.node_names or ()) :]]  # rewiring may have added some
    probabilities = {f"probability_{name}": p.numpy() for name, p in zip(names, found.probabilities.t(), strict=True)}
    chosen = _lists(found.classes) if several else names[found.classes.numpy()]
    return pd.DataFrame({graph.level: nodes, "class": chosen, "label": label, "split": split, **probabilities})


def _numbers(values: Tensor, graph: Graph | None, level: str) -> pd.DataFrame:
    """The table of a regression: predictions [M, K], and of the run's own `graph` the targets and splits."""
    import pandas as pd

    columns: dict[str, object] = {level: range(values.size(0))}
    columns |= {f"prediction_{k}": values[:, k].numpy() for k in range(values.size(1))}
    if graph is not None:
        columns |= {f"target_{k}": graph.y[:, k].numpy() for k in range(values.size(1))}
        split = pd.Series(pd.NA, range(values.size(0)), dtype=object)
        for name in _SPLITS:
            split[getattr(graph, name).numpy()] = name
        columns["split"] = split
    else:
        columns["split"] = pd.NA
    return pd.DataFrame(columns)


def _lists(holds: Tensor) -> list[str]:
    """The numbers of the classes that hold for each node: [N, K] bool -> N texts."""
    return [" ".join(str(k) for k, one in enumerate(row) if one) for row in holds.tolist()]


def _parser() -> Parser:
    parser = Parser(
        prog="deepgnn predict",
        description=_ABOUT,
        epilog=_COLUMNS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="the folder of one run")
    file = "another graph: a PyG Data, a list of them or a dict of tensors, written by torch.save"
    parser.add_argument("--data", type=Path, metavar="FILE", help=file)
    parser.add_argument("--split", choices=[*_SPLITS, "all"], default="all", help="which nodes (default: all)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there, whole or not at all")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N (default: the run's, if it is here)")
    return parser
