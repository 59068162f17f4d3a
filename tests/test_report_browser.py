"""The report as a reader sees it, in a headless Chromium; skips without one."""

import itertools

import pytest
from browsing import PHONE, SCREEN, chromium, errors, set_size, wait_for
from composing import ROOT

from experiments.report.page import page

pytestmark = pytest.mark.browser
# Where a point of a chart is on the screen: arguments are the chart, and the place of the trace
# and of the point in it
PLACE = """
const div = document.getElementById(`chart-${arguments[0]}`);
const [trace, point] = [div._fullData[arguments[1]], arguments[2]];
const box = div.getBoundingClientRect(), {xaxis, yaxis} = div._fullLayout;
return [box.x + xaxis._offset + xaxis.d2p(trace.x[point]),
        box.y + yaxis._offset + yaxis.d2p(trace.y[point])];
"""
TRACES = "return document.getElementById(`chart-${arguments[0]}`)._fullData.map((t) => t.meta)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium() as made:
        path = tmp_path_factory.mktemp("report") / "index.html"
        path.write_text(page(ROOT / "results"), encoding="utf-8")
        made.address = path.as_uri()
        yield made


@pytest.fixture
def shown(browser, request):
    """The page, loaded anew, in a window of the size that the test asks for."""
    set_size(browser, *getattr(request, "param", SCREEN))
    browser.get(browser.address)
    wait_for(browser, "return document.querySelector('#chart-residual .main-svg')")
    yield browser
    assert not errors(browser)


def point_at(browser, chart, trace, point, click=False):
    from selenium.webdriver import ActionChains

    x, y = map(round, browser.execute_script(PLACE, chart, trace, point))
    mouse = ActionChains(browser, duration=50)
    for place in ((x - 3, y), (x, y)):  # Plotly wants a move
        mouse.w3c_actions.pointer_action.move_to_location(*place)
    if click:
        mouse.w3c_actions.pointer_action.click()
    mouse.perform()


def choose(browser, name, value):
    """Sets a control of the page as its reader would."""
    browser.execute_script(
        "const field = document.getElementById('controls').elements[arguments[0]];"
        "field.value = arguments[1];"
        "(field instanceof RadioNodeList ? field[0] : field)"
        ".dispatchEvent(new Event('change', {bubbles: true}));",
        name,
        value,
    )


def depths_of(browser, chart):
    return {meta["depth"] for meta in browser.execute_script(TRACES, chart)}


def test_finding_and_first_picture_are_seen_without_scrolling(shown):
    heading, chart = shown.execute_script(
        "return [[...document.querySelectorAll('h1')].find((e) => e.checkVisibility()),"
        "document.getElementById('chart-depth')].map((e) => e.getBoundingClientRect().toJSON())"
    )
    assert heading["top"] >= 0
    assert heading["height"] > 20
    assert chart["bottom"] <= SCREEN[1]
    assert chart["height"] >= 300
    lines = "return document.querySelectorAll('#chart-depth path.js-line').length"
    assert shown.execute_script(lines) >= 3  # plain, residual, guessing


def test_nothing_but_the_file_is_loaded(shown):
    names = shown.execute_script(
        "return performance.getEntriesByType('resource').map((each) => each.name)"
    )
    assert all(name.startswith(("data:", "blob:")) for name in names)


def test_a_click_isolates_a_depth_and_another_one_gives_all_back(shown):
    before = depths_of(shown, "plain")
    assert len(before) > 4
    metas = shown.execute_script(TRACES, "depth")
    trace = next(i for i, meta in enumerate(metas) if meta and meta["arm"] == "plain")
    xs = shown.execute_script(f"return document.getElementById('chart-depth')._fullData[{trace}].x")
    point_at(shown, "depth", trace, xs.index(56), click=True)
    wait_for(shown, "return controls.elements.depth.value === '56'")
    assert depths_of(shown, "plain") == depths_of(shown, "residual") == {56}
    point_at(shown, "depth", trace, xs.index(56), click=True)
    wait_for(shown, "return controls.elements.depth.value === 'all'")
    assert depths_of(shown, "plain") == before


