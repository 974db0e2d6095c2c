"""Tables as plain text, markdown and LaTeX; as data, CSV and JSON."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import pandas as pd

TEXT_WIDTH = 120
_LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "Δ": r"$\Delta$", "~": r"\textasciitilde{}"}
_LATEX |= {"^": r"\textasciicircum{}"} | {character: f"\\{character}" for character in "&%$#_{}"}


@dataclass(frozen=True)
class Table:
    """A titled table of text.

    Args:
        title: what it shows.
        header: the names of its columns.
        rows: the cells.
        bold: (row, column) of the cells that stand out.
        names: how many leading columns name the row; they are set left, the others right.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[tuple[int, int]] = frozenset()
    names: int = 1


def as_text(table: Table) -> str:
    """Aligned columns; wide depth tables continue below, with `*` at the cells that stand out."""
    marked = {j for _, j in table.bold}
    rows = [
        [cell + (" *" if (i, j) in table.bold else "  " * (j in marked)) for j, cell in enumerate(row)]
        for i, row in enumerate(table.rows)
    ]
    header = [name + "  " * (j in marked) for j, name in enumerate(table.header)]
    widths = [max(len(row[j]) for row in [header, *rows]) for j in range(len(header))]
    blocks = []
    for columns in _blocks(widths, table.names if table.names < len(widths) else 0):
        lines = [_line([row[j] for j in columns], [widths[j] for j in columns], table.names) for row in [header, *rows]]
        rule = "-" * max(map(len, lines))
        blocks.append("\n".join([lines[0], rule, *lines[1:]]))
    legend = "\n* best depth, chosen by the validation score where it is known" if marked else ""
    return f"{table.title}\n\n" + "\n\n".join(blocks) + legend + "\n"


def as_markdown(table: Table) -> str:
    """A GitHub table; what stands out is bold."""
    rule = [":---"] * table.names + ["---:"] * (len(table.header) - table.names)
    rows = [
        [f"**{_pipes(cell)}**" if (i, j) in table.bold else _pipes(cell) for j, cell in enumerate(row)]
        for i, row in enumerate(table.rows)
    ]
    lines = ["| " + " | ".join(row) + " |" for row in [[_pipes(name) for name in table.header], rule, *rows]]
    return f"**{_pipes(table.title)}**\n\n" + "\n".join(lines) + "\n"


def as_latex(table: Table) -> str:
    """A booktabs tabular."""
    rows = [
        " & ".join(rf"\textbf{{{latex(cell)}}}" if (i, j) in table.bold else latex(cell) for j, cell in enumerate(row))
        for i, row in enumerate(table.rows)
    ]
    columns = "l" * table.names + "r" * (len(table.header) - table.names)
    head = " & ".join(latex(name) for name in table.header)
    body = "".join(f"{row} \\\\\n" for row in rows)
    title = one_line(table.title)
    return (
        f"% {title}; needs \\usepackage{{booktabs}}\n\\begin{{tabular}}{{{columns}}}\n"
        f"\\toprule\n{head} \\\\\n\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"
    )


def as_csv(table: pd.DataFrame) -> str:
    """The table as data; text that a spreadsheet would take for a formula gets a `'` in front."""
    return str(table.map(_inert).to_csv(index=False, lineterminator="\n"))


def as_json(table: pd.DataFrame) -> str:
    """The table as a list of objects; unknown is null."""
    records = [
        {str(name): None if value is None or value != value else value for name, value in record.items()}
        for record in table.to_dict("records")
    ]
    return json.dumps(records, indent=2, allow_nan=False) + "\n"


def latex(text: str) -> str:
    """Text with LaTeX's special characters escaped, and a minus in front of a number that is one."""
    escaped = "".join(_LATEX.get(character, character) for character in one_line(text))
    return re.sub(r"(?<!\S)-(?=\d)", "$-$", escaped)


def one_line(text: str) -> str:
    """Text without line breaks."""
    return re.sub(r"\s+", " ", text).strip()


def _inert(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "@", "+", "-") else value


def _pipes(text: str) -> str:
    return one_line(text).replace("\\", "\\\\").replace("|", "\\|")


def _line(cells: list[str], widths: list[int], names: int) -> str:
    padded = [
        cell.ljust(width) if j < names else cell.rjust(width)
        for j, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def _blocks(widths: list[int], names: int) -> list[list[int]]:
    """Columns in blocks of `TEXT_WIDTH`, each beginning with the columns that name the row."""
    if not names:
        return [list(range(len(widths)))]
    lead = list(range(names))
    start = sum(widths[:names]) + 2 * (names - 1)
    blocks, used = [list(lead)], start
    for j in range(names, len(widths)):
        if used + 2 + widths[j] > TEXT_WIDTH and len(blocks[-1]) > names:
            blocks.append(list(lead))
            used = start
        blocks[-1].append(j)
        used += 2 + widths[j]
    return blocks
