"""A cell's identity: the part of its configuration that defines its numbers, and its hash."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# None of these changes what a run measures: where files lie, how often something is logged, and
# what the identity has under another name (a network's width is model.width)
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

# An identity must not depend on where a class is defined: module today → name in recorded rows
_RECORDED_MODULES = {
    "plainres.networks.resnet": "plainres.network",
    "plainres.networks.blocks": "plainres.blocks",
    "plainres.networks.classics": "plainres.classics",
}


def cell_name(arm: str, depth: int, seed: int) -> str:
    """Name of a cell and of its folder."""
    return f"{arm}-{depth}-seed{seed}"


def cell_config(config: Mapping[str, Any], arm: str) -> dict[str, Any]:
    """The part of a resolved configuration that defines the numbers of a cell.

    Options that are null are left out. So a new option does not change the hash of older cells, as
    long as its null means "as before".
    """
    defining = {
        "arm": arm,
        **{key: config[key] for key in ("seed", "model", "data")},
        # The name of the results folder, because committed rows were recorded with it
        "protocol": {**config["protocol"], "name": config.get("recorded_name") or config["folder"]},
        "child": config.get("child"),
        # Each thread has sums of its own; all committed cells of a CPU but `own` had one
        "threads": None if config.get("threads") == 1 else config.get("threads"),
        "devices": None if config.get("devices") == 1 else config.get("devices"),
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

    return kept(defining, "")


def shared_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What all cells of a results folder share.

    That is a `cell_config` without arm, depth, shortcut, seed and parent.
    """
    shared = {key: value for key, value in config.items() if key not in ("arm", "seed", "parent")}
    shared["model"] = {
        key: value for key, value in config["model"].items() if key not in ("depth", "shortcut")
    }
    return shared


def config_hash(config: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of a `cell_config`."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def row_hash(shared: Mapping[str, Any], record: Any) -> str:
    """The config_hash that a record has in a results folder, computed from what is committed.

    Args:
        shared: the folder's config.json, a `shared_config`.
        record: a plainres.records.schema.Record.
    """
    model = {**shared["model"], "depth": record.depth}
    if record.shortcut:
        model["shortcut"] = record.shortcut
    config = {**shared, "arm": record.arm, "seed": record.seed, "model": model}
    if record.parent:
        config["parent"] = record.parent
    return config_hash(config)


def config_differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[str]:
    """`name: old → new` for every value in which two `cell_config`s differ."""
    differences = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            differences += config_differences(before, after, f"{path}{key}.")
        elif before != after:
            differences.append(f"{path}{key}: {before} → {after}")
    return differences
