"""`deepgnn predict`: what the trained model of a run says of every node, or graph, as CSV."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepgnn_cli.cli.compare import check_target
from deepgnn_cli.cli.terminal import Parser
from deepgnn_cli.cli.words import find_own_modules
from deepgnn_cli.runfiles.files import write_out

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from deepgnn_cli.data.graph import Graph
    from deepgnn_cli.runs.trained import Prediction, TrainedRun

    Columns = dict[str, Any]

_ABOUT = """\
What the trained model of a run says of every node, or of every graph where whole graphs are labelled, as CSV: to --out,
or to the terminal.
"""
_COLUMNS = """\
columns
  node           its id in dataset=table, otherwise its number, from 0; graph, where whole graphs are labelled
  class          the likeliest, called as in one's own data; of one yes or no, 1 or 0; of several, all those whose
                 probability is above 1/2: "0 3 17"
  label          what the data says, in the same form; empty where it says nothing
  unknown        of several yes or no, those of which the data says nothing; only where there are such
  split          train, val or test; empty in none
  probability_K  of each class K, or of each yes; probability_1 where there is but one
  prediction_K   of numbers to predict, and target_K, in place of class, label and probability

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
    import pandas as pd

    found, graph = run.predict(data), run.graph
    own = graph if data is None else None
    count = found.logits.size(0)
    names: Sequence[object] = range(count)
    split = pd.Series(pd.NA, range(count), dtype=object)
    if own is not None:
        names = [*(own.node_names or ()), *names[len(own.node_names or ()) :]]  # rewiring may have added some
        for name in _SPLITS:
            split[getattr(own, name).numpy()] = name
    tables = {"classes": _classes, "binary": _tasks, "regression": _numbers}
    said, probable = tables[graph.task.kind](found, graph, own)
    return pd.DataFrame({graph.level: names, **said, "split": split, **probable}, index=range(count))


def _classes(found: Prediction, graph: Graph, own: Graph | None) -> tuple[Columns, Columns]:
    """Of one of K classes: what is said and what is so, and the probabilities."""
    import numpy as np

    names = np.array(graph.class_names or range(graph.num_classes))
    label = _unknown(found, whole=names.dtype.kind == "i")
    if own is not None:
        known = own.y >= 0
        label[known.numpy()] = names[own.y[known].numpy()]
    return {"class": names[found.classes.numpy()], "label": label}, _columns("probability", found, names.tolist())


def _tasks(found: Prediction, graph: Graph, own: Graph | None) -> tuple[Columns, Columns]:
    """Of K binary tasks: which of them hold, or whether the only one does."""
    y = None if own is None else own.y
    if found.classes.size(1) == 1:
        label = _unknown(found, whole=True)
        if y is not None:
            known = ~y[:, 0].isnan()
            label[known.numpy()] = y[known, 0].long().numpy()
        names: Sequence[object] = graph.class_names or [1]
        return {"class": found.classes[:, 0].long().numpy(), "label": label}, _columns("probability", found, names)
    said: Columns = {"class": _lists(found.classes), "label": _unknown(found, whole=False)}
    if y is not None:
        known = ~y.isnan().all(dim=1)
        said["label"][known.numpy()] = _lists(y[known] == 1)
        if bool(y.isnan().any()):
            said["unknown"] = _lists(y.isnan())
    return said, _columns("probability", found, graph.class_names or range(graph.num_classes))


def _numbers(found: Prediction, graph: Graph, own: Graph | None) -> tuple[Columns, Columns]:
    """Of K numbers: the predictions and, of the run's own graph, the targets."""
    columns = _columns("prediction", found, range(graph.num_classes))
    targets = {} if own is None else {f"target_{k}": own.y[:, k].numpy() for k in range(graph.num_classes)}
    return columns | targets, {}


def _columns(what: str, found: Prediction, names: Sequence[object]) -> Columns:
    return {f"{what}_{name}": p.numpy() for name, p in zip(names, found.probabilities.t(), strict=True)}


def _unknown(found: Prediction, *, whole: bool) -> pd.Series[Any]:
    """An empty column, of whole numbers or of texts."""
    import pandas as pd

    rows = range(found.logits.size(0))
    return pd.Series(pd.NA, rows, dtype="Int64") if whole else pd.Series(pd.NA, rows, dtype=object)


def _lists(holds: Tensor) -> list[str]:
    """The numbers of the columns that hold in each row: [M, K] bool -> M texts."""
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
    file = "another graph, or a list of them: PyG Data or dicts of tensors, written by torch.save"
    parser.add_argument("--data", type=Path, metavar="FILE", help=file)
    parser.add_argument("--split", choices=[*_SPLITS, "all"], default="all", help="of nodes or graphs (default: all)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there, whole or not at all")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N (default: the run's, if it is here)")
    return parser
