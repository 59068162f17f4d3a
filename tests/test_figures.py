"""Figures and generated READMEs from tables alone."""

import re
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise

import pytest
from composing import ROOT
from drawn import caption, cut_off, overlapping, texts_of, title
from made_up import made_up_curve, made_up_record
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from experiments.depth import QUESTION, figures
from experiments.depth.claims import published_for, summary
from experiments.judging import verdict
from experiments.judging.inference import Criterion
from experiments.judging.verdict import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Claim
from experiments.reporting import style
from experiments.reporting.markdown import label_of, protocols_of
from experiments.reporting.text import cells_of
from plainres.records.files import CURVES_TABLE, RUNS_TABLE, read_curves, read_runs, write_table
from plainres.records.schema import DIVERGED, CurvePoint, Record


def tables(folder, more=0.0, **changes) -> None:
    rows = [
        made_up_record(
            arm=arm, depth=depth, seed=seed, train_error=error + more + 0.001 * seed, **changes
        )
        for arm, errors in (("plain", (0.03, 0.48)), ("residual", (0.02, 0.01)))
        for depth, error in zip((20, 56), errors, strict=True)
        for seed in range(2)
    ]
    write_table(folder / RUNS_TABLE, rows, Record)
    write_table(
        folder / CURVES_TABLE, [point for row in rows for point in made_up_curve(row)], CurvePoint
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "quick"
    tables(folder)
    return folder, QUESTION.write(folder)


def test_every_figure_is_a_png_and_an_svg_and_a_readme_shows_them(made):
    folder, written = made
    assert {path.name for path in written} == {
        "curves.png",
        "curves.svg",
        "error_by_depth.png",
        "error_by_depth.svg",
        "README.md",
    }
    for path in folder.glob("figures/*.png"):
        with Image.open(path) as image:
            assert image.size == (1500, 840)
            assert len(image.convert("RGB").getcolors(1 << 20)) > 100, "an empty picture"
    readme = (folder / "README.md").read_text()
    for name in ("figures/curves.png", "figures/error_by_depth.png"):
        assert f"]({name})" in readme


def test_figures_start_from_the_defaults_whatever_a_matplotlibrc_says(made, tmp_path):
    folder = tmp_path / "quick"
    tables(folder)
    users = {
        "savefig.bbox": "tight",
        "savefig.transparent": True,
        "text.usetex": True,
        "lines.linewidth": 5,
        "axes.facecolor": "black",
        "svg.image_inline": False,
    }
    with plt.rc_context(users):
        written = QUESTION.write(folder)
    for before, after in zip(made[1], written, strict=True):
        if before.suffix in (".png", ".svg"):
            assert before.read_bytes() == after.read_bytes(), after.name


def test_the_last_digits_of_the_layout_change_no_byte(made, tmp_path, monkeypatch):
    execute = ConstrainedLayoutEngine.execute

    def nudged(engine, figure):
        execute(engine, figure)
        for axis in figure.axes:
            axis.set_position(axis.get_position(original=True).translated(1e-13, 1e-13))

    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", nudged)
    tables(tmp_path / "quick")
    for before, after in zip(made[1], QUESTION.write(tmp_path / "quick"), strict=True):
        if before.suffix in (".png", ".svg"):
            assert before.read_bytes() == after.read_bytes(), after.name


def test_a_changed_number_changes_figure_and_table(made, tmp_path):
    tables(tmp_path / "changed", more=0.001, test_error=0.5)
    written = {path.name: path.read_bytes() for path in QUESTION.write(tmp_path / "changed")}
    for path in made[1]:
        if path.suffix != ".md":
            assert path.read_bytes() != written[path.name]
    texts = [QUESTION.text(folder, verbose=True) for folder in (made[0], tmp_path / "changed")]
    assert texts[0] != texts[1]


def test_every_figure_and_the_readme_say_data_protocol_and_seeds(made):
    rows = read_runs(made[0])
    label = "digits · protocol quick · 2 seeds"
    assert label_of(rows) == label
    assert f"\n{label}.\n" in (made[0] / "README.md").read_text()
    for figure in (figures.curves_figure(rows, []), figures.depth_figure(rows, [])):
        assert label in caption(figure)
        plt.close(figure)


def test_where_cells_are_missing_the_complete_part_is_judged(made):
    text = " ".join(QUESTION.text(made[0]).split())
    assert "The verdicts are on the complete part: 20, 56 layers, seeds 0, 1." in text
    shown = summary(read_runs(made[0]))
    rises = "- (a) plain: training error rises with depth (20 → 56): **supports**"
    assert f"{rises} (n = 2; 20, 56 layers, seeds 0, 1)" in " ".join(shown.split())


def test_rows_of_the_protocol_that_used_to_be_called_cpu_have_its_name():
    cpu = made_up_record(protocol="cpu", instruction_set="")
    rows = [cpu, replace(cpu, precision="bf16-mixed")]
    labels = [label_of([row]).split(" · ")[1] for row in rows]
    assert labels == ["protocol cpu", "protocol cpu-bf16"]
    assert protocols_of(rows) == ["cpu-bf16"], "of robustness, whose float32 is one setting"


def test_unequal_numbers_of_seeds_are_said():
    rows = [made_up_record(seed=seed) for seed in range(3)] + [made_up_record(depth=56)]
    assert label_of(rows).endswith("1 to 3 seeds")


def test_training_error_by_depth_plain_left_residual_right(made):
    rows = read_runs(made[0])
    figure = figures.curves_figure(rows, read_curves(made[0]))
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("plain networks", "residual networks")
    for axis in (left, right):
        lines = axis.get_lines()
        assert [line.get_label() for line in lines] == ["20 layers", "56 layers"]
        colours = [style.depth_colour(depth) for depth in (20, 56)]
        assert [line.get_color() for line in lines] == colours
        assert [text.get_text() for text in axis.texts] == ["20 layers", "56 layers"]
    train = left.get_lines()[1]  # plain-56: the mean of two seeds ends near 48.05 %
    assert train.get_ydata()[-1] == pytest.approx(
        100 * (0.4805 + (0.9 - 0.4805) * 0.0067), rel=0.01
    )
    plt.close(figure)


def test_points_are_seeds_and_the_line_is_their_mean(made):
    figure = figures.depth_figure(read_runs(made[0]), [])
    lines = figure.axes[0].get_lines()
    points, mean = lines[1], lines[2]  # plain-56's seeds, then the line of the arm
    assert list(points.get_ydata()) == pytest.approx([48.0, 48.1])
    assert list(mean.get_ydata()) == pytest.approx([3.05, 48.05])
    plt.close(figure)


def mixed_figure():
    """Three seeds at 20 and 56 layers, one at 32."""
    seeds = {20: 3, 32: 1, 56: 3}
    cells = [(arm, d, seed) for arm in ("plain", "residual") for d in seeds for seed in range(3)]
    rows = [
        made_up_record(arm=arm, depth=d, seed=seed, train_error=d / 100)
        for arm, d, seed in cells
        if seed < seeds[d]
    ]
    return figures.depth_figure(rows, [])


def test_where_a_line_joins_fewer_seeds_the_marker_is_open_and_the_caption_says_so():
    figure = mixed_figure()
    axis = figure.axes[0]
    lines = axis.get_lines()
    opened = [
        line for line in lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())
    ]
    assert [list(line.get_xdata()) for line in opened] == [[32], [32]]
    assert [list(line.get_ydata()) for line in opened] == [[pytest.approx(32)]] * 2
    assert " open: 1 of 3 seeds · " in caption(figure)
    assert [text.get_text() for text in axis.texts] == ["guessing", "plain", "residual"]
    plt.close(figure)


