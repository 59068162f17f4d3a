"""Where a sweep stands, as its own display and `plainres status` say it, from files alone."""

import io
import json
import os
import socket
import time
from pathlib import Path

import pytest
from composing import ROOT, python
from made_up import made_up_record

from experiments import __main__ as command
from plainres.records import files, locks, plan
from plainres.records.plan import Plan, PlannedCell
from plainres.records.schema import duration
from plainres.run import sweep
from plainres.run.board import ASCII, BLOCKS, board
from plainres.run.display import Display
from plainres.run.estimate import end_of, expected_seconds
from plainres.run.watch import DONE, FAILED, RUNNING, STOPPED, WAITING, State, Watch

ARMS, DEPTHS = ("plain", "residual"), (110, 56, 44, 32, 20)
HASH = "0123456789ab"
PLANS: list[Plan] = []  # of the test that runs


def planned(arm="plain", depth=20, seed=0, results="quick", **values) -> PlannedCell:
    folder = f"{arm}-{depth}-seed{seed}"
    folder = folder if results == "quick" else f"../../{results}/runs/{folder}"
    own = {"iterations": 100, "config_hash": HASH, "keep_weights": False, "finished": False}
    values = {"expected": None, **own, **values}
    return PlannedCell(arm, depth, seed, results, folder, **values)


def planned_sweep(results: Path, cells, jobs=1, sweep="ours", **values) -> Plan:
    path = plan.path_of(results / "depth" / "quick", sweep)
    path.parent.mkdir(parents=True, exist_ok=True)
    PLANS.append(Plan(sweep, "depth/quick on digits", jobs, cells, path, **values))
    PLANS[-1].write()
    return PLANS[-1]


@pytest.fixture(autouse=True)
def plans_are_closed():
    yield
    while PLANS:
        PLANS.pop().close()


def running(of: Plan, cell: PlannedCell, iteration: int, left: float | None, **values) -> None:
    """A progress file that a run of the sweep wrote, by a clock an hour behind this one."""
    path = of.folder(cell) / files.PROGRESS_FILE
    place = {"iteration": iteration, "iterations": cell.iterations, "seconds_remaining": left}
    own = {"pid": 1, "train_error": 0.5, "seconds": 6.0, "sweep": of.sweep}
    files.write_json(path, place | own | values)
    os.utime(path, (time.time() - 3600,) * 2)


def finished(of: Plan, cell: PlannedCell, **values) -> None:
    own = {"arm": cell.arm, "depth": cell.depth, "seed": cell.seed, "config_hash": HASH}
    record = made_up_record(**own, shortcut="", iterations=cell.iterations, **values)
    files.write_record(of.folder(cell), record)


def failed(of: Plan, cell: PlannedCell, sweep_id: str = "ours") -> None:
    path = of.folder(cell) / files.FAILURE_FILE
    files.write_json(path, {"sweep": sweep_id, "text": "no space left"})


def test_waiting_running_failed_and_done_are_told_apart(tmp_path):
    """File times say nothing: they may be of another machine's clock."""
    cells = [planned(depth=depth) for depth in (20, 14, 8, 26, 32, 38, 44, 50)]
    own = planned_sweep(tmp_path, cells)
    running(own, cells[0], 50, 50.0)
    failed(own, cells[1])
    files.write_text(own.folder(cells[2]) / files.PROGRESS_FILE, '{"of": "another program"}')
    running(own, cells[3], 75, 12.0, sweep="an earlier one")  # it waits, and will continue
    (own.folder(cells[3]) / files.CHECKPOINT_FILES[0]).touch()
    running(own, cells[7], 75, 12.0, sweep="an earlier one")  # it will begin again
    failed(own, cells[4], "an earlier one")
    finished(own, cells[5])
    own.fail(own.folder(cells[6]), "its process was killed")
    with own.path.open("a") as file:
        file.write('{"said": "by later code"}\n3\n')
    for watched in (own, plan.read(own.path)):
        states = Watch(watched).states()
        expected = [RUNNING, FAILED, WAITING, WAITING, WAITING, DONE, FAILED, WAITING]
        assert [state.status for state in states] == expected
        assert states[1].line == "plain-14-seed0 failed: no space left"
        assert (states[3].iteration, states[7].iteration) == (75, 0)
        assert states[5].line.startswith("plain-38-seed0: train_error 2.00%")
        assert states[6].line == "plain-44-seed0 failed: its process was killed"


