"""Does training error rise with depth in plain networks, and fall with shortcuts? Section 4.2."""

from collections.abc import Sequence

from experiments.depth import claims, simulation
from experiments.depth.claims import MEASURES, UNITS, DepthRuns, grid_of, table
from experiments.reporting.question import Question, Table
from experiments.reporting.text import percent
from plainres.records.schema import Record


def tables(runs: DepthRuns) -> list[Table]:
    """Running training error; then, for the README and --verbose, all else."""
    grid, judged, records = runs.grid, runs.judged, runs.records
    windows = "/".join(map(str, sorted({row.error_window for row in records})))
    notes = []
    if grid.diverged:
        notes.append(f"Diverged, counted as chance: {', '.join(grid.diverged)}.")
    if grid.missing and not judged.missing:
        missing = f"Missing cells: {', '.join(grid.missing)}."
        notes.append(f"{missing} The verdicts are on the complete part: {judged.extent}.")
    if grid.incomparable:
        notes.append(f"Not comparable with the others: {', '.join(grid.incomparable)}.")
    shown = [Table(f"Running training error in %, last {windows} iterations", table(grid), notes)]
    for measure, unit in UNITS.items():
        rows = table(grid_of(records, grid.measured, grid.seeds, measure))
        title = f"{MEASURES[measure].capitalize()} ({unit})"
        notes = []
        if measure == list(UNITS)[-1] and not judged.missing:
            notes = claims.disagreements(records, judged, runs.margin)
            notes = notes or ["All measures of training agree on every verdict."]
            margin = f"{100 * runs.margin:g} points ({runs.margin:g} nats)"
            notes.append(f"A difference below {margin} counts as none.")
        shown.append(Table(title, rows, notes, terminal=False))
    shown += _simulated(runs)
    note = (
        "Errors in %. Evaluation mode: on unaugmented training images. Test error: of the final "
        "weights; it selects nothing."
    )
    return [*shown, Table("Every cell", _cells(records), [note], terminal=False)]


def _simulated(runs: DepthRuns) -> list[Table]:
    """How often the verdicts are wrong and right; nothing where `make power` did not simulate,
    or where fewer than two whole seeds are asked for."""
    rates = simulation.read_power(runs.folder)
    if not rates or runs.judged.missing or len(runs.judged.seeds) < 2:
        return []
    errors = [
        "In per cent, `reproduced` / `not reproduced`: the largest shares over all claims, of "
        f"{rates[0].simulations:,} simulated sweeps each. Both verdicts are wrong here, because "
        "the claim is just false: criteria lie at their bounds. Where there is no test: all seeds "
        "support / contradict it. In the last columns stands the largest share of the row, with "
        "its 95 % interval; they leave the median out.",
        "Rules, scatter and medians: [docs/method.md](../../../docs/method.md#power-simulation). "
        "Networks scatter as in the records, independently of each other; in the records the mean "
        f"correlation of two networks is {simulation.mean_correlation(runs.judged):+.2f}.",
    ]
    power = (
        "In per cent, `reproduced` / `not reproduced`, with normal scatter. Effects are as "
        "measured, or reversed: each error is mirrored at the middle between the largest and the "
        "smallest mean. `make power` simulates."
    )
    return [
        Table(title, rows, notes, terminal=False)
        for title, rows, notes in (
            ("How often a wrong verdict is given", simulation.error_table(rates), errors),
            ("The same by claim, for the rule in use", simulation.worst_table(rates), []),
            ("How often each claim gets a verdict", simulation.power_table(rates), [power]),
        )
    ]


def _cells(records: Sequence[Record]) -> list[list[str]]:
    measures = ["training error", "evaluation mode", "training loss", "test error"]
    machine = ["parameters", "iterations", "precision", "minutes", "MiB"]
    rows = [["arm", "depth", "seed", "status", *measures, *machine]]
    for row in records:
        loss = "–" if row.train_loss is None else f"{row.train_loss:.3f}"
        errors = [percent(row.train_error), percent(row.train_error_eval), loss]
        errors.append(percent(row.test_error))
        size = [f"{row.num_parameters:,}", f"{row.iterations:,}", row.precision]
        cost = [f"{row.seconds / 60:.1f}", f"{row.peak_memory_mib:.0f}"]
        rows.append([row.arm, str(row.depth), str(row.seed), row.status, *errors, *size, *cost])
    return rows


QUESTION = Question(
    slug="depth",
    title="Depth: does training error rise with depth, and do shortcuts cure it?",
    read=claims.read,
    label=claims.label_of,
    claims=lambda runs: claims.check(runs.judged, runs.margin),
    tables=tables,
    notes=claims.notes,
    options=("depths", "seeds", "margin"),
)
