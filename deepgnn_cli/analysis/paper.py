"""One table for an article: methods against depth, a block a data set, or methods against data sets.

Its means stand in columns of siunitx's, the deviations small behind them; its rules are booktabs'. Where it is wider
than the column of text it is scaled down to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deepgnn_cli.analysis.curves import Curve, Panel
from deepgnn_cli.analysis.formats import latex, one_line
from deepgnn_cli.analysis.summary import ALL_STATUSES, Comparison, Record, best_row
from deepgnn_cli.analysis.tables import form, is_score

NAMES: dict[str, dict[str, str]] = {
    "model": {
        "gcn": "GCN", "gat": "GAT", "sage": "GraphSAGE", "gin": "GIN", "gcnii": "GCNII", "gcnii_star": "GCNII*",
        "jknet": "JKNet", "sgc": "SGC", "appnp": "APPNP", "grand": "GRAND", "dagnn": "DAGNN", "gprgnn": "GPR-GNN",
        "resgcn": "ResGCN", "densegcn": "DenseGCN", "deepergcn": "DeeperGCN", "revgcn": "RevGCN", "revgat": "RevGAT",
        "revgen": "RevGEN", "revsage": "RevSAGE",
    },
    "dataset": {
        "cora": "Cora", "citeseer": "CiteSeer", "pubmed": "PubMed", "texas": "Texas", "wisconsin": "Wisconsin",
        "cornell": "Cornell", "chameleon": "Chameleon", "squirrel": "Squirrel", "actor": "Actor", "ppi": "PPI",
        "flickr": "Flickr", "reddit": "Reddit", "ogbn_arxiv": "ogbn-arxiv", "ogbn_products": "ogbn-products",
        "ogbn_proteins": "ogbn-proteins", "csbm": "CSBM", "ring_transfer": "Ring transfer",
        "neighbors_match": "NeighborsMatch", "wikics": "WikiCS",
    },
    "norm": {
        "batch": "BatchNorm", "layer": "LayerNorm", "instance": "InstanceNorm", "graph": "GraphNorm",
        "pair": "PairNorm", "group": "DiffGroupNorm", "node": "NodeNorm", "mean_subtraction": "mean subtraction",
    },
    "residual": {
        "initial": "initial residual", "res": "residual", "res_plus": "res+", "dense": "dense", "jumping": "JK",
        "reversible": "reversible", "linear": "linear skip",
    },
}  # fmt: skip
"""What a value is called in print."""

_PACKAGES = r"\usepackage{booktabs,siunitx,graphicx}"
_FIT = r"\resizebox{\ifdim\width>\linewidth \linewidth\else \width\fi}{!}{%"
_METRICS = {"test_score": "test score", "val_score": "validation score"}


@dataclass(frozen=True)
class Layout:
    """What the table shows: which columns in which order, what is called otherwise, and which way round."""

    columns: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    transpose: bool = False

    def display(self, column: str, value: object) -> str:
        """What a value of a column is called."""
        text = str(value)
        named = self.rename.get(text) or NAMES.get(column, {}).get(text) or text
        return f"{column} {named}" if column == "hidden" and text not in self.rename else named


@dataclass(frozen=True)
class Block:
    """A part of the table: its title ("" for the only one), and its rows by method and by column."""

    title: str
    cells: dict[str, dict[str, Record]]


@dataclass(frozen=True)
class Grid:
    """The table's content. `heading`: what its columns run through."""

    blocks: tuple[Block, ...]
    methods: tuple[str, ...]
    columns: tuple[str, ...]
    heading: str


