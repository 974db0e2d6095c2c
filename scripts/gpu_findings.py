"""What a check on a GPU gives: findings, and tables of measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Finding:
    """A law, what was found, what was expected, and whether it holds; None where it could not be tried here."""

    check: str
    found: str
    expected: str
    holds: bool | None

    def line(self) -> str:
        """As printed."""
        mark = {True: "ok  ", False: "FAIL", None: "skip"}[self.holds]
        return f"{mark} {self.check}: {self.found} (expected: {self.expected})"


@dataclass(frozen=True)
class Section:
    """What one section of the check found, what it measured (title -> rows), and how long it took."""

    findings: list[Finding]
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    seconds: float = 0.0

    @staticmethod
    def read(values: dict[str, Any]) -> Section:
        """From what `asdict` made."""
        return Section([Finding(**finding) for finding in values["findings"]], values["tables"], values["seconds"])

    def markdown(self) -> list[str]:
        """Its tables, findings first."""
        rows = [asdict(finding) | {"holds": _HOLDS[finding.holds]} for finding in self.findings]
        parts = [*markdown_table(rows), ""]
        for title, table in self.tables.items():
            parts += [f"{title}:", "", *markdown_table(table), ""]
        return parts


_HOLDS = {True: "yes", False: "**no**", None: "not tried"}


@dataclass(frozen=True)
class Machine:
    """Where the check runs, and whether with the small sizes that a CPU manages."""

    device: torch.device
    small: bool

    @staticmethod
    def of(device: torch.device) -> Machine:
        """The device by its number, made the current one, to which streams and counters go."""
        if device.type != "cuda":
            torch.set_num_threads(1)  # small sizes: on a busy machine more threads wait for each other
            return Machine(device, small=True)
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        torch.cuda.set_device(device)
        return Machine(device, small=False)

    @property
    def name(self) -> str:
        """The GPU's name."""
        return torch.cuda.get_device_name(self.device) if self.on_gpu else "cpu"

    @property
    def on_gpu(self) -> bool:
        """Whether it is one of CUDA's."""
        return self.device.type == "cuda"


def below(check: str, value: float, limit: float) -> Finding:
    """A number that must stay below a limit; 0: it must be 0."""
    return Finding(check, f"{value:.1e}", f"below {limit:g}" if limit else "0", value < limit if limit else value == 0)


def needs_gpu(check: str, expected: str) -> Finding:
    """A law that only a GPU can break."""
    return Finding(check, "needs CUDA", expected, None)


def markdown_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Rows of one kind as a table."""
    if not rows:
        return ["(nothing)"]
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return lines + ["| " + " | ".join(_text(row.get(name)) for name in names) + " |" for row in rows]


def _text(value: object) -> str:
    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
