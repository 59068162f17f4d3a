"""Each room imports only what it may, and no modules import each other in a circle.

Imports inside functions count too.
"""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest
from composing import ROOT

NOT_IN_RECORDS = {"torch", "torchvision", "pytorch_lightning", "hydra", "omegaconf"}
NOT_IN_EXPERIMENTS = {"torch", "torchvision", "pytorch_lightning", "hydra"}
RUN_CELLS = ("experiments.bench", "experiments.torture")
# Modules of experiments/bench that only read its tables
BENCH_READERS = {
    "experiments.bench",
    *(f"experiments.bench.{name}" for name in ("parts", "tables", "figures")),
}

# Room → the rooms that it may import beside itself
RECORDS, JUDGING, REPORTING = "plainres.records", "experiments.judging", "experiments.reporting"
ROOMS: dict[str, tuple[str, ...]] = {
    RECORDS: (),
    "plainres.networks": (),
    "plainres.data": (RECORDS,),
    "plainres.training": ("plainres.networks", "plainres.data", RECORDS),
}
ROOMS["plainres.run"] = tuple(ROOMS)
ROOMS["plainres.instruments"] = tuple(ROOMS)
ROOMS["hydra_plugins.plainres_launcher"] = ("plainres.run",)
ROOMS |= {
    JUDGING: (RECORDS,),
    REPORTING: (JUDGING, RECORDS),
    "experiments.bench": (JUDGING, REPORTING, "plainres"),
    "experiments.torture": (REPORTING, "plainres"),
    "experiments.grid": (),
    "experiments.theory": (),
    "experiments.options": ("experiments.grid", RECORDS),
    "experiments.processes": ("experiments.grid", RECORDS),
    "experiments.blocks": ("experiments",),  # lazily
    "experiments.__main__": ("experiments", "plainres"),  # the latter lazily
}
# What a folder of experiments may import
QUESTION = (JUDGING, REPORTING, RECORDS, "experiments.grid", "experiments.theory")
ROOMS["experiments.report"] = (*QUESTION, "experiments.depth")
ROOMS["experiments.estimate"] = (*QUESTION, "experiments.bench", "plainres.run.estimate")
ROOMS["experiments.events"] = (*QUESTION, "experiments.signal")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT / "src" if "src" in path.parts else ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path
    for folder in ("src", "experiments")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


@cache
def imports_of(module: str, lazy: bool = True) -> frozenset[str]:
    """The modules that a module imports; `lazy`: inside functions too."""

    def nodes(node: ast.AST):
        for child in ast.iter_child_nodes(node):
            yield child
            if lazy or not isinstance(child, ast.FunctionDef):
                yield from nodes(child)

    names = set()
    for node in nodes(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}: relative import"
            modules = {f"{node.module}.{name.name}" for name in node.names} & FILES.keys()
            names |= modules or {node.module}
    return frozenset(names)


def lies_in(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def forbidden(module: str) -> set[str]:
    """The imports of a module that its room may not have."""
    room, names = room_of(module), imports_of(module)
    if room in ("plainres", "experiments"):  # their __init__.py
        return set(names)
    reads = module.startswith("experiments.") and (room not in RUN_CELLS or module in BENCH_READERS)
    legal = (room, *(QUESTION if module in BENCH_READERS else ROOMS.get(room, QUESTION)))
    ours = {name for name in names if name.split(".")[0] in ("plainres", "experiments")}
    bad = {name for name in ours if not any(lies_in(name, other) for other in legal)}
    libraries = NOT_IN_RECORDS if room == RECORDS else NOT_IN_EXPERIMENTS if reads else set()
    return bad | {name for name in names if name.split(".")[0] in libraries}


def circles() -> set[frozenset[str]]:
    """Groups of modules in which each one reaches all others over imports."""

    @cache
    def reached(module: str) -> frozenset[str]:
        modules: set[str] = set()
        waiting = [module]
        while waiting:
            new = (imports_of(waiting.pop()) & FILES.keys()) - modules
            modules |= new
            waiting += new
        return frozenset(modules)

    return {
        frozenset(other for other in reached(module) if module in reached(other))
        for module in FILES
        if module in reached(module)
    }


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_only_what_its_room_may(module):
    assert not forbidden(module)


def test_no_modules_import_each_other_in_a_circle():
    assert not circles()


def test_the_command_imports_plainres_only_when_it_needs_it():
    """But for how a command ends, which needs the standard library alone."""
    names = imports_of("experiments.__main__", lazy=False)
    (ending,) = {name for name in names if lies_in(name, "plainres")}
    assert ending == "plainres.records.errors"
    assert {name.partition(".")[0] for name in imports_of(ending)} <= sys.stdlib_module_names


def test_the_module_knows_no_architecture_and_no_data_set():
    names = imports_of("plainres.training.module")
    assert not {name for name in names if lies_in(name, "plainres.networks")}
    assert not names & {"plainres.data.images", "plainres.data.sources", "plainres.data.folder"}