@pytest.mark.parametrize("keep_weights", [True, False])
def test_a_record_finishes_a_cell_of_its_configuration_that_has_its_weights(tmp_path, keep_weights):
    cell = planned(keep_weights=keep_weights)
    watch = Watch(planned_sweep(tmp_path, [cell]))
    finished(watch.plan, cell)
    assert (watch.states()[0].status == DONE) != keep_weights
    other = Watch(planned_sweep(tmp_path, [planned(config_hash="f" * 12)]))
    assert other.states()[0].status == WAITING
    (watch.plan.folder(cell) / files.RECORD_FILE).write_text("{")
    assert Watch(watch.plan).states()[0].status == WAITING


def test_what_is_left_goes_by_the_pace_of_the_same_network(tmp_path):
    cells = [planned(arm, depth) for depth in (8, 14) for arm in ("plain", "se")]
    watch = Watch(planned_sweep(tmp_path, cells))
    assert watch.seconds_remaining(watch.states()) is None
    running(watch.plan, cells[0], 50, 6.0)
    running(watch.plan, cells[1], 50, 12.0)
    assert watch.seconds_remaining(watch.states()) == pytest.approx(12 + (12 + 24) * 14 / 8)
    alone = Watch(planned_sweep(tmp_path, [cells[1], cells[2]]))  # plain-14 beside se-8
    assert alone.seconds_remaining(alone.states()) == pytest.approx(12 + 2 * 12 * 14 / 8)


def test_before_anything_runs_the_estimate_is_what_the_cells_took_earlier(tmp_path):
    rows = [
        made_up_record(arm="plain", depth=depth, seconds=seconds, iterations=100)
        for depth, seconds in ((20, 10.0), (32, 16.0), (44, 60.0), (56, 28.0), (110, 54.0))
    ]
    assert expected_seconds(rows, "plain", 44, 100) == pytest.approx(22)  # beside another program
    assert expected_seconds(rows, "plain", 26, 1000) == pytest.approx(130)
    assert expected_seconds(rows, "residual", 56, 100) == pytest.approx(28)  # no row of its own
    assert expected_seconds([], "plain", 20, 100) is None
    cells = [planned(depth=20, expected=12.0), planned(depth=40, expected=24.0)]
    watch = Watch(planned_sweep(tmp_path, cells))
    assert watch.seconds_remaining(watch.states()) == pytest.approx(36)
    running(watch.plan, cells[1], 50, 6.0)  # twice as fast as then
    assert watch.seconds_remaining(watch.states()) == pytest.approx(6 + 6)


def test_start_and_last_evaluation_count_for_the_cells_that_wait(tmp_path):
    cells = [planned(seed=seed) for seed in range(3)]
    watch = Watch(planned_sweep(tmp_path, cells))
    finished(watch.plan, cells[0], seconds=100.0)
    lock = files.lock_of(watch.plan.folder(cells[0]))
    lock.write_text("1")
    ended = (watch.plan.folder(cells[0]) / files.RECORD_FILE).stat().st_mtime
    os.utime(lock, (ended - 107,) * 2)
    assert watch.seconds_remaining(watch.states()) == pytest.approx(2 * 107, abs=0.1)


def test_the_end_is_that_of_the_job_that_ends_last():
    assert end_of(2, [10, 4], []) == 10
    assert end_of(10**12, [10], [4]) == 10, "no more places than cells"
    assert end_of(2, [10, 4], [5, 3, 6]) == 10 + 6
    assert end_of(3, [10], [50]) == 50
    assert end_of(1, [], []) == 0


