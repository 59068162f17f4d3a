"""The board: the cells of a sweep as arm × depth, or as a list, as lines of a terminal.

Imports no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from plainres.records.schema import duration
from plainres.run.watch import DONE, FAILED, RUNNING, STOPPED, WAITING, State

STYLES = {RUNNING: "cyan", DONE: "green", FAILED: "bold red", STOPPED: "yellow", WAITING: "dim"}
BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.:-=+*#"
REST, ASCII_REST = "·", " "  # of a run, which is still to be trained
GAP = 2  # columns between two cells
ERROR_WIDTH = len("100.0%")
MIN_WIDTH = len("99%, 12h05")  # of a cell
MIN_CURVE = 6  # columns
NARROW = 18  # cells below this width have their curve on a line of its own
LIST_CURVE = 24


@dataclass(frozen=True)
class Scale:
    """Error → height of a block, on one logarithmic axis for all cells."""

    low: float
    high: float
    ascii_only: bool

    @classmethod
    def of(cls, states: Sequence[State], ascii_only: bool) -> "Scale":
        errors = [error for state in states for error in _curve_of(state) if error > 0] or [1.0]
        return cls(min(errors), max(errors), ascii_only)

    def block(self, error: float) -> str:
        blocks = ASCII if self.ascii_only else BLOCKS
        if self.high <= self.low:
            return blocks[-1]
        share = math.log(max(error, self.low) / self.low) / math.log(self.high / self.low)
        return blocks[round(share * (len(blocks) - 1))]

    def curve(self, state: State, width: int) -> str:
        """A sparkline whose length says how far the cell is; the rest of the width is dots."""
        errors = _curve_of(state)
        done = min(1.0, state.iteration / state.cell.iterations)
        columns = max(1, round(done * width)) if errors else 0
        drawn = [
            self.block(errors[math.ceil((column + 1) * len(errors) / columns) - 1])
            for column in range(columns)
        ]
        rest = (ASCII_REST if self.ascii_only else REST) * (width - columns)
        return "".join(drawn) + (rest if errors or state.status == RUNNING else " " * len(rest))

    @property
    def legend(self) -> str:
        low, high = self.block(self.low), self.block(self.high)
        return f"{low} {self.low:.1%} to {high} {self.high:.1%} training error, logarithmic"


def board(
    states: Sequence[State], headline: str, width: int, height: int, ascii_only: bool = False
) -> list[Text]:
    """The lines, none wider than `width` and no more than `height`.

    Rows are arms (with folder and seed where there are several), columns are depths. Where they do
    not fit, a list of the cells that matter most.
    """
    title, _, counts = headline.rpartition(": ")
    lines = [Text(headline, "bold")]
    if len(headline) > width:
        lines = [Text(title, "bold"), Text(counts, "bold")]
    scale = Scale.of(states, ascii_only)
    room = height - len(lines)
    grid = _grid(states, scale, width, room - 3)
    lines += [Text(), *grid] if grid else _list(states, scale, width, room - 1)
    if any(map(_curve_of, states)):
        lines.append(Text(scale.legend, "dim"))
    for line in lines:
        line.truncate(width)
        line.rstrip()
    return lines[: max(1, height)]


def _grid(states: Sequence[State], scale: Scale, width: int, height: int) -> list[Text]:
    """Header and rows; no lines where they do not fit."""
    rows: dict[str, dict[int, State]] = {}
    for state in states:
        rows.setdefault(_label(state, states), {})[state.cell.depth] = state
    depths = sorted({state.cell.depth for state in states})
    margin = max(map(len, rows)) + GAP
    column = (width - margin + GAP) // len(depths) - GAP
    if column < MIN_WIDTH:
        return []
    column = min(column, 40)
    shapes = (3, 2) if column < NARROW else (2, 1)  # lines of a cell
    fitting = [
        (lines, gap) for lines in shapes for gap in (1, 0) if len(rows) * (lines + gap) <= height
    ]
    if not fitting:
        return []
    lines, gap = fitting[0]
    space = " " * GAP
    header = space.join(f"{depth:<{column}}" for depth in depths)
    drawn = [Text(f"{'depth':<{margin}}{header}", "bold")]
    for label, row in rows.items():
        blocks = [
            _cell(row[depth], scale, column, lines) if depth in row else [Text()] * lines
            for depth in depths
        ]
        for number in range(lines):
            line = Text(f"{label if number == 0 else '':<{margin}}")
            for block in blocks:
                piece = block[number].copy()
                piece.truncate(column, pad=True)
                line.append_text(piece).append(space)
            drawn.append(line)
        drawn += [Text()] * gap
    return drawn


def _cell(state: State, scale: Scale, width: int, lines: int) -> list[Text]:
    error = _error(state)
    if lines == 3:
        said = [Text(scale.curve(state, width)), Text(f"{error} error" if error else "")]
        return [*said, _standing(state, width)]
    if lines == 2:
        curve = scale.curve(state, width - ERROR_WIDTH - 1)
        return [Text(f"{curve} {error:>{ERROR_WIDTH}}"), _standing(state, width)]
    standing = _standing(state, MIN_WIDTH)
    rest = width - ERROR_WIDTH - MIN_WIDTH - 3
    curve = f"{scale.curve(state, rest)} " if rest >= MIN_CURVE else ""
    return [Text(f"{curve}{error:>{ERROR_WIDTH}}  ").append_text(standing)]


def _list(states: Sequence[State], scale: Scale, width: int, height: int) -> list[Text]:
    """One line a cell: what runs or failed, then what waits, then what is done."""
    order = (RUNNING, FAILED, STOPPED, WAITING, DONE)
    shown = sorted(states, key=lambda state: order.index(state.status))
    more: list[Text] = []
    if len(shown) > height:
        cut = shown[max(0, height - 1) :]
        counts = {status: sum(state.status == status for state in cut) for status in order}
        text = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        shown, more = shown[: len(shown) - len(cut)], [Text(f"and {text}", "dim")]
    names = min(max((len(state.name) for state in shown), default=0), width // 2)
    rest = width - names - ERROR_WIDTH - len("100%, 1:05 left") - 3 * GAP
    lines = []
    for state in shown:
        line = Text(f"{state.name[:names]:<{names + GAP}}")
        if rest >= MIN_CURVE:
            line.append(scale.curve(state, min(rest, LIST_CURVE)) + " " * GAP)
        line.append(f"{_error(state):>{ERROR_WIDTH}}" + " " * GAP)
        lines.append(line.append_text(_standing(state, width)))
    return [*lines, *more]


def _label(state: State, states: Sequence[State]) -> str:
    """What tells rows apart."""
    cell = state.cell
    words = [cell.results] if len({other.cell.results for other in states}) > 1 else []
    words.append(cell.arm)
    if len({other.cell.seed for other in states}) > 1:
        words.append(f"seed {cell.seed}")
    return " ".join(words)


def _curve_of(state: State) -> list[float]:
    last = [] if state.train_error is None else [state.train_error]
    return state.train_errors or last


def _error(state: State) -> str:
    return "" if state.train_error is None else f"{state.train_error:.1%}"


def _standing(state: State, width: int) -> Text:
    """State, per cent of the iterations, time left; what fits."""
    percent = f"{100 * state.iteration // state.cell.iterations}%"
    said = {
        WAITING: ["waiting", percent] if state.iteration else ["waiting"],
        RUNNING: [percent],
        DONE: ["done"] if state.seconds is None else ["done", _short(state.seconds)],
        FAILED: ["failed"],
        STOPPED: ["stopped", percent],
    }[state.status]
    if state.status == RUNNING and state.seconds_remaining is not None:
        left = _short(state.seconds_remaining)
        whole = f"{percent}, {left} left"
        said = [whole] if len(whole) <= width else [percent, left]
    return Text(", ".join(said), STYLES[state.status])


def _short(seconds: float) -> str:
    """As m:ss, or 1h05 from an hour on."""
    if seconds < 3600:
        return duration(seconds)
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}h{minutes:02}"
