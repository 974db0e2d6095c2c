"""What is wrong with a configuration, said in one line: the value, the rule, the remedy.

`check` runs before any data or torch is loaded or any file written. What a value may be is declared where it is used
(`schema`, the builders' signatures); here is what holds the values to it. Everything here is the user's mistake: a
`ValueError`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf.errors import OmegaConfBaseException

from deepgnn_cli.config.combinations import refuse
from deepgnn_cli.config.compose import RunConfig, compose
from deepgnn_cli.config.explain import explain, leaves, shown, unknown_key
from deepgnn_cli.config.schema import PLAIN, ROOT, Root, declared
from deepgnn_cli.rules.check import violation
from deepgnn_cli.rules.metrics import is_fraction
from deepgnn_cli.rules.signatures import Signature, signature_of
from deepgnn_cli.rules.tasks import METRICS
from deepgnn_cli.rules.types import Share

# What the program itself gives to a builder, and no configuration.
_SUPPLIED = {
    "dataset": ("root", "seed"),
    "batch": ("seed", "rank", "world"),
    "model": ("layers", "hidden", "norm", "residual", "drop", "checkpoint_every"),
    "model.conv": ("in_channels", "edge_dim"),
    "residual": ("in_channels",),
}


def checked(overrides: Sequence[str]) -> RunConfig:
    """The configuration that the overrides give, composed and checked.

    Raises:
        ValueError: one line that says what is wrong with them.
    """
    try:
        config = RunConfig.of(compose(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error, overrides)) from None
    _count_processes(config.values)
    check(config.values, config.choices)
    return config


def _count_processes(values: Root) -> None:
    """Under `torchrun` the run has its processes already: the configuration says how many, as without it."""
    world = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if world == 1 or not isinstance(values.get("trainer"), dict):
        return
    if values["trainer"].get("processes") not in (1, world):
        raise ValueError(
            f"trainer.processes={values['trainer']['processes']}, but torchrun has started {world}; leave it out"
        )
    values["trainer"]["processes"] = world


def check(values: Root, chosen: dict[str, str]) -> None:
    """Refuse a configuration that cannot work.

    Args:
        values: as `config.resolved` gives it.
        chosen: as `config.choices` gives it.

    Raises:
        ValueError: one line saying which value, which rule, and the remedy.
    """
    keys = dict(leaves(values))
    unknown = [key for key in values if key not in ROOT]
    unknown += [key for key in keys if key.partition(".")[0] in PLAIN and declared(key) is None]
    if unknown:
        raise ValueError(unknown_key(unknown[0], [key for key in (*ROOT, *keys) if key not in unknown]))
    for key, value in keys.items():
        _hold(key, declared(key), value)
    _check_reported(values.get("reported"))
    _check_skip(values["skip_finished"])
    _check_output(values["output_dir"])
    _check_device(str(values["device"]))
    context = {"seed": values["seed"], "world": values["trainer"]["processes"]}
    refuse(values, chosen)
    for path, node in _targets(values):
        check_node(path, node, context)
    _check_processes(str(values["device"]), values["trainer"]["processes"])


def _hold(key: str, hint: object, value: object) -> None:
    if hint is not None and (problem := violation(hint, value)):
        raise ValueError(f"{key}={shown(value)}: {key} {problem}")


def _check_reported(reported: object) -> None:
    if reported is None:
        return
    if not (isinstance(reported, dict) and {"value", "source"} <= set(reported)):
        raise ValueError(f"reported={reported}: give reported.value and reported.source, or null")
    metric = reported.get("metric")
    if metric is not None and not (isinstance(metric, str) and metric in METRICS):
        raise ValueError(f"reported.metric={shown(metric)}: must be one of {', '.join(METRICS)}, or left out")
    if not is_fraction(metric):
        return _hold("reported.value", float, reported["value"])
    if problem := violation(Share, reported["value"]):
        raise ValueError(f"reported.value={shown(reported['value'])}: reported.value, a fraction, {problem}")


def _check_skip(skip: object) -> None:
    if skip is None or isinstance(skip, bool):
        return
    for folder in skip if isinstance(skip, list) else [skip]:
        if not isinstance(folder, str) or not os.path.isdir(folder):
            raise ValueError(
                f"skip_finished={shown(skip)}: must be true, false, null, or folders of results, "
                f"and there is no folder {folder}"
            )


def _check_output(folder: str) -> None:
    """The nearest folder that is there must take what a run writes."""
    there = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if os.path.lexists(path))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "not a folder" if not there.is_dir() else "not to be written to"
        raise ValueError(f"output_dir={folder}: {there} is {what}; name another")


def _check_device(device: str) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError(f"device={device}: must be auto, cpu, cuda or cuda:N")
    if device.startswith("cuda"):
        import torch

        count = torch.cuda.device_count()
        if int(device.partition(":")[2] or 0) >= count:
            raise ValueError(
                f"device={device}: this machine shows torch {count} CUDA device(s); use device=auto or cpu"
            )


def _targets(node: object, path: str = "") -> Iterator[tuple[str, dict[str, object]]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, child in node.items():
            yield from _targets(child, f"{path}.{key}" if path else key)


def check_node(path: str, node: Mapping[str, object], context: Mapping[str, object]) -> None:
    """The keys of a node must be parameters of what it names, and their values what these allow."""
    signature = located(path, node["_target_"])
    if not isinstance(node.get("_partial_", True), bool):
        raise ValueError(f"{path}._partial_={shown(node['_partial_'])}: must be true or false")
    supplied = _SUPPLIED.get(path, ())
    own = str(node["_target_"]).startswith("deepgnn_cli.")
    names = [name for name in signature.parameters if not (own and name in supplied)]
    given = {key: value for key, value in node.items() if not key.startswith("_")}
    for key, value in given.items():
        if key in names:
            _hold(f"{path}.{key}", signature.parameters[key].hint, value)
        elif not signature.takes_any:
            raise ValueError(unknown_key(f"{path}.{key}", [f"{path}.{name}" for name in names]))
    for name in names:
        if signature.parameters[name].required and name not in given:
            raise ValueError(f"{path}.{name} is missing; give it a value")
    for relation in signature.relations:
        taken = inspect.signature(relation).parameters
        relation(**{key: value for key, value in {**context, **given}.items() if key in taken})
    for package, remedy in signature.packages.items():
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"{path} needs the package {package}, which is not installed; {remedy}")


def located(path: str, target: object) -> Signature:
    """The signature of the function or class that `target` (a dotted path) names, for the config node at `path`."""
    if not isinstance(target, str):
        raise ValueError(f"{path}._target_={shown(target)}: must be the dotted name of a function or class")
    module, _, name = target.rpartition(".")
    try:
        if not target.startswith("deepgnn_cli."):
            getattr(importlib.import_module(module), name)
            instantiate({"_target_": target, "_partial_": True})  # Hydra refuses some, and what cannot be called
        return signature_of(target)
    except InstantiationException as error:
        raise ValueError(f"{path}._target_={target}: {str(error).splitlines()[0]}") from None
    except (LookupError, ImportError, AttributeError, ValueError) as error:
        script = "it stood in the script or notebook that ran; define it in a module, which others can import"
        remedy = script if module == "__main__" else "is its package installed or on PYTHONPATH?"
        raise ValueError(f"{path}._target_={target} cannot be imported ({error}); {remedy}") from None


def _check_processes(device: str, processes: int) -> None:
    """Every process of a run on GPUs has its own."""
    if processes == 1 or device == "cpu":
        return
    import torch

    count = torch.cuda.device_count()
    if device.startswith("cuda:"):
        raise ValueError(f"device={device} is one GPU for trainer.processes={processes}; say device=cuda or device=cpu")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    if (device == "cuda" or count) and here > count:
        raise ValueError(
            f"trainer.processes={processes} wants a GPU each, and torch sees {count}; use device=cpu or fewer processes"
        )
