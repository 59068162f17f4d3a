"""The command: what a person types, what runs, what is printed, and how it ends."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from composing import CONF, ROOT, compose_cell, python, run
from made_up import made_up_record, write_made_up

from experiments import __main__ as command
from experiments import grid
from experiments.depth import QUESTION
from experiments.grid import Command, Sweep, literal
from experiments.options import _split
from experiments.reporting.question import Question
from plainres.records.files import RUNS_TABLE, read_runs


def tables(folder, **changes) -> None:
    write_made_up(folder, [made_up_record(**changes)], curves=True)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """An empty `results` in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results"


def ended(capsys, *words: str) -> tuple[int, str]:
    """The status and the error line of a command that cannot be done."""
    with pytest.raises(SystemExit) as stopped:
        command.main(words)
    line = capsys.readouterr().err
    assert line.startswith("plainres: ")
    assert line.count("\n") == 1
    return stopped.value.code, line


def test_every_question_has_a_grid_and_a_configuration():
    assert set(grid.SLUGS) == {path.stem for path in (CONF / "experiment").glob("*.yaml")}


@pytest.mark.parametrize("slug", grid.SLUGS)
def test_every_command_of_a_sweep_composes_into_a_cell_of_its_question(tmp_path, slug):
    commands = grid.commands(Sweep(slug, protocol="quick"))
    slugs = []
    for each in commands:
        if each.module == "plainres.run.train":
            words = [re.sub(r",.*", "", word) for word in each.words if word != "-m"]
            slugs.append(compose_cell(tmp_path, *words).config.slug)
    assert set(slugs) == ({slug, "depth"} if slug == "autopsy" else {slug})
    assert commands[0].module == "plainres.run.train"


def test_variables_of_make_and_options_are_the_same_command(capsys):
    written = ("sweep", "depth", "PROTOCOL=cpu", "SEEDS=0 1", "JOBS=2", "MISSING=1", "FORCE=0")
    typed = ("sweep", "depth", "--protocol", "cpu", "--seeds=0,1", "--jobs", "2", "--missing")
    shown = []
    for words in (written, typed):
        assert command.main([*words, "--show", "protocol.batch_size=64"]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert shown[0].endswith(
        "plainres.run.train -m +experiment=depth protocol=cpu seed=0,1 jobs=2 missing=true "
        "protocol.batch_size=64\n"
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            "LAUNCHER=slurm PARTITION=gpu GPUS=1 HOURS=1.5 JOBS=8",
            "hydra/launcher=slurm hydra.launcher.partition=gpu hydra.launcher.gpus_per_node=1 "
            "hydra.launcher.timeout_min=90 hydra.launcher.array_parallelism=8",
        ),
        (
            "LAUNCHER=ray GPUS=0.25 JOBS=2",
            "hydra/launcher=ray_tasks hydra.launcher.ray.remote.num_gpus=0.25 "
            "hydra.launcher.ray.init.num_cpus=2",
        ),
        ("LAUNCHER=local JOBS=2", "jobs=2"),
    ],
)
def test_a_launcher_gets_its_own_keys(tmp_path, capsys, given, words):
    command.main(["sweep", "depth", *given.split(), "SHOW=1"])
    shown = shlex.split(capsys.readouterr().out)[4:]
    assert [word for word in shown if word.startswith(("hydra", "jobs"))] == words.split()
    compose_cell(tmp_path, *shown)  # no key is unknown


def test_the_value_of_an_option_is_no_override():
    assert _split(["sweep", "landscape", "--surface", "points=5", "seed=1"], command.verbs()) == (
        ["sweep", "landscape", "--surface", "points=5"],
        ["seed=1"],
    )