def grid_of(comparison: Comparison, layout: Layout) -> Grid:
    """The groups of a comparison by data set, method and depth."""
    rows = comparison.table.to_dict("records")
    names = _method_columns(rows, comparison.by)
    depths = sorted({row["layers"] for row in rows if row.get("layers", "") != ""}) if "layers" in comparison.by else []
    datasets = list(dict.fromkeys(row["dataset"] for row in rows)) if "dataset" in comparison.by else []
    by_depth = len(depths) > 1
    across = len(datasets) > 1 and not by_depth
    columns = [str(depth) for depth in depths] if by_depth else [layout.display("dataset", d) for d in datasets]
    columns = columns if by_depth or across else [_METRICS.get(comparison.metric, comparison.metric)]
    blocks: dict[str, dict[str, dict[str, Record]]] = {}
    for row in rows:
        title = layout.display("dataset", row["dataset"]) if datasets and by_depth and len(datasets) > 1 else ""
        method = _method(row, names, layout)
        column = str(row["layers"]) if by_depth else layout.display("dataset", row["dataset"]) if across else columns[0]
        blocks.setdefault(title, {}).setdefault(method, {})[column] = row
    methods = tuple(dict.fromkeys(method for block in blocks.values() for method in block))
    heading = "layers" if by_depth else "data set" if across else ""
    return Grid(tuple(Block(title, cells) for title, cells in blocks.items()), methods, tuple(columns), heading)


def _method_columns(rows: Sequence[Record], by: Sequence[str]) -> list[str]:
    """The columns that name a method; those that the others tell already are left out."""
    names = [name for name in by if name not in ("dataset", "layers")]
    for name in ("split", "conv", "norm", "residual", "hidden"):
        rest = [other for other in names if other != name]
        values: dict[tuple[object, ...], set[object]] = {}
        for row in rows:
            values.setdefault(tuple(row[other] for other in rest), set()).add(row.get(name))
        if name in names and rest and all(len(found) == 1 for found in values.values()):
            names = rest
    return names


def _method(row: Record, names: Sequence[str], layout: Layout) -> str:
    parts = [layout.display(name, row[name]) for name in names if row[name] not in ("", "none")]
    return " + ".join(parts) or " + ".join(str(row[name]) for name in names) or "all runs"


def as_latex(comparison: Comparison, layout: Layout) -> str:
    """The table, to be pasted.

    Raises:
        ValueError: `layout.columns` names a column that is not there.
    """
    grid = grid_of(comparison, layout)
    numbers = _Numbers(comparison)
    bold = _bold(grid, comparison)
    across, down = (grid.methods, grid.columns) if layout.transpose else (grid.columns, grid.methods)
    across = _chosen(across, layout.columns)
    corner = grid.heading or "method" if layout.transpose else ""
    over = "" if layout.transpose else grid.heading
    lines = [rf"\begin{{tabular}}{{@{{}}l*{{{len(across)}}}{{{numbers.column}}}@{{}}}}", r"\toprule"]
    cells_each, last = 1 + numbers.spreads, 1 + len(across) * (1 + numbers.spreads)
    if over:
        lines += [rf"& \multicolumn{{{last - 1}}}{{c}}{{{over}}} \\", rf"\cmidrule(l){{2-{last}}}"]
    heads = [rf"\multicolumn{{{cells_each}}}{{c}}{{{latex(name)}}}" for name in across]
    lines += [" & ".join([latex(corner), *heads]) + r" \\"]
    for block in grid.blocks:
        lines.append(r"\midrule")
        if block.title:
            lines.append(rf"\multicolumn{{{last}}}{{@{{}}l}}{{\textit{{{latex(block.title)}}}}} \\")
        for name in down:
            pairs = [(other, name) if layout.transpose else (name, other) for other in across]
            rows = [block.cells.get(method, {}).get(column) for method, column in pairs]
            if any(row is not None for row in rows):
                cells = [numbers.cell(row, id(row) in bold) for row in rows]
                lines.append(" & ".join([latex(name), *cells]) + r" \\")
    title = one_line(f"{comparison.metric}{' in %' * is_score(form(comparison))}, mean and sample std")
    head = [rf"% {title}; needs {_PACKAGES}", r"{\footnotesize\setlength{\tabcolsep}{3pt}%", _FIT]
    return "\n".join([*head, *lines, r"\bottomrule", r"\end{tabular}}}", ""])