class Clock:
    """A made-up sweep: cells of known cost, two at a time, in the order of their launch."""

    def __init__(self, results: Path, cells, seconds, jobs: int, beside: float):
        self.watch = Watch(planned_sweep(results, cells, jobs))
        self.seconds = dict(zip(cells, seconds, strict=True))
        self.beside, ends = beside, [0.0] * jobs
        self.began = {}
        for cell in cells:
            first = ends.index(min(ends))
            self.began[cell] = ends[first]
            ends[first] += beside + self.seconds[cell]
        self.end = max(ends)

    def left(self, now: float) -> float | None:
        """What the watch says at a time, from the files as they are then."""
        sweep = self.watch.plan
        for cell, began in self.began.items():
            gone = now - began - self.beside
            if gone >= self.seconds[cell]:
                finished(sweep, cell, seconds=self.seconds[cell])
            elif gone > 0:
                share = int(cell.iterations * gone / self.seconds[cell])
                left = gone * (cell.iterations - share) / share if share else None
                running(sweep, cell, share, left, seconds=gone)
        return self.watch.seconds_remaining(self.watch.states())


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_after_a_third_the_end_is_right_within_a_fifth(tmp_path, jobs):
    """Also where this machine, and deep networks on it, are slower than the tables say."""
    cells = [
        planned(arm, depth, expected=2.0 * depth, iterations=1000)
        for depth in DEPTHS
        for arm in ARMS
    ]
    seconds = [3 + 3.1 * cell.depth + 0.004 * cell.depth**2 for cell in cells]
    clock = Clock(tmp_path, cells, seconds, jobs, beside=4)
    for share in (0.34, 0.5, 0.67, 0.9):
        now = share * clock.end
        assert now + clock.left(now) == pytest.approx(clock.end, rel=0.2 * (1 - share))


def test_the_end_of_a_recorded_sweep_is_right_within_a_fifth_from_its_first_third_on(tmp_path):
    """Ten cells on digits, two at a time, while other programs took more than half of the machine.

    Each moment has status, iteration, seconds and seconds_remaining of every cell, as the sweep's
    files had them.
    """
    trace = json.loads((ROOT / "tests" / "trace_of_a_sweep.json").read_text())
    cells = [
        planned(arm, depth, iterations=iterations, expected=expected)
        for arm, depth, iterations, expected in trace["cells"]
    ]
    for number, (now, states) in enumerate(trace["moments"]):
        watch = Watch(planned_sweep(tmp_path / str(number), cells, trace["jobs"]))
        for cell, (status, iteration, seconds, left) in zip(cells, states, strict=True):
            if status == DONE:
                finished(watch.plan, cell, seconds=seconds)
            elif status == RUNNING:
                running(watch.plan, cell, iteration, left, seconds=seconds)
        end = now + watch.seconds_remaining(watch.states())
        assert end == pytest.approx(trace["end"], rel=0.2), now


def shown(states, width, height, ascii_only=False) -> list[str]:
    headline = "depth/quick on digits: 3 done, 2 running, 5 waiting; 3:20 left, until 14:05"
    lines = [line.plain for line in board(states, headline, width, height, ascii_only)]
    assert max(map(len, lines)) <= width
    assert len(lines) <= height
    return lines


def ten_cells() -> list[State]:
    states = [State(f"{arm}-{depth}", planned(arm, depth)) for depth in DEPTHS for arm in ARMS]
    for state, error in zip(states, (0.8, 0.01, 0.4), strict=False):
        state.status, state.iteration, state.train_error, state.seconds = DONE, 100, error, 200
        state.train_errors = [0.9, 0.8, error]
    for state in states[3:5]:
        state.status, state.iteration, state.train_error = RUNNING, 62, 0.123
        state.train_errors, state.seconds_remaining = [0.9, 0.5, 0.123], 75.0
    states[5].status = FAILED
    return states


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50), (100, 12)])
def test_the_board_is_arm_by_depth(width, height):
    lines = shown(ten_cells(), width, height)
    text = "\n".join(lines)
    header = next(line for line in lines if line.startswith("depth "))
    assert header.split() == ["depth", "20", "32", "44", "56", "110"]
    assert [line.split()[0] for line in lines if line.startswith(ARMS)] == list(ARMS)
    assert "3:20 left, until 14:05" in text
    assert text.count("62%, 1:15") == 2
    assert text.count("12.3%") == 2
    assert text.count("done, 3:20") == 3
    assert text.count("waiting") == 4 + 1  # of the headline
    assert text.count("failed") == 1
    assert "▁ 1.0% to █ 90.0% training error, logarithmic" in text


