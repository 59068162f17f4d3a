# PYTHON_ARGCOMPLETE_OK
"""The command: `plainres <verb> [question] [options]`, or `python -m experiments`.

This is its table of verbs, and what each of them does. experiments/options.py reads its words.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments import grid
from experiments.blocks import fill_pages
from experiments.grid import Command, Sweep, literal
from experiments.options import BENCH, ESTIMATE, Verb, parse, refuse
from experiments.processes import run, shown, status_of_process
from plainres.records.errors import CONTRADICTED, UNUSABLE, one_line, status_of

COMMITTED = Path("results")
LOCAL = COMMITTED / "local"
# Protocols whose errors say nothing about the depth of CIFAR networks
NOT_OF_DEPTH = ("dry", "finetune", "imagenet", "imagenet_dry", "smoke")


def verbs() -> dict[str, Verb]:
    """The subcommands by name."""
    network = "depth weights seeds name jobs force"
    grid_options = "protocol seeds depths arms variants name surface shallow force missing"
    launched = " ".join(_LAUNCHED)
    judged = "protocol name local depths seeds margin verbose json latex strict"
    text = "train what a question asks for, then figures and verdicts"
    return {
        "sweep": Verb(sweep, text, None, f"{grid_options} {launched} show"),
        "estimate": Verb(
            estimate, "what a sweep will cost", None, f"{grid_options} device devices json"
        ),
        "check": Verb(check, "print verdicts: all, or one question in detail", "?", judged),
        "figures": Verb(figures, "draw figures and write results READMEs again", "*", "local"),
        "publish": Verb(publish, "move your cells into the committed tables", "0", "results"),
        "report": Verb(report, "one page that shows everything", "0", ""),
        "tensorboard": Verb(
            tensorboard, "curves of depth in TensorBoard, or of RESULTS", "0", "results port write"
        ),
        "deviations": Verb(
            deviations, "in what each protocol differs from the paper", "0", "protocol json"
        ),
        "power": Verb(
            power, "how often depth's verdicts are right, simulated", "0", "protocol local"
        ),
        "inspect": Verb(inspect, "a network layer by layer", "0", "model depth picture all"),
        "own-images": Verb(
            own_images, "fine-tune a network on your pictures", "0", f"root label example {network}"
        ),
        "classify": Verb(
            classify, "what your trained network takes pictures for", "0", "picture results json"
        ),
        "bench": Verb(bench, "what training costs", "0", "parts rounds seconds thousand"),
        "status": Verb(status, "what the sweeps of this machine are doing", "?", "json follow"),
        "torture": Verb(
            torture, "faults on purpose, counted", "0", "seed short kinds only jobs out"
        ),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the status to end with."""

    def task() -> int:
        made = verbs()
        options = parse(sys.argv[1:] if arguments is None else arguments, made)
        return made[options.verb].run(options)

    return status_of(task)


def sweep(options: argparse.Namespace) -> int:
    """Trains what is not yet trained; then figures, verdicts, and the committed reference."""
    slug = options.question
    commands = _commands(options)
    if options.show:
        print("\n".join(shown(command) for command in commands))
        return 0
    _check_later(commands, options)
    with tempfile.TemporaryDirectory(prefix="plainres-") as folder:
        places = Path(folder, "places")
        for number, command in enumerate(commands, 1):
            part = f"part {number} of {len(commands)}" if len(commands) > 1 else ""
            own = f"+experiment={slug}" in command.words
            if status := run(command, places if own else None, part):
                return status
        measured = _announced(places)
    return _report(slug, measured)


