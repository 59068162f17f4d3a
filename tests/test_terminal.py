"""A sweep and who follows it, as two people see them in two terminals; skips without tmux."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from composing import ROOT
from test_sweep import GRID, SLOW_STEPS, command, wait_for

pytestmark = pytest.mark.terminal
SIZES = {"sweep": (80, 24), "follower": (160, 50), "leaver": (80, 24)}


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Screens by terminal and moment: while the sweep runs, and when both commands have ended."""
    if shutil.which("tmux") is None:
        pytest.skip("no tmux (Debian: apt install tmux)")
    folder = tmp_path_factory.mktemp("terminal")
    (folder / "sitecustomize.py").write_text(SLOW_STEPS)

    def tmux(*words: str | Path) -> str:
        own = ["tmux", "-u", "-S", folder / "tmux", "-f", "/dev/null", *words]
        return subprocess.run(own, check=True, capture_output=True, text=True).stdout

    def start(terminal: str, words: list[str]) -> None:
        width, height = map(str, SIZES[terminal])
        path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        names = {"PYTHONPATH": path, "LC_ALL": "C.UTF-8", "PLAINRES_PART": "part 1 of 2"}
        line = shlex.join(["env", *(f"{name}={text}" for name, text in names.items()), *words])
        tmux(
            *("new-session", "-d", "-s", terminal, "-x", width, "-y", height, "-c", ROOT),
            f"{line}; echo status $?; sleep 100",
        )

    def screen(terminal: str) -> str:
        return tmux("capture-pane", "-p", "-t", terminal)

    words = ("protocol.iterations=12", "model.depth=8", "seed=0")
    screens = {}
    try:
        start("sweep", command(folder, "-m", *GRID, *words))
        follow = ["-m", "experiments", "status", "depth", f"results_dir={folder}", "--follow"]
        wait_for(lambda: len(re.findall(r"\d+%, 0:", screen("sweep"))) == 2)
        screens["sweep", "runs"] = screen("sweep")
        for terminal in ("follower", "leaver"):
            start(terminal, [sys.executable, *follow])
        for terminal in ("follower", "leaver"):  # Ctrl-C before Python is up would end the shell
            wait_for(lambda name=terminal: len(re.findall(r"\d+%, 0:", screen(name))) == 2)
        screens["follower", "runs"] = screen("follower")
        tmux("send-keys", "-t", "leaver", "C-c")
        for terminal in SIZES:
            wait_for(lambda terminal=terminal: "status" in screen(terminal))
            screens[terminal, "ended"] = screen(terminal)
            cursor = tmux("display-message", "-p", "-t", terminal, "#{cursor_flag}")
            screens[terminal, "cursor"] = cursor.strip()
    finally:
        tmux("kill-server")
    return screens


@pytest.mark.parametrize("terminal", ["sweep", "follower"])
def test_the_board_stands_in_a_terminal_while_the_sweep_runs(seen, terminal):
    lines = seen[terminal, "runs"].splitlines()
    headline = r"depth/smoke on digits, part 1 of 2: 2 running; 0:\d\d left, until \d\d:\d\d"
    assert sum(bool(re.fullmatch(headline, line.rstrip())) for line in lines) == 1
    assert sum(line.split() == ["depth", "8"] for line in lines) == 1
    assert [line.split()[0] for line in lines if line.startswith(("plain", "resid"))] == [
        "plain",
        "residual",
    ]
    assert max(map(len, lines)) <= SIZES[terminal][0]


@pytest.mark.parametrize("terminal", ["sweep", "follower"])
def test_in_the_end_lines_stay_and_the_cursor_is_back(seen, terminal):
    text = seen[terminal, "ended"]
    assert text.rstrip().endswith("status 0")
    assert "left" not in text
    assert seen[terminal, "cursor"] == "1"
    for arm in ("plain", "residual"):
        assert text.count(f"{arm}-8-seed0: train_error") == 1


def test_who_follows_may_leave(seen):
    assert "plainres: interrupted\nstatus 130" in seen["leaver", "ended"]
    assert seen["leaver", "cursor"] == "1"