def test_curves_share_one_logarithmic_axis_and_are_as_long_as_the_cell_is_far():
    half = State("", planned("plain"), RUNNING, 50, 0.09, [0.9, 0.09], seconds_remaining=1.0)
    whole = State("", planned("residual"), DONE, 100, 0.009, [0.9, 0.09, 0.009])
    lines = shown([half, whole], 120, 30)
    plain, residual = (next(ln for ln in lines if ln.startswith(arm)).split()[1] for arm in ARMS)
    assert plain[0] == residual[0] == "█"
    assert plain.rstrip("·")[-1] in "▄▅"  # 9 % is half way between 0.9 % and 90 %
    assert plain.count("·") == pytest.approx(len(plain) / 2, abs=1)
    assert residual[-1] == "▁"


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (200, 60), (20, 3), (80, 1)])
def test_a_hundred_cells_fit_whatever_terminal(width, height):
    states = [
        State(f"residual-{depth}-seed{seed}", planned("residual", depth, seed))
        for depth in DEPTHS
        for seed in range(20)
    ]
    states[77].status, states[77].iteration, states[77].train_error = RUNNING, 50, 0.5
    states[78].status = FAILED
    text = "\n".join(shown(states, width, height))
    if (width, height) == (80, 24):
        assert "50%" in text
        assert "failed" in text
        assert "and 79 waiting" in text


def test_where_the_encoding_has_no_blocks_the_board_is_ascii():
    for width, height in ((80, 24), (80, 6)):
        text = "\n".join(shown(ten_cells(), width, height, ascii_only=True))
        assert text.isascii()
        assert ASCII[0] in text
    assert not set(ASCII) & set(BLOCKS)