def test_markers_are_filled_where_all_points_have_as_many_seeds(made):
    figure = figures.depth_figure(read_runs(made[0]), [])
    assert not [
        line for line in figure.axes[0].get_lines() if line.get_markerfacecolor() == "white"
    ]
    assert "open" not in caption(figure)
    plt.close(figure)


def test_a_long_label_is_wrapped_and_not_cut_off():
    label = "photographs of the flowers of one garden, taken every morning of a summer, by colour"
    rows = [made_up_record(depth=depth, data_label=label, protocol=label) for depth in (20, 56)]
    with plt.rc_context(style.STYLE):
        assert not cut_off(texts_of(figures.depth_figure(rows, [])))
        narrow = style.titled(plt.figure(figsize=(4, 3), layout="constrained"), label, label)
        assert not cut_off(texts_of(narrow))


def contrast(colour: str) -> float:
    """Against white, from 1 to 21 (WCAG 2.1)."""
    parts = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in to_rgb(colour))
    luminance = sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), parts, strict=True))
    return 1.05 / (luminance + 0.05)


def test_every_colour_can_be_seen_on_white():
    arms = [colour for colour, _, _ in style.ARM_STYLES.values()]
    depths = [style.depth_colour(depth) for depth in (*style.DEPTH_COLOURS, 1202)]
    colours = {*style.PALETTE, *arms, *depths}
    assert min(map(contrast, colours)) >= 3
    assert len(set(depths)) == len(depths)
    assert contrast(style.GREY) >= 4.5, "text"