def _check_later(commands: Sequence[Command], options: argparse.Namespace) -> None:
    """Refuses illegal values that commands behind the first would meet hours later.

    Raises:
        ValueError: a value is illegal; one line.
    """
    from plainres.run.composed import check_values

    typed = ("protocol", "depths", "arms", "variants", "surface", "overrides")
    if not any(getattr(options, name) for name in typed):  # then the values are our own
        return
    alike = {}  # commands that differ in seed or depth alone
    for command in commands[1:]:
        words = [w for w in command.words if not w.startswith(("seed=", "model.depth="))]
        alike[(command.module, *words)] = command
    for command in alike.values():
        if command.module == "plainres.run.train":
            check_values(command.words)
        else:  # its import takes seconds
            from plainres.instruments.landscape import check

            check_values(command.words, "landscape", check)


def _commands(options: argparse.Namespace) -> list[Command]:
    """The commands of the sweep that the options name."""
    slug = options.question
    legal = (*grid.takes(slug), "seeds", "depths", "force", "missing", *_LAUNCHED)
    asked = {name: value for name, value in vars(options).items() if name in _SWEEP and value}
    for name in asked:
        if name not in legal:
            names = ", ".join(each.upper() for each in legal if hasattr(options, each))
            verb = options.verb
            refuse(f"{verb} {slug} takes no {name.upper()}; it takes {names}, and overrides")
    return grid.commands(Sweep(slug, **asked, overrides=options.overrides))


def estimate(options: argparse.Namespace) -> int:
    """Hours, device-hours, memory and disk of a sweep, from committed tables; trains nothing."""
    from experiments.estimate import costs, plan
    from plainres.run.composed import swept_cells

    if options.device not in costs.DEVICES:
        asked = f"DEVICE={options.device} has no costs" if options.device else "DEVICE is missing"
        refuse(f"{asked}; costs were measured on {', '.join(costs.DEVICES)}")
    if not re.fullmatch("0*[1-9][0-9]*", devices := options.devices or "1"):
        refuse(f"DEVICES={devices} is no number of devices; legal: 1 or more")
    commands = _commands(options)
    sweeps = [each for each in commands if each.module == "plainres.run.train"]
    cells = [cell for command in sweeps for cell in swept_cells(command.words)]
    # a child's identity has that of its parent, and a committed row has no weights
    left = [c for c in cells if c.parent_folder or c.config.keep_weights or not c.committed]
    works = [plan.work_of(cell.config, cell.arm) for cell in left]
    found = plan.estimate(works, options.device, int(devices), costs.measured(COMMITTED))
    if options.json:
        print(json.dumps(plan.as_json(found), indent=1))
        return 0
    print(plan.text(found, options.question))
    for command in commands:
        if command not in sweeps:
            print(f"not counted: {shown(command)}")
    return 0


def _announced(places: Path) -> list[dict[str, str]]:
    """The folders into which commands measured (plainres.run.config.announce), each once."""
    lines = places.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in dict.fromkeys(lines)]


_LAUNCHED = ("jobs", "launcher", "partition", "gpus", "hours")
_SWEEP = (
    *("protocol", "seeds", "depths", "arms", "variants", "name", "surface"),
    *("shallow", "force", "missing", *_LAUNCHED),
)


def _report(slug: str, places: Sequence[dict[str, str]]) -> int:
    """Figures and verdicts of what was just measured.

    Args:
        places: see plainres.run.config.announce.
    """
    from experiments.reporting.question import question

    asked = question(slug)
    judged: dict[Path, tuple[Path, bool]] = {}  # folder → the committed one, whether it is one
    for place in places:
        results, committed = Path(place["results_dir"]), Path(place["committed_dir"])
        for folder in asked.folders(results, place["slug"]):
            if (results / place["slug"] / place["folder"]).is_relative_to(folder):
                reference = committed / folder.relative_to(results)
                known = reference in asked.folders(committed, place["slug"])
                judged[folder] = reference, known
    for folder, (reference, known) in judged.items():
        asked.write(folder)
        print(f"\n{asked.text(folder)}\n")
        if folder != reference:
            _print_committed(asked, folder, reference, known)
        print(f"figures and tables: {folder / 'README.md'}")
    if not judged:
        print(f"no verdict: these cells have no table {asked.where} of the question {slug}")
    return 0


