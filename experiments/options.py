"""The words of a command line: which options each verb takes, and what they mean. See __main__."""

import argparse
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import argcomplete

from experiments import grid
from experiments.grid import words_of
from plainres.records.errors import UNUSABLE, Parser, give_up

DESCRIPTION = (
    "An option can also be written as the Makefile writes it: `PROTOCOL=cpu` is `--protocol cpu`, "
    "and `FORCE=1` is `--force`. Any other word with an equals sign is a Hydra override."
)
# Pages beside those of the questions: what training costs, and what a sweep will
BENCH, ESTIMATE = "bench", "estimate"
VARIABLE = re.compile(r"([A-Z]+)=(.*)", re.DOTALL)
OVERRIDE = re.compile(r"(\+\+?|~)?[A-Za-z_][\w./@-]*=|~\w")


def refuse(reason: str) -> NoReturn:
    """Ends the process: the command cannot be done as it is written."""
    give_up([reason], UNUSABLE)


# Option → what it says; FLAGS are on or off
OPTIONS = {
    "protocol": "one of conf/protocol; thousand: of conf/variants/thousand",
    "seeds": "as 0,1,2",
    "depths": "weighted layers, as 20,56",
    "arms": "networks of conf/model, as plain,residual",
    "variants": "settings, networks, remedies or scales, as conf/variants names them",
    "name": "name of the results folder",
    "surface": "Hydra overrides of plainres.instruments.landscape, in quotes",
    "jobs": "cells, or faults, at the same time (default: one per core)",
    "launcher": "local, slurm or ray: where cells run (default: local; docs/cluster.md)",
    "partition": "partition of Slurm",
    "gpus": "GPUs of one cell, on Slurm or Ray",
    "hours": "after so many hours Slurm stops a cell and queues it again (default: 4)",
    "device": "processor or GPU whose costs were measured: h100, zen1, zen3, zen4 or zen5",
    "devices": "how many such devices (default: 1)",
    "margin": "a smaller difference counts as none; in points (check depth; default: 0.5)",
    "model": "a network of conf/model (default: residual)",
    "depth": "weighted layers of the network",
    "picture": "file or folder to classify; of inspect: a PNG to draw",
    "root": "folder or archive with train/<class>/ and test/<class>/",
    "label": "what tables and figures call the pictures",
    "weights": "imagenet or null (default: imagenet if they are on this machine)",
    "example": "a new folder: writes example pictures into it first",
    "results": "question and folder, as depth/quick; of classify as own/pets",
    "parts": "parts of the benchmark, as columns,startup (default: all)",
    "rounds": "rounds of the benchmark",
    "seconds": "seconds per measurement of the benchmark",
    "seed": "seed of the faults (default: 0)",
    "kinds": "kinds of faults, as flip,cut (default: all)",
    "only": "number of the one fault of its kind that is done again",
    "out": "folder of campaign.csv and README.md",
    "port": "port of TensorBoard (default: the first free one from 6006)",
}
FLAGS = {
    "shallow": "8 and 14 layers too",
    "force": "set aside what was measured under another configuration",
    "missing": "skip the cells that the committed table has",
    "show": "print the commands and run nothing",
    "local": "what this machine measured, instead of what is committed",
    "verbose": "intervals, p values, other measures of training",
    "json": "as JSON",
    "latex": "tables and verdicts of one question as LaTeX",
    "strict": "status 1 if a claim is not reproduced; *contradicts* does not count",
    "all": "every network, into results/networks",
    "thousand": "with the networks of a thousand layers",
    "short": "a few faults of the kinds that end soon",
    "write": "write the event files, and serve nothing",
    "follow": "shows them until they have ended",
}
WITH_OVERRIDES = ("sweep", "estimate", "inspect", "own-images", "deviations", "status")
LISTS = ("seeds", "depths", "arms", "variants")
# May hold spaces
AS_TYPED = ("name", "surface", "root", "label", "picture", "example", "results", "out")


@dataclass(frozen=True)
class Verb:
    """A subcommand.

    Args:
        questions: how many it takes, as argparse's nargs; None: exactly one; "0": none.
        options: names of OPTIONS and FLAGS, with spaces between.
    """

    run: Callable[[argparse.Namespace], int]
    text: str
    questions: str | None
    options: str