def test_a_panel_shows_at_most_five_depths_those_of_every_question_first():
    assert style.shown([110, 8, 14, 20, 32, 44, 56, 20]) == [20, 32, 44, 56, 110]
    assert style.shown([1202, 8, 56]) == [8, 56, 1202]
    assert len(style.shown(range(20))) == style.MOST_LINES


def test_labels_keep_their_order_and_their_distance_and_move_little():
    heights = [0.30, 0.10, 0.102, 0.101, 0.99]
    placed = style.spread(heights, 0.05)
    assert sorted(range(5), key=placed.__getitem__) == sorted(range(5), key=heights.__getitem__)
    ordered = sorted(placed)
    assert all(above - below >= 0.05 - 1e-9 for below, above in pairwise(ordered))
    assert placed[0] == pytest.approx(0.30), "alone"
    assert placed[4] == pytest.approx(0.99)
    assert max(abs(new - old) for new, old in zip(placed, heights, strict=True)) < 0.051
    assert min(style.spread([0.0, 0.0], 0.1)) >= 0
    assert max(style.spread([1.0, 1.0], 0.1)) <= 1


@pytest.mark.parametrize("rows", [1, 2])
def test_lines_that_end_at_one_point_have_labels_beside_each_other(rows):
    with plt.rc_context(style.STYLE):
        figure, axes = plt.subplots(rows, 2, squeeze=False, layout="constrained")
        for axis in axes.flat:
            for number in range(style.MOST_LINES):
                axis.plot([0, 1, 2], [number, 5, 3], label=f"{number} layers")
            axis.plot([0, 1], [0, 1], linestyle="none", marker="o", label="a point")
            style.label_ends(axis)
            axis.set_xlabel("iteration")
        texts = texts_of(style.titled(figure, "A title", "a caption"))
    labels = [text.text for text in texts if text.text.endswith(" layers")]
    assert len(labels) == style.MOST_LINES * rows * 2
    assert "a point" not in {text.text for text in texts}
    assert not overlapping(texts)
    assert not cut_off(texts)


def test_a_legend_lies_between_the_axes_and_the_caption():
    with plt.rc_context(style.STYLE):
        figure, axis = plt.subplots(layout="constrained")
        axis.plot([1, 2], [1, 2])
        axis.set_xlabel("iteration")
        keys = [style.key_line(f"line number {number}", color="black") for number in range(7)]
        texts = texts_of(style.titled(figure, "A title", "a caption", keys=keys))
    assert not overlapping(texts)
    assert not cut_off(texts)
    heights = {text.text: text.extent.y0 for text in texts}
    assert heights["a caption"] < heights["line number 6"] < heights["iteration"]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ((REPRODUCED, REPRODUCED), "It holds"),
        ((NOT_REPRODUCED, NOT_REPRODUCED), "Does it hold? Not reproduced"),
        ((REPRODUCED, INCONCLUSIVE), "Does it hold? Of 2 claims 1 reproduced, 1 inconclusive"),
        ((), "Does it hold? Not measured"),
    ],
)
def test_a_title_says_a_finding_only_where_the_claims_hold(verdicts, expected):
    claims = [Claim("", verdict, "") for verdict in verdicts]
    assert style.message("It holds", "Does it hold?", claims) == expected


@pytest.mark.parametrize(
    ("effects", "expected"),
    [
        ((0.1, 0.2), "Does it hold? Supported, not tested"),
        ((-0.1, -0.2), "Does it hold? Contradicted, not tested"),
        ((0.1, -0.2), "Does it hold? Of 2 claims 1 supported, 1 contradicted, not tested"),
    ],
)
def test_a_title_of_one_seed_says_that_nothing_is_tested(effects, expected):
    claims = verdict.corrected(
        [verdict.judge("", [Criterion("a - b", (effect,))], "") for effect in effects]
    )
    assert style.message("It holds", "Does it hold?", claims) == expected


def test_a_title_says_what_is_missing_and_that_all_seeds_speak_against_it():
    missing = Claim("", INCONCLUSIVE, "missing: plain-56")
    assert style.message("", "Does it hold?", [missing]) == "Does it hold? Not measured"
    against, _ = verdict.corrected(
        [
            verdict.judge("", [Criterion(str(n), (value,) * 8, above=above) for n in "abcdef"], "")
            for value, above in ((-0.1, True), (0.1, True))
        ]
    )
    expected = "Does it hold? Inconclusive, all seeds speak against it"
    assert style.message("", "Does it hold?", [against]) == expected


