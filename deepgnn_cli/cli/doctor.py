"""`deepgnn doctor`: what is installed, what the machine has, and whether reversible gradients are right on it."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median

import psutil
import torch
from torch import Tensor, nn

from deepgnn_cli import __version__
from deepgnn_cli.cli.terminal import Parser
from deepgnn_cli.data.download import default_root
from deepgnn_cli.measure.timing import StepTimer
from deepgnn_cli.nn import convs, norms
from deepgnn_cli.nn.adjacency import Adjacency
from deepgnn_cli.nn.layer import Branches
from deepgnn_cli.nn.reversible.stack import ReversibleStack
from deepgnn_cli.runfiles.environment import git_sha, package_version

_GIB = 2**30
# Of the check: N nodes, E edges, C channels, G groups, L layers.
_NODES, _EDGES, _CHANNELS, _GROUPS, _LAYERS = 1_000, 8_000, 64, 2, 64
_ROUNDS = 3
_CORE = ("torch", "torch-geometric", "ogb", "hydra-core", "omegaconf", "tqdm", "pandas", "numpy", "scipy", "matplotlib")
# distribution, what it is for
_OPTIONAL = (
    ("pyg-lib", "batch=neighbour (NeighborLoader)"),
    ("hydra-joblib-launcher", "hydra/launcher=joblib: a sweep in parallel processes"),
    ("hydra-submitit-launcher", "hydra/launcher=submitit_slurm: a sweep on a cluster"),
    ("hydra-ray-launcher", "hydra/launcher=ray: a sweep on Ray"),
    ("optuna", "deepgnn tune: a search instead of a grid"),
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
    limit = f"at most {check.exact_limit:g}" if check.exact_limit else "exactly 0"
    yield "residual.exact=true", f"relative error {check.exact_error:.1e} ({limit})"
    yield "exact inversion", "to the last bit" if check.inverted else "NOT to the last bit"
    yield "step time", f"{check.step_time_ratio:.2f} × stored activations (1.33 to 1.5 are expected on large graphs)"
    yield "verdict", "ok" if check.ok else "WRONG: use residual.store_activations=true here, and report this"


@dataclass(frozen=True)
class SelfCheck:
    """Reversible gradients against stored ones: |difference| / |stored|, all gradients taken as one vector.

    `inverted`: an exact stack finds its input again to the last bit. `exact_limit` is 0 where gradients are added up in
    one order only, on a CPU; a GPU adds up in any, also those of one network twice. `step_time_ratio` is the reversible
    step's time over the stored one's, each the median of a few.
    """

    layers: int
    float64_error: float
    float32_error: float
    exact_error: float
    step_time_ratio: float
    inverted: bool = True
    exact_limit: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the gradients agree as far as the arithmetic lets them."""
        exact = self.inverted and self.exact_error <= self.exact_limit
        return self.float64_error < 1e-9 and self.float32_error < 1e-2 and exact


def reversible_selfcheck(device: torch.device) -> SelfCheck:
    """Compare a reversible GCN (LayerNorm, dropout) with its stored twin on `device`; takes a few seconds.

    The program's random stream stands afterwards where it stood.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        errors = {
            (dtype, exact): _error(device, dtype, exact)
            for dtype, exact in ((torch.float64, False), (torch.float32, False), (torch.float32, True))
        }
        return SelfCheck(
            layers=_LAYERS,
            float64_error=errors[torch.float64, False],
            float32_error=errors[torch.float32, False],
            exact_error=errors[torch.float32, True],
            step_time_ratio=_ratio(device),
            inverted=_inverted(device),
            exact_limit=0.0 if device.type == "cpu" else 1e-4,
        )


def _error(device: torch.device, dtype: torch.dtype, exact: bool) -> float:
    expected = _gradients(*_problem(device, dtype, exact=exact, store_activations=True))
    found = _gradients(*_problem(device, dtype, exact=exact, store_activations=False))
    return float((found - expected).norm() / expected.norm())


@torch.no_grad()
def _inverted(device: torch.device) -> bool:
    """Whether an exact stack finds its input, which is put on the grid first, again to the last bit."""
    stack, x, graph = _problem(device, torch.float32, exact=True, store_activations=False)
    stack.eval()
    once = stack.inverse(stack(x, graph), graph)
    return torch.equal(stack.inverse(stack(once, graph), graph), once)


def _ratio(device: torch.device) -> float:
    problems = [_problem(device, torch.float32, exact=False, store_activations=stored) for stored in (False, True)]
    timer = StepTimer(device)
    for problem in problems * (_ROUNDS + 1):
        with timer:
            _gradients(*problem)
    seconds = timer.seconds()[2:]  # the first step of each warms up
    return median(seconds[0::2]) / median(seconds[1::2])


def _problem(
    device: torch.device, dtype: torch.dtype, *, exact: bool, store_activations: bool
) -> tuple[ReversibleStack, Tensor, Adjacency]:
    """Always the same weights, features [N, C] and graph."""
    torch.manual_seed(0)
    make = Branches(partial(convs.gcn, bias=True), norms.layer, _CHANNELS // _GROUPS, "relu", 0.2)
    branches = (make(_CHANNELS // _GROUPS, layer) for layer in range(1, _LAYERS + 1) for _ in range(_GROUPS))
    stack = ReversibleStack(nn.ModuleList(branches), _GROUPS, exact=exact, store_activations=store_activations)
    x, edge_index = torch.randn(_NODES, _CHANNELS), torch.randint(0, _NODES, (2, _EDGES))
    return stack.to(device, dtype), x.to(device, dtype), Adjacency(edge_index.to(device), _NODES)


def _gradients(stack: ReversibleStack, x: Tensor, graph: Adjacency) -> Tensor:
    """One step's gradients of the input and of all weights, as one vector."""
    torch.manual_seed(1)
    leaf = x.clone().requires_grad_()
    found = torch.autograd.grad(stack(leaf, graph).square().mean(), [leaf, *stack.parameters()])
    return torch.cat([gradient.flatten() for gradient in found])