def _print_committed(asked: Any, folder: Path, committed: Path, known: bool) -> None:
    """The committed verdicts, and which of the local cells lie inside the committed range.

    Args:
        known: whether `committed` has tables of the question.
    """
    from experiments.reporting.reference import compare

    if known:
        words: dict[str, list[str]] = {}
        for score in asked.scores(committed):
            words.setdefault(score["label"], []).append(f"({score['claim']}) {score['verdict']}")
        for label, verdicts in words.items():
            print(f"committed: {label}: {', '.join(verdicts)}")
    print("\n".join(compare(folder, committed)))


def check(options: argparse.Namespace) -> int:
    """Verdicts; with --strict a claim that is `not reproduced` is a status."""
    from experiments.reporting.question import question, questions

    results = LOCAL if options.local else COMMITTED
    if options.latex and (options.json or not options.question):
        refuse("--latex needs a question, and goes without --json")
    if not options.question:
        for name in ("protocol", "name", "depths", "seeds", "margin", "verbose"):
            if getattr(options, name):
                refuse(f"check of all questions takes no {name.upper()}; check <question> may")
        return _scoreboard(list(questions().values()), results, options)
    if options.name and options.protocol:
        refuse("PROTOCOL and NAME both name the folder; one of them")
    asked = question(options.question)
    if options.json and options.verbose:
        refuse("JSON has all numbers of a verdict; it goes without VERBOSE")
    extra = _extra(asked, options)
    folders = _folders(asked, results, options.name or options.protocol)
    scores = [score for folder in folders for score in asked.scores(folder, **extra)]
    if options.json:
        print(json.dumps(scores, indent=1, ensure_ascii=False))
    elif options.latex:
        print("\n\n".join(asked.latex(folder, options.verbose, **extra) for folder in folders))
    else:
        texts = [
            f"== {folder}\n\n{asked.text(folder, options.verbose, **extra)}" for folder in folders
        ]
        print("\n\n\n".join(texts))
    return _strict(scores, options)


def _extra(asked: Any, options: argparse.Namespace) -> dict[str, Any]:
    """The options that the question's `read` takes; refuses those that it ignores."""
    names = ("depths", "seeds", "margin", "protocol", "name")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    chosen_by_name = {"protocol", "name"} if asked.levels == 1 else set()
    for name in sorted(set(given) - chosen_by_name - set(asked.options)):
        legal = sorted(name.upper() for name in {*chosen_by_name, *asked.options} & set(names))
        refuse(f"check {asked.slug} takes no {name.upper()}; it takes {', '.join(legal) or 'none'}")
    return {name: value for name, value in given.items() if name in asked.options}


def _folders(asked: Any, results: Path, name: str | None) -> list[Path]:
    """The folders of a question, or the one of that name.

    Raises:
        ValueError: there is none; names what is there and what measures it.
    """
    folders = measured = asked.folders(results)
    if asked.levels == 1 and name:
        folders = [folder for folder in measured if folder.name == name]
    if not folders:
        names = ", ".join(folder.name for folder in measured) or "nothing"
        raise ValueError(
            f"no tables in {results / asked.slug / (name or '')}; measured: {names}; "
            f"make sweep-{asked.slug} measures them"
        )
    return folders


