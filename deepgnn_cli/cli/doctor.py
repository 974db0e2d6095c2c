"""`deepgnn doctor`: what is installed, what the machine has, and whether reversible gradients are right on it."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Iterator

import psutil
import torch

from deepgnn_cli import __version__
from deepgnn_cli.cli.selfcheck import SelfCheck, reversible_selfcheck
from deepgnn_cli.cli.terminal import Parser
from deepgnn_cli.data.download import default_root
from deepgnn_cli.runfiles.environment import git_sha, package_version

_GIB = 2**30
_CORE = ("torch", "torch-geometric", "ogb", "hydra-core", "omegaconf", "tqdm", "pandas", "numpy", "scipy", "matplotlib")
# distribution, what it is for
_OPTIONAL = (
    ("pyg-lib", "batch=neighbour (NeighborLoader)"),
    ("hydra-joblib-launcher", "hydra/launcher=joblib: a sweep in parallel processes"),
    ("hydra-submitit-launcher", "hydra/launcher=submitit_slurm: a sweep on a cluster"),
    ("hydra-ray-launcher", "hydra/launcher=ray: a sweep on Ray"),
    ("hydra-optuna-sweeper", "hydra/sweeper=optuna: a search instead of a grid"),
    ("tensorboard", "logger=tensorboard"),
    ("mlflow", "logger=mlflow"),
    ("wandb", "logger=wandb"),
)


def main(argv: list[str]) -> int:
    """Print the report; 1 if the reversible gradients are wrong on a device."""
    parser = Parser(prog="deepgnn doctor", description=__doc__)
    parser.add_argument("--device", default="auto", help="where to check the gradients: auto, cpu, cuda, cuda:1")
    device = _device(parser.parse_args(argv).device)
    sections = {"versions": _versions(), "devices": _devices(), "optional parts": _optional(), "data": _data()}
    for title, lines in sections.items():
        print(title)
        for name, text in lines:
            print(f"  {name:<26}{text}")
    print(f"reversible gradients against stored ones, on {device}", flush=True)
    check = reversible_selfcheck(device)
    for name, text in _findings(check):
        print(f"  {name:<26}{text}")
    return 0 if check.ok else 1


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name} is not one of auto, cpu, cuda, cuda:N") from error
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(f"--device {name}: this machine has {count} CUDA devices; use --device cpu")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device {name} is not one of auto, cpu, cuda, cuda:N")
    return device


def _versions() -> Iterator[tuple[str, str]]:
    sha = git_sha()
    yield "deepgnn", __version__ + (f" ({sha})" if sha else "")
    yield "python", f"{platform.python_version()} ({sys.executable})"
    for name in _CORE:
        yield name, package_version(name) or "missing: reinstall deepgnn"


def _devices() -> Iterator[tuple[str, str]]:
    memory = psutil.virtual_memory()
    free = f"{memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB free"
    yield "cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads used, {free}"
    for index in range(torch.cuda.device_count()):
        available, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield f"cuda:{index}", f"{name}, {available / _GIB:.1f} of {total / _GIB:.1f} GiB free"
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        yield "cuda", f"none (this torch is {built})"


def _optional() -> Iterator[tuple[str, str]]:
    for name, purpose in _OPTIONAL:
        found = package_version(name)
        unusable = found and name == "pyg-lib" and importlib.util.find_spec("pyg_lib") is None
        yield name, f"{found if found and not unusable else 'not installed':<16}{purpose}"


def _data() -> Iterator[tuple[str, str]]:
    root = default_root()
    there = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    yield "root", f"{root} ({'$DEEPGNN_DATA' if os.environ.get('DEEPGNN_DATA') else 'the default'})"
    yield "downloaded", ", ".join(there) or "nothing yet (cora comes with the package)"


def _findings(check: SelfCheck) -> Iterator[tuple[str, str]]:
    yield "float64", f"relative error {check.float64_error:.1e} at {check.layers} layers (at most 1e-9)"
    yield "float32", f"relative error {check.float32_error:.1e} (at most 1e-2)"
    yield "residual.exact=true", f"relative error {check.exact_error:.1e} (exactly 0)"
    yield "step time", f"{check.step_time_ratio:.2f} × stored activations (1.33 to 1.5 are expected on large graphs)"
    yield "verdict", "ok" if check.ok else "WRONG: use residual.store_activations=true here, and report this"
