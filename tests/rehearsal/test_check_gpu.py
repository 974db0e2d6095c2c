"""The one command for a machine with a GPU: it starts anywhere, goes on where it was, and says what fails."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "scripts"
HIDING = """
import runpy, sys
sys.modules.update(dict.fromkeys({names!r}))
sys.argv = {words!r}
sys.path.insert(0, {folder!r})
runpy.run_path({script!r}, run_name="__main__")
"""
EXTRAS = {
    "hydra",
    "omegaconf",
    "ogb",
    "yaml",
    "pandas",
    "scipy",
    "sklearn",
    "annotated_types",
    "filelock",
    "matplotlib",
}


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import check_gpu

    threads = torch.get_num_threads()
    yield check_gpu
    torch.set_num_threads(threads)


def test_it_needs_torch_and_pyg_alone(tmp_path: Path) -> None:
    words = ["check_gpu.py", "--device", "cpu", "--only", "oom", "second_device", "--out", str(tmp_path / "gpu.md")]
    script = SCRIPTS / "check_gpu.py"
    code = HIDING.format(names=EXTRAS, words=words, folder=str(SCRIPTS), script=str(script))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ok   more memory than there is: oom (expected: oom)" in done.stdout
    assert "skip a step on cuda:1: there is no second GPU (expected: " in done.stdout
    assert "# Checked on cpu" in (tmp_path / "gpu.md").read_text()


def test_an_interrupted_check_goes_on_a_finished_one_starts_anew_and_a_failure_does_not_end_it(
    check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    did: list[str] = []

    def section(name: str, end: BaseException | None = None) -> Callable[..., object]:
        def run(machine: object) -> object:
            """Something."""
            did.append(name)
            if end is not None:
                raise end
            return check.Section([check.Finding(name, "1", "1", True)], {"Sizes": [{"mib": 2.0}]})

        return run

    def call(*words: str) -> int:
        did.clear()
        monkeypatch.setattr(sys, "argv", ["check_gpu.py", "--device", "cpu", "--out", str(tmp_path / "gpu.md"), *words])
        return int(check.main())

    monkeypatch.setattr(
        check, "SECTIONS", {"a": section("a"), "b": section("b", KeyboardInterrupt()), "c": section("c")}
    )
    with pytest.raises(KeyboardInterrupt):
        call()
    assert did == ["a", "b"]
    check.SECTIONS["b"] = section("b", ValueError("wrong"))
    assert call() == 1 and did == ["b", "c"]
    assert "FAIL b: ValueError: wrong (expected: no error)" in capsys.readouterr().out
    check.SECTIONS["b"] = section("b")
    assert call("--only", "b") == 0 and did == ["b"]
    report = (tmp_path / "gpu.md").read_text()
    assert all(f"## {name}" in report for name in "abc") and "| mib |" in report and "**no**" not in report
    assert json.loads((tmp_path / "gpu.json").read_text())["sections"].keys() == {"a", "b", "c"}
    assert call() == 0 and did == ["a", "b", "c"]


def test_without_a_gpu_it_says_so(check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["check_gpu.py"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check.main() == 2 and "no CUDA device" in capsys.readouterr().err


def test_the_gpu_has_its_number_and_is_the_current_one(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", made.append)
    assert check.Machine.of(torch.device("cuda")).device == torch.device("cuda:2")
    assert check.Machine.of(torch.device("cuda:1")).device == torch.device("cuda:1")
    assert made == [torch.device("cuda:2"), torch.device("cuda:1")]


def test_a_depth_whose_stored_activations_do_not_fit_is_measured_without_them(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = sys.modules["reversible_variants"]
    step = variants.Problem.step

    def limited(self: object, network: torch.nn.Module) -> list[torch.Tensor]:
        if getattr(network, "store_activations", False):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, network)

    monkeypatch.setattr(variants.Problem, "step", limited)
    found = check.gpu_laws.depth(check.Machine(torch.device("cpu"), small=True))
    (rows,) = found.tables.values()
    by_name = {row["variant"]: row for row in rows}
    assert by_name["stored"]["peak_mib"] is None and by_name["reversible"]["peak_mib"] > 0
    assert by_name["reversible"]["ratio"] is None
    held = {finding.check: finding.holds for finding in found.findings}
    assert held["8 layers beside stored ones"] is None and held["reversible: kept MiB"] is True
    assert held["reversible: gradient error, float32, all depths"] is None