def _chosen(names: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    for name in wanted:
        if name not in names:
            raise ValueError(f"--columns {name}: the table has {', '.join(names)}")
    return tuple(wanted) or tuple(names)


def _bold(grid: Grid, comparison: Comparison) -> set[int]:
    """The best depth of each method; where there is one depth, the best method of each column. By validation."""
    if grid.heading == "layers":
        rows = [row for block in grid.blocks for line in block.cells.values() for row in line.values()]
        return {id(row) for row in rows if row["best_depth"]}
    found = set()
    for block in grid.blocks:
        for column in grid.columns:
            scored = [line[column] for line in block.cells.values() if column in line and line[column]["n"]]
            if len(scored) > 1:
                found.add(id(best_row(scored, comparison.metric, comparison.selection)))
    return found


class _Numbers:
    """How the numbers of a table are printed: one number of decimals, and siunitx's column for them."""

    def __init__(self, comparison: Comparison) -> None:
        self.scale = 100 if is_score(form(comparison)) else 1
        rows = [row for row in comparison.table.to_dict("records") if row["n"]]
        largest = max((abs(row["mean"]) for row in rows), default=1.0)
        size = math.floor(math.log10(largest)) if largest > 0 else 0
        self.decimals = 1 if self.scale == 100 else min(6, max(0, 2 - size))
        means = [self._mean(row) for row in rows] or ["0"]
        spreads = [self._spread(row) for row in rows] or [""]
        whole = max(len(mean.partition(".")[0].lstrip("-")) for mean in means)
        sign = "-" if any(mean.startswith("-") for mean in means) else ""
        self.spreads = any(spreads)
        self.column = f"S[table-format={sign}{whole}.{self.decimals},detect-weight]" + "@{}l" * self.spreads

    def _mean(self, row: Record) -> str:
        return f"{self.scale * row['mean']:.{self.decimals}f}"

    def _deviation(self, row: Record) -> str:
        return "" if row["std"] != row["std"] else f"{self.scale * row['std']:.{self.decimals}f}"

    def _spread(self, row: Record) -> str:
        return rf"\tiny$\pm${deviation}" if (deviation := self._deviation(row)) else ""

    def cell(self, row: Record | None, bold: bool) -> str:
        """The cell of a group, or its two."""
        if row is None or not row["n"]:
            told = ", ".join(status for status in ALL_STATUSES[1:] if row and row[status])
            return rf"\multicolumn{{{1 + self.spreads}}}{{c}}{{{told or '--'}}}"
        mean = rf"\bfseries {self._mean(row)}" if bold else self._mean(row)
        return f"{mean} & {self._spread(row)}" if self.spreads else mean


def panels(comparison: Comparison, layout: Layout) -> tuple[Panel, ...]:
    """The curves of each data set against depth, by the names of the table.

    Raises:
        ValueError: nothing was run at two depths.
    """
    grid = grid_of(comparison, layout)
    if grid.heading != "layers":
        raise ValueError("--style paper draws depth curves, and these runs have one depth")
    scale = 100.0 if is_score(form(comparison)) else 1.0
    limits = (0.0, 100.0) if is_score(form(comparison)) else (-math.inf, math.inf)
    drawn = []
    for block in grid.blocks:
        curves = []
        for method, line in block.cells.items():
            points = [(int(column), row) for column, row in line.items() if row["n"]]
            if points:
                layers, rows = zip(*sorted(points, key=lambda point: point[0]), strict=True)
                means = tuple(scale * row["mean"] for row in rows)
                curves.append(Curve(method, layers, means, tuple(scale * row["std"] for row in rows)))
        drawn.append(Panel(block.title, tuple(curves), False, limits))
    return tuple(drawn)