def _scoreboard(asked: Sequence[Any], results: Path, options: argparse.Namespace) -> int:
    scores, unusable = [], []
    for each in asked:
        for folder in each.folders(results):
            try:
                scores += each.scores(folder)
            except Exception as error:  # of one question; the others are judged
                unusable.append(f"{folder}: {one_line(error)}")
    if options.json:
        print(json.dumps(scores, indent=1, ensure_ascii=False))
    elif scores:
        heading = None
        for score in scores:
            place = f"{score['folder']} · {score['label']}"
            if place != heading:
                print(f"\n{place}" if heading else place)
                heading = place
            numbers = f" · {score['headline'] or score['summary']}"
            print(f"  ({score['claim']}) {score['verdict']} · {score['statement']}{numbers}")
        counts = Counter(score["verdict"] for score in scores)
        print(f"\n{len(scores)} claims: {', '.join(f'{n} {word}' for word, n in counts.items())}")
    for line in unusable:
        print(f"plainres: {line}", file=sys.stderr)
    if unusable or not scores:
        if not scores and not unusable:
            raise ValueError(f"no tables in {results}; make sweep-depth measures the first")
        return UNUSABLE
    return _strict(scores, options)


def _strict(scores: Sequence[dict[str, Any]], options: argparse.Namespace) -> int:
    contradicted = options.strict and any(score["contradicted"] for score in scores)
    return CONTRADICTED if contradicted else 0


def figures(options: argparse.Namespace) -> int:
    """Every figure and results README again."""
    from experiments.reporting.question import question

    results = LOCAL if options.local else COMMITTED
    written = 0
    for slug in options.question or [*grid.SLUGS, BENCH, ESTIMATE]:
        if slug == ESTIMATE:
            from experiments.estimate.figures import write_report

            paths = write_report(results) if (results / "depth" / "paper").exists() else []
        elif slug == BENCH:
            from experiments.bench import figures as of_bench

            paths = of_bench.write_report(results / BENCH) if (results / BENCH).exists() else []
        else:
            asked = question(slug)
            paths = [path for folder in asked.folders(results) for path in asked.write(folder)]
        written += len(paths)
        print("\n".join(map(str, paths)), end="\n" if paths else "")
    if not written:
        raise ValueError(f"no tables in {results}; plainres --help lists what measures them")
    if not options.local:
        fill_pages(COMMITTED)
    return 0


def publish(options: argparse.Namespace) -> int:
    """Finished cells of this machine into the committed tables, then their figures."""
    from experiments.reporting.question import question
    from plainres.run.publish import publish as move

    if options.place and options.results:
        refuse(f"publish takes one place, {options.place} or {options.results}")
    place = options.place or options.results or ""
    slug, _, name = place.partition("/")
    if slug not in grid.SLUGS or not name:
        raise ValueError(f"{place!r} is not <question>/<folder>, as depth/quick")
    print("\n".join(move(LOCAL, COMMITTED, place)))
    asked = question(slug)
    for folder in asked.folders(COMMITTED):
        if folder == COMMITTED / slug or (COMMITTED / slug / name).is_relative_to(folder):
            asked.write(folder)
    fill_pages(COMMITTED)
    return 0


def report(options: argparse.Namespace) -> int:
    """One HTML file: finding, questions, exercises, deviations; prints its path."""
    from experiments.report.page import write

    print(write(COMMITTED, LOCAL))
    return 0


def tensorboard(options: argparse.Namespace) -> int:
    """Event files of the tables, committed and of this machine; then TensorBoard on them."""
    from experiments.events.serve import port_of, serve
    from experiments.events.write import FOLDER, write

    port = port_of(options.port)
    places = [*options.places, *filter(None, (options.results or "").split(","))]
    address = write(LOCAL, COMMITTED, _curves([place.strip("/") for place in places]))
    if options.write:
        print(LOCAL / FOLDER)
    else:
        serve(LOCAL / FOLDER, address, port)
    return 0


