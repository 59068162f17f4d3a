"""A cell's identity: what defines its numbers, as a hash, whatever the code looks like today."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Where files lie, how often something is looked at, and what stands elsewhere too (a network's width is model.width): none of it
# changes what a run measures.
_NOT_HASHED = frozenset(
    {
        "child._target_",
        "data.root",
        "model.checkpoint_activations",
        "protocol.width",
        "protocol.log_every",
        "protocol.evaluate_every",
    }
)

# An identity must not hang on where a class lives in the code: module today → name that rows were recorded under
_RECORDED_MODULES = {
    "plainres.networks.resnet": "plainres.network",
    "plainres.networks.blocks": "plainres.blocks",
    "plainres.networks.classics": "plainres.classics",
}


def cell_name(arm: str, depth: int, seed: int) -> str:
    """Name of a cell and of its folder."""
    return f"{arm}-{depth}-seed{seed}"


def cell_config(config: Mapping[str, Any], arm: str) -> dict[str, Any]:
    """What defines the numbers of a cell, out of its resolved configuration; an option left null is as if it did not exist.

    So an option added later leaves the hash of older cells as it was, as long as null means "as before".
    """
    chosen = {
        "arm": arm,
        **{key: config[key] for key in ("seed", "model", "data")},
        # the name of the results folder stands here, because rows were recorded with it
        "protocol": {**config["protocol"], "name": config["folder"]},
        "child": config.get("child"),
    }

    def kept(node: Mapping[str, Any], path: str) -> dict[str, Any]:
        result = {}
        for key, value in sorted(node.items()):
            name = f"{path}{key}"
            if name in _NOT_HASHED or value is None:
                continue
            if key == "_target_":
                module, _, target = value.rpartition(".")
                value = f"{_RECORDED_MODULES.get(module, module)}.{target}"
            result[key] = kept(value, f"{name}.") if isinstance(value, Mapping) else value
        return result

    return kept(chosen, "")


def shared_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What all cells of one results folder share: a `cell_config` without arm, depth, shortcut, seed and parent."""
    shared = {key: value for key, value in config.items() if key not in ("arm", "seed", "parent")}
    shared["model"] = {
        key: value for key, value in config["model"].items() if key not in ("depth", "shortcut")
    }
    return shared


def config_hash(config: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of a `cell_config`."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def config_differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[str]:
    """`name: old → new` for every value in which two `cell_config`s differ."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += config_differences(before, after, f"{path}{key}.")
        elif before != after:
            found.append(f"{path}{key}: {before} → {after}")
    return found