def test_figures_without_tables_write_nothing(tmp_path, monkeypatch):
    for name in ("results", "experiments"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "COMMITTED", tmp_path / "results")
    with pytest.raises(SystemExit):
        command.main(["figures", "depth"])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_args_are_overrides_as_a_shell_splits_them(capsys):
    command.main(["sweep", "depth", "SHOW=1", "ARGS=data.root='/a b' model.depth=20"])
    assert capsys.readouterr().out.endswith("seed=0 'data.root=/a b' model.depth=20\n")


@pytest.mark.parametrize(
    "words", [("depth", "ARGS=data.root='/a b"), ("landscape", "SURFACE=statistics='batch")]
)
def test_a_quote_that_is_not_closed_is_one_line(capsys, words):
    status, line = ended(capsys, "sweep", *words, "SHOW=1")
    assert status == 2
    assert f"{words[1]} cannot be split into words: No closing quotation" in line


def test_a_name_is_a_name_whatever_characters_it_has(tmp_path, capsys):
    for text in ("my run", "Bob's cats", 'a "b", [c]', "${seed}", "\\", "007", "null", "%d é"):
        cell = compose_cell(tmp_path, f"folder={literal(text)}", f"data.label={literal(text)}")
        assert (cell.config.folder, cell.config.data.label) == (text, text)
    assert literal("slower-0.05") == "slower-0.05"
    for variable in (["NAME=my run"], ["--name", "my run"]):
        command.main(["sweep", "depth", "SHOW=1", *variable])
        assert """ 'folder="my run"' """ in capsys.readouterr().out


def test_a_name_is_of_one_folder(capsys):
    for words in (("sweep", "depth", "NAME=../other"), ("own-images", "ROOT=x", "LABEL=a/b")):
        status, line = ended(capsys, *words)
        assert status == 2
        assert "is not the name of one folder" in line


def test_a_list_has_commas_or_spaces_between(capsys):
    command.main(["sweep", "depth", "SHOW=1", "DEPTHS=20, 56", "--seeds", "0 1,2"])
    assert "seed=0,1,2 model.depth=20,56\n" in capsys.readouterr().out


def test_memory_of_a_thousand_layers_is_measured_as_the_networks_are_trained(capsys):
    words = ["results_dir=x", "folder=mine", "kernels=fused", "hydra.launcher.constraint=a100"]
    command.main(["sweep", "thousand", "SHOW=1", "MISSING=1", "DEPTHS=110", *words])
    trained, *measured = capsys.readouterr().out.splitlines()
    assert trained.endswith(f" missing=true {' '.join(words)}")
    assert len(measured) == 2
    for line in measured:
        assert line.endswith(" model.depth=110 missing=true results_dir=x"), "the rest is fixed"


