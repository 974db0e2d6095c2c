"""Everything that only a GPU can tell, in one command: what must hold, and what it costs.

    python scripts/check_gpu.py --out docs/gpu.md

Prints a line a law, with what was expected, and writes the tables with the GPU's name, and all numbers beside them
(gpu.json). An interrupted check goes on where it was; a finished one is done anew. Needs torch 2.6 or later, PyG and
the folders `scripts` and `deepgnn_cli`; no Hydra, no OGB, no data set.
Exit status: 0 all holds, 1 something does not, 2 no CUDA device. `--device cpu` tries the script out, on small sizes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))


class Limits(ModuleType):
    """In place of `annotated_types`: ranges in builders' signatures, which nothing reads here."""

    def __getattr__(self, name: str) -> Callable[..., object]:
        """Any of them."""
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *limits, **more: (name, limits)


try:
    import annotated_types  # noqa: F401
except ModuleNotFoundError:
    sys.modules["annotated_types"] = Limits("annotated_types")

import gpu_laws  # noqa: E402
import gpu_training  # noqa: E402
from gpu_findings import Finding, Machine, Section  # noqa: E402

from deepgnn_cli.runfiles.files import write_text  # noqa: E402
from deepgnn_cli.training.errors import GPU_LOST, gpu_is_lost  # noqa: E402

SECTIONS: dict[str, Callable[[Machine], Section]] = {
    "as_on_cpu": gpu_training.as_on_cpu,
    "reversible": gpu_laws.reversible,
    "exact": gpu_laws.exact,
    "autocast": gpu_laws.autocast,
    "phases": gpu_laws.phases,
    "oom": gpu_laws.oom,
    "second_device": gpu_laws.second_device,
    "resume": gpu_training.resume,
    "waits": gpu_training.waits,
    "captured": gpu_training.captured,
    "rivals": gpu_training.rivals,
    "depth": gpu_laws.depth,
}
SECONDS = 480
"""What the whole check may take on one GPU of the H100's class."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"), help="cpu: try the script out")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), help="these sections, also those that are done")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu.md"))
    return parser.parse_args()


def main() -> int:
    """Do what is not done yet, and write the tables."""
    args = arguments()
    if args.device.type == "cuda" and not torch.cuda.is_available():
        print("check_gpu: this machine has no CUDA device (or torch is built without CUDA)", file=sys.stderr)
        return 2
    machine = Machine.of(args.device)
    numbers = args.out.with_suffix(".json")
    done = _read(numbers, machine)
    if not args.only and done.keys() == SECTIONS.keys():
        done = {}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    print(f"{machine.name}, torch {torch.__version__}", flush=True)
    for name in args.only or [name for name in SECTIONS if name not in done]:
        print(f"== {name}", flush=True)
        done[name] = _attempt(name, machine)
        for finding in done[name].findings:
            print(finding.line(), flush=True)
        write_text(numbers, json.dumps(_key(machine) | {"sections": {k: asdict(s) for k, s in done.items()}}, indent=1))
        write_text(args.out, _report(done, machine))
        if gpu_is_lost():
            print(f"check_gpu: {GPU_LOST}", file=sys.stderr)
            return 1
    print(_whole(done, machine).line(), f"wrote {args.out}", sep="\n")
    return int(any(finding.holds is False for section in done.values() for finding in section.findings))


def _attempt(name: str, machine: Machine) -> Section:
    """A section that ends in an error has failed; the others still run."""
    start = time.perf_counter()
    try:
        found = SECTIONS[name](machine)
    except Exception as error:
        traceback.print_exc()
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        traceback.clear_frames(error.__traceback__)
        found = Section([Finding(name, text, "no error", False)])
    return replace(found, seconds=time.perf_counter() - start)


def _key(machine: Machine) -> dict[str, str]:
    return {"device": machine.name, "torch": torch.__version__}


def _read(numbers: Path, machine: Machine) -> dict[str, Section]:
    """What a check on this machine has done."""
    known = json.loads(numbers.read_text()) if numbers.is_file() else {}
    if {name: known.get(name) for name in _key(machine)} != _key(machine):
        return {}
    return {name: Section.read(values) for name, values in known["sections"].items() if name in SECTIONS}


def _whole(done: dict[str, Section], machine: Machine) -> Finding:
    """How long all sections took together."""
    seconds = sum(section.seconds for section in done.values())
    holds = seconds < SECONDS if machine.on_gpu and done.keys() == SECTIONS.keys() else None
    check, expected = f"seconds of {len(done)} of {len(SECTIONS)} sections", f"below {SECONDS} on an H100-class GPU"
    return Finding(check, f"{seconds:.0f}", expected, holds)


def _report(done: dict[str, Section], machine: Machine) -> str:
    title = f"# Checked on {machine.name}"
    how = f"torch {torch.__version__}; `python scripts/check_gpu.py{'' if machine.on_gpu else ' --device cpu'}`"
    lines = [title, "", how, "", *Section([_whole(done, machine)]).markdown()]
    for name in (name for name in SECTIONS if name in done):
        described = (SECTIONS[name].__doc__ or "").splitlines()[0]
        lines += [f"## {name}", "", f"{described} Took {done[name].seconds:.0f} s.", "", *done[name].markdown()]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