def parser(verbs: Mapping[str, Verb]) -> Parser:
    """The command line: one subcommand per verb."""
    epilog = (
        "status: 0 done; 1 a claim is not reproduced (check --strict); 2 cannot be done as asked; "
        "3 did not finish; 128 + n ended by signal n. Completion in bash: "
        'eval "$(register-python-argcomplete plainres)"'
    )
    root = Parser(prog="plainres", description=DESCRIPTION, epilog=epilog)
    added = root.add_subparsers(dest="verb", metavar="verb", required=True, parser_class=Parser)
    for name, verb in verbs.items():
        description = f"{verb.text[0].upper()}{verb.text[1:]}."
        made = added.add_parser(name, help=verb.text, description=description)
        if verb.questions != "0":
            listed = ", ".join(grid.SLUGS)
            made.add_argument("question", nargs=verb.questions, metavar="question", help=listed)
        if name == "classify":
            made.add_argument("pictures", nargs="*", metavar="picture", help="file or folder")
        if name == "publish":
            made.add_argument("place", nargs="?", metavar="question/folder", help="as depth/quick")
        if name == "tensorboard":
            made.add_argument("places", nargs="*", metavar="question/folder", help="as depth/quick")
        for option in verb.options.split():
            if option in FLAGS:
                made.add_argument(f"--{option}", action="store_true", help=FLAGS[option])
            else:
                made.add_argument(f"--{option}", help=OPTIONS[option])
    return root


def parse(arguments: Sequence[str], verbs: Mapping[str, Verb]) -> argparse.Namespace:
    """The options of a command line; its `overrides` are Hydra's. Ends with one line if illegal."""
    words, overrides = _split(arguments, verbs)
    root = parser(verbs)
    argcomplete.autocomplete(root)
    options = root.parse_args(words)
    if overrides and options.verb not in WITH_OVERRIDES:
        refuse(f"{options.verb} takes no {overrides[0]}")
    for option in LISTS:
        if value := getattr(options, option, None):
            setattr(options, option, _list(option, value))
    name = getattr(options, "name", None) or getattr(options, "label", None) or ""
    if "/" in name or name.startswith("."):
        refuse(f"{name!r} is not the name of one folder; NAME=… gives one")
    slugs = getattr(options, "question", None)
    for slug in [slugs] if isinstance(slugs, str) else slugs or []:
        if slug not in grid.SLUGS and (options.verb != "figures" or slug not in (BENCH, ESTIMATE)):
            refuse(f"no question {slug!r}; choose {', '.join(grid.SLUGS)}")
    options.overrides = overrides
    return options


def _list(option: str, value: str) -> str:
    """The names of a list, with commas between; refuses an empty list and a name that is twice."""
    names = [name for name in re.split(r"[\s,]+", value) if name]
    if not names:
        refuse(f"{option.upper()}={value} names none")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        refuse(f"{option.upper()}={value} names {twice[0]} twice")
    return ",".join(names)


def _split(arguments: Sequence[str], verbs: Mapping[str, Verb]) -> tuple[list[str], list[str]]:
    """Words of the command line, and the Hydra overrides among them.

    `NAME=value` becomes an option; an empty value, and 0 for a flag, become nothing, as in make.
    """
    words: list[str] = []
    overrides: list[str] = []
    verb = next((word for word in arguments if word in verbs), "")
    legal = verbs[verb].options.split() if verb else [*OPTIONS, *FLAGS]
    before = ""
    for argument in arguments:
        is_value = before.startswith("--") and before[2:] in OPTIONS
        variable, before = VARIABLE.fullmatch(argument), argument
        if is_value or not variable:
            is_override = OVERRIDE.match(argument) and not is_value
            (overrides if is_override else words).append(argument)
            continue
        name, value = variable[1].lower(), variable[2].strip()
        if name == "args":
            overrides += words_of(name, value)
        elif name == "python":  # of the Makefile
            continue
        elif name not in legal:
            args = ["args"] * (verb in WITH_OVERRIDES)
            names = ", ".join(each.upper() for each in [*legal, *args]) or "none"
            refuse(f"unknown variable {variable[1]}; {verb or 'plainres'} takes {names}")
        elif name in FLAGS:
            if value not in ("", "0", "1"):
                refuse(f"{variable[1]}={value} is neither 1 nor 0")
            words += [f"--{name}"] if value not in ("", "0") else []
        elif value:
            words.append(f"--{name}={value if name in AS_TYPED else ','.join(value.split())}")
    return words, overrides