def test_shallow_networks_come_last(capsys):
    command.main(["sweep", "depth", "SHOW=1", "SHALLOW=1"])
    assert "model.depth=110,56,44,32,20,14,8" in capsys.readouterr().out
    command.main(["sweep", "depth", "SHOW=1", "SHALLOW=1", "DEPTHS=8,20"])
    assert "model.depth=8,20,14\n" in capsys.readouterr().out, "none twice"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sweep", "depth", "PROTOCL=cpu"), "unknown variable PROTOCL; sweep takes PROTOCOL, SEED"),
        (("sweep", "pace", "PROTOCOL=cpu"), "sweep pace takes no PROTOCOL; it takes SEEDS"),
        (("sweep", "depth", "LAUNCHER=pbs"), "no launcher 'pbs'; choose local, slurm, ray"),
        (("sweep", "depth", "HOURS=1"), "LAUNCHER=local takes no HOURS; it takes JOBS"),
        (("sweep", "depth", "LAUNCHER=slurm", "HOURS=a"), "HOURS=a is not a number of hours above"),
        (("sweep", "depht"), "no question 'depht'; choose autopsy, cures"),
        (("check", "shortcuts", "MARGIN=1"), "check shortcuts takes no MARGIN"),
        (("check", "seed=1"), "check takes no seed=1"),
        (("check", "depth", "JSON=1", "VERBOSE=1"), "it goes without VERBOSE"),
        (("check", "SEEDS=1"), "check of all questions takes no SEEDS; check <question> may"),
        (("check", "VERBOSE=1"), "check of all questions takes no VERBOSE"),
        (("check", "lenet", "NAME=x"), "check lenet takes no NAME"),
        (("check", "signal", "PROTOCOL=cpu"), "check signal takes no PROTOCOL"),
        (("torture", "JOBS=0"), "JOBS=0 is no number of faults at a time; legal: 1 or more"),
        (("sweep", "depth", "FORCE=no"), "FORCE=no is neither 1 nor 0"),
        (("sweep", "depth", "SEEDS=,"), "SEEDS=, names none"),
        (("sweep", "depth", "--depths", "20, 56 20"), "DEPTHS=20, 56 20 names 20 twice"),
        (("sweep", "autopsy", "VARIANTS=hope"), "Could not find 'rescue/hope' Available options"),
        (("sweep", "landscape", "SURFACE=points=4"), "points 4 is not an odd number from 3 up"),
        (
            ("sweep", "landscape", "SURFACE=statistics=all"),
            "'all' is unknown; legal: running, batc",
        ),
        (("sweep", "identity", "devices=2"), "devices 2 with child, which needs devices=1"),
        (
            ("estimate", "large", "DEVICE=zen4", "PROTOCOL=cpu"),
            "estimate large takes no PROTOCOL; it takes SEEDS",
        ),
        (("estimate", "depth", "JOBS=2"), "unknown variable JOBS; estimate takes PROTOCOL, SEEDS"),
        (("sweep", "autopsy", "PROTOCOL=cpu16"), "PROTOCOL=cpu16; legal: quick, cpu"),
        (("sweep", "autopsy", "DEPTHS=56"), "DEPTHS=56: remedies are tried on 110 layers"),
        (("sweep", "cures", "PROTOCOL=cpu", "VARIANTS=deep_option_a"), "legal: quick"),
        (
            ("sweep", "horizon", "VARIANTS=quick,width_4", "ARMS=residual"),
            "part width_4 has no ARMS=residual; legal: plain",
        ),
        (("sweep", "lineage", "VARIANTS=rates", "SEEDS=0,1"), "rates are chosen on one seed, 100"),
        (("report", "OUT=x"), "unknown variable OUT; report takes none"),
        (
            ("check", "depth", "PROTOCOL=quick", "NAME=cpu"),
            "PROTOCOL and NAME both name the folder",
        ),
        (
            ("publish", "depth/cpu", "RESULTS=depth/quick"),
            "publish takes one place, depth/cpu or d",
        ),
        (("inspect", "ALL=1", "MODEL=vgg"), "inspect --all shows every network; vgg goes without"),
        (("inspect", "ALL=1", "num_classes=9"), "inspect --all takes no num_classes=9"),
        (
            ("bench", "ROUNDS=few"),
            "argument --rounds: invalid int value: 'few'; see plainres bench",
        ),
        (("torture", "SEED=x"), "argument --seed: invalid int value: 'x'; see plainres torture"),
        (("classify", ""), "classify needs PICTURE="),
        (("check",), "no tables in results; make sweep-depth measures"),
        (("check", "depth", "PROTOCOL=cpu"), "no tables in results/depth/cpu"),
        (("figures", "depht"), "no question 'depht'"),
        (("publish", "depth"), "'depth' is not <question>/<folder>, as depth/quick"),
        (("own-images", "LABEL=x"), "own-images needs ROOT="),
        (("inspekt",), "invalid choice: 'inspekt'"),
    ],
)
def test_what_cannot_be_done_is_one_line(results, capsys, words, said):
    status, line = ended(capsys, *words)
    assert status == 2
    assert said in line


def crash(*words) -> None:
    raise KeyError("arm")


