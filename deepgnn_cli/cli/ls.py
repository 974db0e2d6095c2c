"""`deepgnn ls`: what there is to choose from, one line each; of one option every key; of a data set its graph."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from deepgnn_cli.cli.terminal import Parser
from deepgnn_cli.config.groups import LISTED, notes, options


def main(argv: list[str]) -> int:
    """Print the groups, the options of one, or the keys of an option."""
    parser = Parser(prog="deepgnn ls", description="The options of each config group; of one NAME every key.")
    parser.add_argument("group", nargs="?", metavar="GROUP", help="dataset, model, norm, residual, experiment, …")
    parser.add_argument("name", nargs="?", metavar="NAME", help="an option: type, range, default, meaning of its keys")
    parser.add_argument("--config-dir", type=Path, action="append", default=[], help="a folder of your own options")
    arguments = parser.parse_args(argv)
    for folder in arguments.config_dir:
        if not folder.is_dir():
            raise ValueError(f"--config-dir {folder}: there is no such folder")
    if arguments.group is not None and arguments.group not in LISTED:
        raise ValueError(f"there is no group '{arguments.group}'{_near(arguments.group, LISTED)}")
    if arguments.name is not None:
        _show(arguments.group, arguments.name, arguments.config_dir)
        if arguments.group == "dataset":
            _show_graph(arguments.name, arguments.config_dir)
        return 0
    for group in [arguments.group] if arguments.group else LISTED:
        print(f"{group}=")
        for name, line in options(group, arguments.config_dir).items():
            print(f"  {name:<20} {line}")
    return 0


def _near(word: str, known: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean '{near[0]}'?" if near else "; there are " + ", ".join(known)


def _show(group: str, name: str, folders: Sequence[Path]) -> None:
    known = options(group, folders)
    if name not in known:
        raise ValueError(f"{group}={name}: there is no such {group}{_near(name, list(known))}")
    if group == "search":
        from deepgnn_cli.config.search import read_space

        print(f"{group}={name}\n  {known[name]}\n")
        for searched, spec in read_space(name, folders).items():
            print(f"  {searched}={spec}")
        return
    from deepgnn_cli.config.describe import keys_of, recipe_of

    own, changed = keys_of(group, name, folders)
    told = [known[name], notes(group, name, folders)]
    if group == "experiment":
        parts, score = recipe_of(name, folders)
        told += [f"chooses {parts}", f"reported: {score}" if score else "reported: nothing"]
    print(f"{group}={name}")
    for line in filter(None, told):
        print(textwrap.fill(line, 98, initial_indent="  ", subsequent_indent="  "))
    for title, keys in (("keys", own), (f"what else {group}={name} sets", changed)):
        if keys:
            print(f"\n{title}")
        for key in keys:
            print(f"  {key.name}={key.default}" + f"   {key.allowed}" * bool(key.allowed))
            if key.meaning:
                print(textwrap.fill(key.meaning, 98, initial_indent=" " * 6, subsequent_indent=" " * 6))


def _show_graph(name: str, folders: Sequence[Path]) -> None:
    """What the graph is like, where its data is there: nothing is fetched."""
    from deepgnn_cli.config.compose import searched
    from deepgnn_cli.config.validate import checked

    try:
        config = checked([*searched(folders), f"dataset={name}"])
    except ValueError:  # a graph of one's own, of which the file is not said
        return
    sys.stdout.flush()
    from torch import device

    from deepgnn_cli.data.download import DataError, default_root, nothing_fetched
    from deepgnn_cli.data.structure.description import described, lines
    from deepgnn_cli.runs.build import load_inputs

    root = config.values["data_dir"] or default_root()
    print("\ngraph")
    try:
        with nothing_fetched():
            graph = load_inputs(config.values, device("cpu")).whole
    except DataError as error:
        print(f"  not there yet ({type(error).__name__}); `deepgnn train dataset={name}` fetches it")
        return
    for line in lines(described(graph, Path(root) / "structure")):
        print(f"  {line}")