def test_rows_name_seeds_and_folders_where_there_are_several(tmp_path):
    states = [
        State("x", planned(arm, depth, seed, results))
        for results in ("baseline", "nesterov")
        for arm in ARMS
        for seed in (0, 1)
        for depth in (20, 56)
    ]
    lines = shown(states, 100, 50)
    assert sum(line.startswith("nesterov residual seed 1") for line in lines) == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("file", "environment", "drawn"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm", "FORCE_COLOR": "1"}, False),
    ],
)
def test_a_board_is_drawn_on_capable_terminals_alone_and_lines_elsewhere(
    tmp_path, monkeypatch, file, environment, drawn
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    cells = [planned(), planned(depth=56)]
    own = planned_sweep(tmp_path, cells)
    running(own, cells[0], 50, 6.0)
    finished(own, cells[1])
    screen = sweep.Screen(file=file, width=100, height=30)
    gathered = []
    display = Display([Watch(own)], screen, lambda: gathered.append(1))
    display.start()
    display.stop()
    text = file.getvalue()
    assert ("\x1b" in text) == drawn
    assert ("depth" if drawn else "50/100") in text
    assert text.count("plain-56-seed0: train_error") == len(gathered) == 1


def test_two_sweeps_are_shown_one_above_the_other(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    both = [planned_sweep(tmp_path, [planned()], sweep=name) for name in ("one", "two")]
    finished(both[0], planned())
    both[0].title, both[1].title = "depth/quick", "signal/quick"
    screen = sweep.Screen(file=Terminal(), width=100, height=30)
    display = Display([Watch(each) for each in both], screen)
    display.start()
    display.stop()
    for title in ("depth/quick", "signal/quick"):
        assert f"{title}: 1 done; 0:00 left" in screen.file.getvalue()
    assert screen.file.getvalue().count("plain-20-seed0: train_error") == 1


def status(capsys, *words: str) -> str:
    assert command.main(["status", *words]) == 0
    return capsys.readouterr().out


def test_status_shows_what_runs_and_what_stands(tmp_path, capsys):
    where = f"results_dir={tmp_path}"
    assert status(capsys, where) == f"no sweep is running, and none has left a plan in {tmp_path}\n"
    cells = [planned(depth=depth) for depth in (20, 56, 110)]
    own = planned_sweep(tmp_path, cells)
    running(own, cells[0], 50, 6.0)
    finished(own, cells[1])
    text = status(capsys, where)
    assert "depth/quick on digits: 1 done, 1 running, 1 waiting; " in text
    assert "50%, 0:06" in text
    assert "no sweep" not in text
    assert "depth/quick" not in status(capsys, "signal", where)
    (own.folder(cells[0]) / files.CHECKPOINT_FILE).write_bytes(b"")
    own.close()  # as the end of the process does
    text = status(capsys, "depth", where, "FOLLOW=1")
    assert text == (
        "no sweep is running\n"
        "depth/quick on digits: stopped; 1 of 3 cells are finished, 1 continue from a checkpoint\n"
    )


def test_status_as_json_is_the_same_state(tmp_path, capsys):
    cells = [planned(depth=20), planned(depth=56)]
    own = planned_sweep(tmp_path, cells, jobs=2)
    running(own, cells[0], 50, 6.0, train_errors=[0.9, 0.5])
    (seen,) = json.loads(status(capsys, f"results_dir={tmp_path}", "JSON=1"))["sweeps"]
    assert (seen["sweep"], seen["jobs"], seen["running"]) == ("ours", 2, True)
    assert seen["seconds_remaining"] == pytest.approx(12 * 56 / 20)
    first, second = seen["cells"]
    assert first["train_errors"] == [0.9, 0.5]
    assert (first["status"], first["iteration"], first["depth"]) == (RUNNING, 50, 20)
    assert second["status"] == WAITING
    own.close()
    (seen,) = json.loads(status(capsys, f"results_dir={tmp_path}", "JSON=1", "FOLLOW=1"))["sweeps"]
    assert (seen["running"], seen["seconds_remaining"]) == (False, None)
    assert seen["cells"][0]["status"] == STOPPED


def test_status_refuses_what_it_does_not_know(capsys):
    with pytest.raises(SystemExit):
        command.main(["status", "seed=0"])
    assert "status takes no seed=0; it takes results_dir=" in capsys.readouterr().err


def test_status_needs_neither_torch_nor_hydra(tmp_path):
    script = (
        "import sys, experiments.__main__ as command\n"
        f"command.main(['status', 'results_dir={tmp_path}'])\n"
        "print(sorted({'torch', 'hydra', 'numpy', 'matplotlib'} & sys.modules.keys()))"
    )
    assert python("-c", script).stdout.endswith("\n[]\n")


def test_a_new_sweep_takes_the_place_of_plans_whose_sweeps_have_ended(tmp_path):
    planned_sweep(tmp_path, [planned()], sweep="one")
    ended = planned_sweep(tmp_path, [planned()], sweep="two")
    ended.close()
    planned_sweep(tmp_path, [planned()], sweep="three")
    assert {each.sweep for each in plan.find(tmp_path)} == {"one", "three"}
    assert plan.read(ended.path) is None
    assert ended.is_running() is False


def test_a_title_may_have_any_character(tmp_path):
    own = planned_sweep(tmp_path, [planned()])
    own.close()
    own.title = "depth/quick on \u2028 and \x85"
    own.write()
    assert plan.read(own.path).title == own.title


def test_of_a_sweep_on_another_machine_only_a_lock_is_believed(tmp_path, monkeypatch):
    own = planned_sweep(tmp_path, [planned()], host="elsewhere", pid=1)
    read = plan.read(own.path)
    assert read.is_running() is True
    own.close()
    assert read.is_running() is None  # its lock may not be seen from here
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert read.is_running() is False
    monkeypatch.setattr(plan, "is_locked", lambda path: None)  # no locks at all
    assert read.is_running() is True  # process 1 lives
    monkeypatch.undo()
    assert plan.read(own.path).is_running() is False, "its process has said that it ended"
    assert locks.is_locked(own.path) is False


def test_a_torn_line_of_a_plan_waits_for_its_end(tmp_path):
    own = planned_sweep(tmp_path, [planned()])
    own.notify("a cell is being trained by process 7")
    whole = own.path.read_text()
    own.path.write_text(whole[:-5])
    assert plan.read(own.path).notices == []
    own.path.write_text(whole[:30])
    assert plan.read(own.path) is None


def test_durations_read_as_clock_times():
    seconds = (None, 0.4, 75, 3675)
    assert [duration(each) for each in seconds] == ["?:??", "0:00", "1:15", "1:01:15"]