def test_a_crash_has_a_status_of_its_own(monkeypatch, capsys):
    monkeypatch.setattr(command, "check", crash)
    status, line = ended(capsys, "check", "STRICT=1")
    assert status == 3
    assert "KeyError: 'arm'; HYDRA_FULL_ERROR=1 shows where" in line


def test_a_crash_of_python_itself_in_what_a_command_starts_is_no_verdict():
    assert command.run(Command("no_such_module", [])) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_output_for_nobody_and_to_a_full_disk_ends_in_a_status(tmp_path):
    words = [sys.executable, "-m", "experiments", "check", "lineage"]
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        processes = [
            subprocess.Popen(words, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True)
            for stdout in (writer, full)
        ]
    os.close(writer)
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [141, 3]
    assert said[0] == ""
    assert "No space left" in said[1]
    assert said[1].count("\n") == 1


def test_the_first_command_that_fails_ends_the_sweep(monkeypatch, capsys):
    commands = [Command("json.tool", ["no-such-file"]), Command("this", [])]
    monkeypatch.setattr(grid, "commands", lambda sweep: commands)
    assert command.main(["sweep", "depth"]) != 0
    out = capsys.readouterr().out
    assert "-m json.tool no-such-file" in out
    assert "-m this" not in out


@pytest.mark.parametrize(
    ("name", "ends_with", "status"),
    [("SIGTERM", 143, 143), ("SIGHUP", 7, 7), ("SIGINT", 0, 130)],
)
def test_a_signal_is_passed_on_and_ends_the_sweep_without_a_verdict(
    tmp_path, name, ends_with, status
):
    (tmp_path / "waiting.py").write_text(
        "import signal, sys, time\n"
        f"signal.signal(signal.{name}, lambda *_: sys.exit({ends_with}))\n"
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}]\n"
        "from experiments import __main__ as command, grid\n"
        f"waiting = grid.Command('waiting', [], {{'PYTHONPATH': {str(tmp_path)!r}}})\n"
        "grid.commands = lambda sweep: [waiting, grid.Command('after', [])]\n"
        "command._report = lambda *_: print('verdict')\n"
        "sys.exit(command.main(['sweep', 'depth']))"
    )
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "waiting" in process.stdout.readline()
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.Signals[name])
        rest = process.communicate(timeout=30)[0]
        assert process.returncode == status
        assert rest == ""


