"""The notebook of docs/ runs from its first cell to its last, as a reader would run it."""

import resource
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "first-steps.ipynb"
SECONDS = 120  # of processor time, so that a busy machine does not count


@pytest.mark.filterwarnings("default")  # of the packages that talk to the notebook's process
def test_the_first_steps_run_in_two_minutes(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    before = used()
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert used() - before < SECONDS
    assert len(list((tmp_path / "first-steps").glob("*/best.pt"))) == 12
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 3
    assert any("in the row" in output.get("text", "") for output in shown)
    assert all(cell.outputs for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code")


def used() -> float:
    """Processor seconds of the processes started here that have ended."""
    times = resource.getrusage(resource.RUSAGE_CHILDREN)
    return times.ru_utime + times.ru_stime
