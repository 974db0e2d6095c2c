"""The words that put a conv of the user's own, or of PyG's, in place of a model's.

    model.conv._target_=torch_geometric.nn.GATConv model.conv.heads=4
    conv._target_=torch_geometric.nn.GATConv conv.heads=4
    conv=torch_geometric.nn.GATConv

say the same; of the conv that it replaces no key is left.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_KEY = re.compile(r"(?:\+{0,2}|~)(?:model\.)?conv\.(?P<name>\w+)(?:=(?P<value>.*))?", re.S)
_CLASS = re.compile(r"\+?conv=(?P<value>['\"]?\w+(?:\.\w+)+['\"]?(?:,\w+(?:\.\w+)+)*)")
DELETED = "~model.conv"


def with_own_conv(words: Sequence[str]) -> list[str]:
    """The words as Hydra reads them, the conv's behind the others; words that name no class as they are.

    `conv.KEY` is `model.conv.KEY` in any case.
    """
    keys: dict[str, str] = {}
    others = []
    for word in words:
        if found := _CLASS.fullmatch(word):
            keys["_target_"] = found["value"]
        elif found := _KEY.fullmatch(word):
            keys[found["name"]] = word if found["value"] is None else found["value"]
        elif word != DELETED:
            others.append(word)
    if "_target_" not in keys:
        return [re.sub(r"^(\+{0,2}|~)conv\.", r"\1model.conv.", word) for word in words]
    keys = {"_target_": keys.pop("_target_"), "_partial_": "true"} | {
        name: value for name, value in keys.items() if not value.startswith("~")
    }
    return [*others, DELETED, *(f"+model.conv.{name}={value}" for name, value in keys.items())]