def test_a_signal_that_was_ignored_stays_ignored(tmp_path):
    code = (
        f"import os, signal, sys; sys.path[:0] = [{str(ROOT)!r}]\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from experiments.processes import _passed_on\n"
        "with _passed_on([]) as signals:\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "print(signals)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == f"[{int(signal.SIGTERM)}]\n"


def test_the_scoreboard_has_one_line_per_claim(results, capsys):
    tables(results / "depth" / "quick")
    tables(results / "lineage" / "plain20", arm="plain")
    assert command.main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    claims = [line for line in lines if re.match(r"  \([a-z]\) ", line)]
    assert lines[-1].startswith(f"{len(claims)} claims: ")
    assert any("results/depth/quick · digits" in line for line in lines)
    assert command.main(["check", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(claims)


def test_json_has_effects_in_the_unit_that_it_names(monkeypatch, capsys):
    monkeypatch.setattr(command, "COMMITTED", ROOT / "results")
    assert command.main(["check", "depth", "PROTOCOL=quick", "JSON=1"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert [score["unit"] for score in scores] == ["points"] * 6
    for score in scores:
        low, high = score["interval"]
        shown = f"{score['effect']:+.2f} points [{low:+.2f}, {high:+.2f}]"
        assert shown in score["headline"]
        against = score["verdict"] == "not reproduced"
        assert score["p_opposite" if against else "p"] < 0.05 or score["verdict"] == "inconclusive"


@pytest.mark.parametrize(
    ("seeds", "verdict", "status"),
    [(1, "contradicts", 0), (8, "contradicts", 0), (9, "not reproduced", 1)],
)
@pytest.mark.parametrize("words", [["check"], ["check", "lineage"]])
def test_a_tested_contradiction_is_a_status_where_it_is_asked_for_and_a_direction_is_none(
    results, capsys, words, seeds, verdict, status
):
    for network, error in (("alexnet", 0.4), ("lenet5", 0.3)):
        rows = [made_up_record(seed=seed, test_error=error) for seed in range(seeds)]
        write_made_up(results / "lineage" / network, rows)
    assert command.main(words) == 0
    assert f"(a) {verdict}" in capsys.readouterr().out
    assert command.main([*words, "STRICT=1"]) == status


def test_a_question_that_crashes_is_named_and_the_others_are_judged(results, capsys, monkeypatch):
    tables(results / "depth" / "quick")
    tables(results / "lineage" / "plain20", arm="plain")

    judged = Question.scores

    def scores(question, folder):
        return [][0] if question.slug == "lineage" else judged(question, folder)

    monkeypatch.setattr(Question, "scores", scores)
    assert command.main(["check"]) == 2
    shown = capsys.readouterr()
    assert "(a) " in shown.out
    assert "results/lineage: list index out of range" in shown.err


def test_an_unusable_table_is_named_and_the_others_are_shown(results, capsys):
    tables(results / "depth" / "quick")
    (results / "depth" / "cpu").mkdir()
    (results / "depth" / "cpu" / RUNS_TABLE).write_text("arm,depth\nplain,20\n")
    assert command.main(["check"]) == 2
    shown = capsys.readouterr()
    assert "results/depth/quick" in shown.out
    assert "results/depth/cpu" in shown.err
    assert shown.err.count("\n") == 1


def test_a_sweep_ends_with_figures_and_verdicts_of_its_own_cells(results, monkeypatch, capsys):
    def trained(each: Command, places, part) -> int:
        tables(results / "local" / "depth" / "quick")
        place = {"results_dir": "results/local", "committed_dir": "results"}
        places.write_text(json.dumps({**place, "slug": "depth", "folder": "quick"}) + "\n")
        return 0

    monkeypatch.setattr(command, "run", trained)
    tables(results / "depth" / "quick", seed=1)
    assert command.main(["sweep", "depth"]) == 0
    out = capsys.readouterr().out
    assert "results/local/depth/quick/README.md" in out
    assert "committed: digits · protocol quick · 1 seed: (a) inconclusive" in out
    assert "cannot be compared with results/depth/quick: no config.json" in out
    assert (results / "local" / "depth" / "quick" / "figures" / "curves.png").exists()
    assert not (results / "depth" / "quick" / "README.md").exists()
    assert command.main(["check", "depth", "--local"]) == 0


def test_the_parts_of_a_sweep_are_counted(monkeypatch):
    parts = []
    monkeypatch.setattr(command, "run", lambda each, places, part: parts.append(part) or 3)
    assert command.main(["sweep", "depth"]) == 3
    monkeypatch.setattr(command, "run", lambda each, places, part: parts.append(part))
    monkeypatch.setattr(command, "_announced", lambda places: [])
    assert command.main(["sweep", "autopsy"]) == 0
    assert parts == ["", "part 1 of 3", "part 2 of 3", "part 3 of 3"]


HOSTILE = {
    "PYTHONIOENCODING": "ascii",
    "FORCE_COLOR": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    **dict.fromkeys(("NAME", "ARGS", "DEPTHS", "FORCE", "PROTOCOL"), "DESKTOP-7K2"),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A real sweep in a hostile environment, and the folder that it should measure and judge."""
    results = tmp_path_factory.mktemp("my results")
    (results / "matplotlibrc").write_text("text.usetex: True\nsavefig.bbox: tight\n")
    grid = ["PROTOCOL=smoke", "DEPTHS=8", "ARMS=plain", "JOBS=1", "NAME=Bob's run"]
    args = f"ARGS='results_dir={results}' slug=mine protocol.iterations=8 protocol.evaluate_every=8"
    words = ["-m", "experiments", "sweep", "depth", *grid, args]
    swept = python(*words, MATPLOTLIBRC=str(results / "matplotlibrc"), **HOSTILE)
    assert swept.returncode == 0, swept.stderr
    return swept.stdout, results / "mine" / "Bob's run"


def test_a_sweep_judges_the_folder_that_it_measured_into(measured):
    out, folder = measured
    assert [row.iterations for row in read_runs(folder)] == [8]
    assert f"figures and tables: {folder}/README.md\n" in out
    assert f"no reference for {folder}" in out
    assert list(folder.parent.iterdir()) == [folder]


def test_its_figures_are_those_of_an_undisturbed_user(measured, tmp_path):
    copy = tmp_path / "Bob's run"
    shutil.copytree(measured[1], copy, ignore=shutil.ignore_patterns("figures", "runs"))
    figures = [path for path in QUESTION.write(copy) if path.suffix != ".md"]
    assert len(figures) == 4
    for path in figures:
        assert path.read_bytes() == (measured[1] / path.relative_to(copy)).read_bytes()


def test_its_output_is_text_of_the_encoding_alone(measured):
    assert measured[0].isascii()
    assert "digits ? protocol smoke ? 1 seed" in measured[0]
    assert "\x1b" not in measured[0]


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("sweep-depth", ["PROTOCOL=cpu", "ARGS=data.root='/a b'"]),
        ("check-depth", ["VERBOSE=1"]),
        ("check", []),
        ("figures", []),
        ("inspect", ["MODEL=alexnet"]),
        ("own-images", ["ROOT=/a b", "LABEL=mine"]),
        ("bench", ["PARTS=startup"]),
        ("power", ["PROTOCOL=cpu"]),
        ("deviations", ["PROTOCOL=paper"]),
        ("publish", ["RESULTS=depth/quick"]),
        ("classify", ["PICTURE=/a b.jpg", "RESULTS=own/pets"]),
    ],
)
def test_make_hands_its_variables_on(target, words):
    verb = [target] if target == "own-images" else target.split("-", 1)
    assert made(target, *words) == [*verb, *sorted(words)]


def made(target: str, *words: str, flags: str = "", **environment: str) -> list[str]:
    """The words that make hands to the command, as the shell splits them."""
    outside = {"MAKELEVEL": "0", "MAKEFLAGS": flags, "MFLAGS": ""}  # tests may run under make
    shown = run("make", "--dry-run", target, *words, **outside, **environment)
    assert shown.returncode == 0, shown.stderr
    python, option, module, *handed = shlex.split(shown.stdout.splitlines()[-1])
    assert (python, option, module) == (".venv/bin/python", "-m", "experiments")
    return handed


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
@pytest.mark.parametrize(
    "word",
    [
        "LABEL=Bob's cats",
        'LABEL=a "b" $c `d` \\e $(f) #g ${h} %; &',
        "ARGS=folder='${protocol.name}-x' data.root=\"/a b\"",
        "protocol.iterations=50",
    ],
)
def test_make_hands_on_what_was_typed(word):
    assert made("sweep-depth", word) == ["sweep", "depth", word]


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
@pytest.mark.parametrize("flags", ["", "k", "i", "-j2"])
def test_make_takes_no_setting_from_the_environment(flags):
    ambient = ("NAME", "FORCE", "DEPTHS", "ARGS", "PROTOCOL", "SEEDS", "PYTHON", "MAKEOVERRIDES")
    ambient = dict.fromkeys((*ambient, "VARIABLES", "GIVEN", "BIN", "PLAINRES"), "NAME=DESKTOP-7K2")
    assert made("sweep-depth", "JOBS=2", flags=flags, **ambient) == ["sweep", "depth", "JOBS=2"]


def test_the_makefile_is_thin():
    assert len((ROOT / "Makefile").read_text(encoding="utf-8").splitlines()) <= 80
