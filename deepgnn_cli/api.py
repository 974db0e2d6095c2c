"""The same runs without a shell."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from itertools import product
from os import PathLike, fspath
from pathlib import Path

import pandas as pd

from deepgnn_cli.config.own_conv import with_own_conv
from deepgnn_cli.runfiles.record import COLUMNS

_MAPPINGS = ("dataset", "reported", "arguments")  # keys whose value may itself be a dict


def experiment(
    overrides: Mapping[str, object] | None = None,
    *,
    variants: Sequence[Mapping[str, object]] = (),
    config_dir: str | PathLike[str] | Sequence[str | PathLike[str]] = (),
    **keys: object,
) -> pd.DataFrame:
    """Run every combination of the values given, and return a row each, as in `result.csv`.

        rows = experiment(dataset="cora", model="gcnii", layers=[2, 64], seed=[0, 1])
        rows = experiment(dataset=data, model="gcn", conv=MyConv, trainer={"max_epochs": 50})

    Args:
        overrides: dotted keys, which Python cannot write as names: `{"optimizer.lr": 0.01}`.
        variants: further keys that go together: each combination is run once with each of them,
            `variants=[{}, {"norm": "pair"}, {"model": "gcnii", "drop": {"dropout": 0.6}}]`.
        config_dir: a folder of your own options, or several, as `--config-dir` on the command line: with
            `dataset/mine.yaml` in it, `experiment(dataset="mine", config_dir="options")`.
        **keys: groups and root keys. A list (or tuple, range) is swept; the order is that of the arguments. A dict
            stands for the keys below: `trainer={"max_epochs": 50}`. `conv` may also be a class of PyG's or a function
            `channels -> module`, its settings by `functools.partial`; `dataset` a graph: a PyG `Data`, a dict of
            tensors, a NetworkX or a DGL graph, kept below `output_dir`. (Several graphs that make one data set are a
            file, dataset="pyg".)

    Raises:
        ValueError: a wrong key or value, before anything runs.
        KeyboardInterrupt: a run was interrupted; it is saved.
    """
    from deepgnn_cli.config.compose import searched
    from deepgnn_cli.config.validate import checked
    from deepgnn_cli.runs.plan import plan_for
    from deepgnn_cli.runs.run import run
    from deepgnn_cli.training.errors import GPU_LOST, gpu_is_lost

    own = searched(_folders(config_dir))
    # All of them are checked before the first runs.
    configs = [
        checked([*words, *own])
        for variant in variants or [{}]
        for words in _combinations({**keys, **(overrides or {})}, variant)
    ]
    rows = []
    for config in configs:
        plan = plan_for(config, skip=bool(config.values["skip_finished"]))
        if plan.finished is not None:
            rows.append(_read(plan.finished))
            continue
        outcome = run(plan, alone=len(configs) == 1)
        rows.append(plan.row(outcome).as_dict())
        if outcome.status == "interrupted":
            raise KeyboardInterrupt
        if gpu_is_lost():
            print(f"deepgnn: {GPU_LOST}", file=sys.stderr)
            break
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _folders(given: str | PathLike[str] | Sequence[str | PathLike[str]]) -> list[Path]:
    folders = [Path(folder) for folder in ([given] if isinstance(given, str | PathLike) else given)]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"config_dir={str(folder)!r}: there is no such folder")
    return folders


def _combinations(given: Mapping[str, object], variant: Mapping[str, object]) -> Iterator[list[str]]:
    """The overrides of every combination of the values, the variant's in place of those of the same key."""
    flat = dict(_flat(given)) | dict(_flat(variant))
    # A group's option comes before the keys that change it.
    ordered = sorted(flat, key=lambda key: "." in key)
    folder = Path(str(flat.get("output_dir", "outputs"))) / "own"
    axes = [[_words(key, value, folder) for value in _values(flat[key])] for key in ordered]
    for each in product(*axes):
        yield with_own_conv([word for words in each for word in words])


def _flat(given: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in given.items():
        if isinstance(value, Mapping) and key not in _MAPPINGS:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _values(value: object) -> Iterable[object]:
    return value if isinstance(value, list | tuple | range) else [value]


def _words(key: str, value: object, folder: Path) -> list[str]:
    """The overrides that say `key` is `value`; a conv may be a class or a function, a data set a graph."""
    if key == "dataset" and not isinstance(value, str):
        from deepgnn_cli.data.live_graph import store

        return ["dataset=pyg", f"dataset.path={_word(store(value, folder))}"]
    if key != "conv" or not callable(value):
        return [f"{key}={_word(value)}"]
    made = value.func if isinstance(value, partial) else value
    module, name = getattr(made, "__module__", None), getattr(made, "__qualname__", "<it>")
    if getattr(import_module(str(module)), name, None) is not made or (isinstance(value, partial) and value.args):
        raise ValueError(
            f"conv={name}: a conv needs a name that can be imported; define it at the top of a module and give its "
            "settings as keywords (functools.partial)"
        )
    settings = value.keywords if isinstance(value, partial) else {}
    node = {"_target_": f"{module}.{name}", **settings}
    return [f"model.conv.{name}={_word(setting)}" for name, setting in node.items()]


def _word(value: object) -> str:
    """The value as Hydra reads it from a command line; a string is that string, whatever characters it has."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str | PathLike):
        text = re.sub(r"(\\*)\$\{", r"\1\1\\${", fspath(value))  # no interpolation of OmegaConf's
        # In quotes a backslash is one, but in front of a quote.
        return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text) + "'"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_word(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_word, value)) + "]"
    return str(value)


def _read(folder: Path) -> dict[str, object]:
    frame = pd.read_csv(folder / "result.csv", keep_default_na=False, na_values=[""])
    return {str(key): value for key, value in frame.iloc[0].to_dict().items()}