def _curves(places: Sequence[str]) -> list[Any]:
    """The tables that have curves: those named, else all about depth; this machine's come second.

    Raises:
        ValueError: a place has none, or there are none at all; one line.
    """
    from experiments.events.curves import read
    from experiments.report.finding import ORDER
    from plainres.records.files import CURVES_TABLE

    def there(results: Path) -> list[str]:
        if places:
            return [place for place in places if (results / place / CURVES_TABLE).exists()]
        names = sorted(path.parent.name for path in results.glob(f"depth/*/{CURVES_TABLE}"))
        names = sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
        return [f"depth/{name}" for name in names]

    committed, own = there(COMMITTED), there(LOCAL)
    if missing := [place for place in places if place not in {*committed, *own}]:
        raise ValueError(f"no curves in {COMMITTED / missing[0]}; name <question>/<folder>")
    tables = [read(COMMITTED, place) for place in committed]
    tables[1:1] = [read(LOCAL, place, own=True) for place in own]
    tables = [each for each in tables if each.curves]
    if not tables:
        raise ValueError(f"no curves in {COMMITTED / 'depth'}; make sweep-depth measures the first")
    return tables


def deviations(options: argparse.Namespace) -> int:
    """One protocol in full, or a table of all; overrides ask for what was not measured."""
    from experiments.depth import deviations as ledger
    from plainres.run.config import CONF

    names = sorted(path.stem for path in (CONF / "protocol").glob("*.yaml"))
    if options.protocol and options.protocol not in names:
        raise ValueError(f"no protocol {options.protocol!r}; choose {', '.join(names)}")
    asked = [options.protocol] if options.protocol else [n for n in names if n not in NOT_OF_DEPTH]
    ledgers = [
        (None if options.overrides else ledger.of_folder(COMMITTED / "depth" / name))
        or ledger.of_configuration(name, *_configured(name, options.overrides))
        for name in asked
    ]
    if options.json:
        print(json.dumps([asdict(each) for each in ledgers], indent=1, ensure_ascii=False))
    else:
        print(ledger.text(ledgers[0]) if options.protocol else ledger.overview(ledgers))
    return 0