def test_depths_are_chosen_by_keyboard(shown):
    from selenium.webdriver import Keys

    shown.execute_script("controls.elements.depth[0].focus()")
    shown.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    wait_for(shown, "return controls.elements.depth.value !== 'all'")
    assert depths_of(shown, "plain") == {8}


def test_hovering_shows_cell_seed_iteration_and_error(shown):
    choose(shown, "seed", "all")
    metas = shown.execute_script(TRACES, "plain")
    trace = next(i for i, meta in enumerate(metas) if meta["depth"] == 56)
    point_at(shown, "plain", trace, 60)
    text = wait_for(shown, "return document.querySelector('#chart-plain .hoverlayer').textContent")
    for part in ("plain-56", f"seed {metas[trace]['seed']}", "iteration ", "training error "):
        assert part in text


def test_every_protocol_error_axis_and_seed_can_be_seen(shown):
    names = shown.execute_script("return [...controls.elements.finding].map((each) => each.value)")
    assert {"quick", "cpu", "cpu32", "paper"} <= set(names)
    views_of = (("train", "linear", "mean"), ("test", "log", "all"))
    for name, (split, axis, seed) in itertools.product(names, views_of):
        for control, value in (("finding", name), ("split", split), ("axis", axis), ("seed", seed)):
            choose(shown, control, value)
        for chart in ("depth", "plain", "residual"):
            metas = list(filter(None, shown.execute_script(TRACES, chart)))
            assert metas, (name, split, axis, seed, chart)
            assert {meta["split"] for meta in metas} == {split}
            views = {meta["view"] for meta in metas} - {"published"}
            assert views == {"mean" if seed == "mean" else "seed"}
            alt = f"return document.getElementById('chart-{chart}').getAttribute('aria-label')"
            assert "layers" in shown.execute_script(alt)
        heading = "return document.querySelectorAll('h1:not([hidden] *)').length"
        assert shown.execute_script(heading) == 1
    choose(shown, "finding", "paper")
    metas = filter(None, shown.execute_script(TRACES, "depth"))
    assert "published" in {meta["view"] for meta in metas}


def test_the_dark_theme_keeps_black_lines_visible(shown):
    ground = "return getComputedStyle(document.body).backgroundColor"
    colours = (
        "return document.getElementById('chart-plain')._fullData.map((each) => each.line.color)"
    )
    before = shown.execute_script(ground)
    assert "#000000" in shown.execute_script(colours)
    shown.execute_script("document.getElementById('theme').click()")
    assert shown.execute_script(ground) != before
    assert "#000000" not in shown.execute_script(colours)


@pytest.mark.parametrize("shown", [PHONE, SCREEN, (1920, 1080)], indirect=True, ids=str)
def test_nothing_overlaps_or_sticks_out(shown):
    width = shown.execute_script("return document.documentElement.clientWidth")
    assert shown.execute_script("return document.documentElement.scrollWidth") <= width
    selectors = (
        "#finding > *",
        "#controls > *",
        ".charts > *",
        ".card > *",
        ".board > *",
        "#chart-depth .xtick text, #chart-depth .ytick text, #chart-depth .textpoint text",
        "#chart-plain .xtick text, #chart-plain .ytick text, #chart-plain .textpoint text",
        "#chart-residual .xtick text, #chart-residual .ytick text, #chart-residual .textpoint text",
    )
    for selector in selectors:
        boxes = shown.execute_script(
            "return [...document.querySelectorAll(arguments[0])]"
            ".filter((each) => each.checkVisibility() && each.textContent.trim())"
            ".map((each) => [each.textContent.trim().slice(0, 30), each.getBoundingClientRect()])"
            ".map(([text, box]) => [text, box.left, box.right, box.top, box.bottom])",
            selector,
        )
        assert boxes, selector
        for one, other in itertools.combinations(boxes, 2):
            apart = one[2] <= other[1] + 1 or other[2] <= one[1] + 1
            assert apart or one[4] <= other[3] + 1 or other[4] <= one[3] + 1, (one, other)