def test_few_seeds_alone_make_a_direction():
    """Not a rule of its own that leaves a claim open however many seeds it has."""
    criterion = Criterion("a - b", (0.1,) * 9)
    (own,) = verdict.corrected([Claim("", INCONCLUSIVE, "", (criterion,))])
    (few,) = verdict.corrected([Claim("", INCONCLUSIVE, "", (replace(criterion, values=(0.1,)),))])
    assert (own.words, few.words) == ("inconclusive", "undecided")


def test_the_title_follows_the_records(made, tmp_path):
    rows = read_runs(made[0])
    figure = figures.depth_figure(rows, [])
    assert title(figure).endswith("and residual ones not? Supported, not tested")
    plt.close(figure)
    mirrored = {20: 56, 56: 20}
    figure = figures.depth_figure([replace(row, depth=mirrored[row.depth]) for row in rows], [])
    assert title(figure).endswith("Contradicted, not tested")
    plt.close(figure)


def test_no_two_committed_figures_are_the_same_picture():
    names: dict[str, list[str]] = {}
    for path in sorted((ROOT / "results").rglob("*.png")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith("results/local/"):
            with Image.open(path) as image:
                pixels = sha256(image.convert("RGB").tobytes()).hexdigest()
            names.setdefault(pixels, []).append(name)
    assert len(names) > 50
    assert not [same for same in names.values() if len(same) > 1]


@pytest.mark.parametrize(
    ("protocol", "label", "comparable"),
    [
        ("paper", "CIFAR-10", True),
        ("paper", "CIFAR-10 (JPEG copy)", True),
        ("cpu", "CIFAR-10", False),
        ("paper", "CIFAR-100", False),
        ("paper", "digits", False),
    ],
)
def test_published_errors_appear_only_beside_comparable_ones(protocol, label, comparable):
    rows = [
        made_up_record(protocol=protocol, data_label=label, arm=arm, depth=depth)
        for arm in ("plain", "residual")
        for depth in (20, 56)
    ]
    published = published_for(rows)
    assert bool(published) == comparable
    figure = figures.depth_figure(rows, published)
    legend = [text.get_text() for held in figure.legends for text in held.get_texts()]
    assert ("He et al. 2015" in legend) == comparable
    drawn = sum(
        len(line.get_xdata())
        for axis in figure.axes
        for line in axis.get_lines()
        if "2015" in str(line.get_label())
    )
    assert drawn == sum(row["kind"] != "reproduction" for row in published), (
        "every value of the paper, at whatever depth"
    )
    plt.close(figure)


def test_published_facts_are_the_papers():
    rows = published_for([made_up_record(protocol="paper", data_label="CIFAR-10")])
    paper = {
        (row["arm"], int(row["depth"])): float(row["error_percent"])
        for row in rows
        if row["kind"] == "paper" and row["split"] == "test"
    }
    assert paper["residual", 20] == 8.75
    assert paper["residual", 56] == 6.97
    assert paper["residual", 1202] == 7.93


def test_a_diverged_run_is_a_row_and_a_point(tmp_path):
    rows = [
        made_up_record(
            arm="plain",
            status=DIVERGED,
            train_error=None,
            train_error_eval=None,
            train_loss=None,
            test_error=None,
        )
    ]
    write_table(tmp_path / RUNS_TABLE, rows, Record)
    QUESTION.write(tmp_path)
    text = QUESTION.text(tmp_path, verbose=True)
    assert re.search(r"plain +20 +0 +diverged +– ", text)
    figure = figures.depth_figure(rows, [])
    assert "diverged runs count as guessing" in caption(figure)
    assert list(figure.axes[0].get_lines()[0].get_ydata()) == [pytest.approx(90)]
    plt.close(figure)


def test_a_label_may_have_dollars(tmp_path):
    figure = plt.figure(figsize=(4, 3), layout="constrained")
    label = r"a $_$ b and 5 $"
    style.titled(figure, label, label).savefig(tmp_path / "figure.png")
    assert {title(figure), caption(figure)} == {label.replace("$", r"\$")}
    plt.close(figure)


def test_many_cells_are_named_by_network_and_seeds_where_none_is_missing():
    rows = [
        made_up_record(arm=arm, depth=20, seed=seed)
        for arm in ("plain", "residual")
        for seed in range(2)
    ]
    assert cells_of(rows) == "plain-20, residual-20; seeds 0, 1"
    assert cells_of(rows[:3]) == "plain-20-seed0, plain-20-seed1, residual-20-seed0"