def _configured(protocol: str, overrides: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Identity and vector instructions of a cell of this protocol.

    Raises:
        ValueError: no run can have this configuration; one line.
    """
    from plainres.run.cell import compose_cell

    try:
        cell = compose_cell(LOCAL, f"protocol={protocol}", *overrides)
        cell.check()
    except Exception as error:  # Hydra has no common class for what it refuses
        raise ValueError(one_line(error)) from error
    return cell.identity, cell.config.instruction_set


def power(options: argparse.Namespace) -> int:
    """Simulated sweeps; leaves power.csv beside the records."""
    from experiments.depth import simulation

    results = LOCAL if options.local else COMMITTED
    print(simulation.power(results / "depth" / (options.protocol or "quick")))
    return 0


def inspect(options: argparse.Namespace) -> int:
    """A network layer by layer, or all of them into files."""
    if options.all:
        if given := [*filter(None, (options.model, options.depth, options.picture))]:
            refuse(f"inspect --all shows every network; {given[0]} goes without it")
        if options.overrides:
            refuse(f"inspect --all takes no {options.overrides[0]}")
        return _inspect_all()
    words = [f"model={options.model or 'residual'}"]
    words += [f"model.depth={options.depth}"] if options.depth else []
    words += [f"picture={literal(options.picture)}"] if options.picture else []
    return run(Command("plainres.instruments.inspect", [*words, *options.overrides]))


PICTURED = (
    *("lenet5", "alexnet", "vgg", "googlenet", "inception_v3", "residual", "se"),
    *("plain_imagenet", "residual_imagenet", "se_imagenet", "lenet5 model.era=1998"),
)


def _inspect_all() -> int:
    folder = COMMITTED / "networks"
    folder.mkdir(parents=True, exist_ok=True)
    for model in PICTURED:
        name = re.sub(r" .*=", "_", model)
        picture = folder / f"{name}.png"
        words = ["-m", "plainres.instruments.inspect", *f"model={model}".split()]
        with (folder / f"{name}.txt").open("w", encoding="utf-8") as file:
            finished = subprocess.run(
                [sys.executable, *words, f"picture={picture}"],
                stdout=file,
                env={**os.environ, "PYTHONIOENCODING": "utf-8"},
                check=False,
            )
        if finished.returncode:
            return status_of_process(finished.returncode)
        print(folder / f"{name}.txt", picture)
    return 0


def own_images(options: argparse.Namespace) -> int:
    """Fine-tunes on a person's own pictures, or on the example's."""
    root, label = options.root, options.label
    if options.example:
        from plainres.data.example_images import write

        number = write(Path(options.example))
        print(f"{options.example}: {number} pictures")
        root, label = root or options.example, label or "photographs"
    if not root or not label:
        raise ValueError(
            "own-images needs ROOT=<folder or archive with train/<class>/ and test/<class>/> and "
            "LABEL=<name>; EXAMPLE=<new folder> writes pictures to try it with"
        )
    depth, seeds = options.depth or "18", options.seeds or "0"
    weights = options.weights or _weights_here(depth)
    start = "from scratch (WEIGHTS=imagenet downloads weights)"
    if weights != "null":
        start = f"from torchvision's weights: {weights}"
    print(start)
    words = [
        *("-m", "slug=own", "protocol=finetune", f"folder={literal(options.name or label)}"),
        *("data=image_folder", f"data.root={literal(root)}", f"data.label={literal(label)}"),
        *("model=residual_imagenet", f"model.depth={depth}", f"model.weights={weights}"),
        *(f"seed={seeds}", "keep_weights=true"),
        "+callbacks.confusion._target_=plainres.instruments.confusion.ConfusionMatrix",
        *(["force=true"] if options.force else []),
        *([f"jobs={options.jobs}"] if options.jobs else []),
    ]
    with tempfile.TemporaryDirectory(prefix="plainres-") as folder:
        places = Path(folder, "places")
        command = Command("plainres.run.train", [*words, *options.overrides])
        if status := run(command, places):
            return status
        measured = _announced(places)
    from experiments.reporting.confusion import report

    for place in measured:
        print(report(Path(place["results_dir"], place["slug"], place["folder"])))
    return 0


def classify(options: argparse.Namespace) -> int:
    """The most likely classes of pictures."""
    pictures = [*options.pictures, *filter(None, [options.picture])]
    if not pictures or "" in pictures:
        raise ValueError("classify needs PICTURE=<file or folder>")
    from plainres.instruments.classify import classify as print_classes

    return print_classes(pictures, LOCAL, options.results, options.json)


def _weights_here(depth: str) -> str:
    """`imagenet` where torchvision's weights are already on this machine, else `null`."""
    from plainres.networks.resnet import imagenet_weights_file

    try:
        return "imagenet" if imagenet_weights_file(int(depth)).exists() else "null"
    except (KeyError, ValueError):  # no such depth: training says so
        return "null"


def status(options: argparse.Namespace) -> int:
    """Boards of the sweeps that run, and a line for each of the others."""
    from plainres.run.status import status as show

    results = LOCAL
    for word in options.overrides:
        name, _, value = word.partition("=")
        if name != "results_dir":
            refuse(f"status takes no {word}; it takes results_dir=…")
        results = Path(value)
    return show(results, options.question, options.json, options.follow)


def bench(options: argparse.Namespace) -> int:
    """The benchmark."""
    from experiments.bench.run import main as measure

    values = {name: getattr(options, name) for name in ("parts", "rounds", "seconds")}
    words = [word for name, value in values.items() if value for word in (f"--{name}", str(value))]
    return measure([*words, *(["--thousand"] if options.thousand else [])])


def torture(options: argparse.Namespace) -> int:
    """The campaign of faults."""
    from experiments.torture.campaign import main as campaign

    values = {name: getattr(options, name) for name in ("seed", "kinds", "only", "jobs", "out")}
    words = [word for name, value in values.items() if value for word in (f"--{name}", str(value))]
    return campaign([*words, *(["--short"] if options.short else [])])


if __name__ == "__main__":
    sys.exit(main())
