"""TensorBoard as a reader sees it, in a headless Chromium; skips without one."""

import os
import signal
import subprocess
import sys

import pytest
from browsing import SCREEN, chromium, errors, set_size
from composing import ROOT

pytestmark = pytest.mark.browser

# What is drawn and matches a selector, also in shadow roots: its text and box, and the strokes
# and paths of what is drawn in it
FOUND = """
const inside = (root) => [...root.querySelectorAll('*')].flatMap(
  (each) => each.shadowRoot ? [each, ...inside(each.shadowRoot)] : [each]);
const text = (node) => node.nodeType === Node.TEXT_NODE ? node.textContent
  : node.localName === 'style' ? ''
  : [...(node.shadowRoot || node).childNodes].map(text).join(' ').replace(/\\s+/g, ' ').trim();
return inside(document).filter((each) => each.matches(arguments[0])).map((each) => {
  const {left, right, bottom} = each.getBoundingClientRect();
  const drawn = inside(each.shadowRoot || each).filter((e) => e.matches('path.line, path.area'));
  const paths = drawn.map((e) => [getComputedStyle(e).stroke, e.getAttribute('d') || '']);
  return {text: text(each), left, right, bottom, paths};
}).filter(({left, right}) => right > left);
"""
# Colour of each depth in the figures, as near as TensorBoard comes: blue, green, pink, red
NEAREST = {
    20: "rgb(0, 119, 187)",
    32: "rgb(0, 153, 136)",
    44: "rgb(238, 51, 119)",
    56: "rgb(204, 51, 17)",
    110: "rgb(51, 187, 238)",
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser at what the command opens, of the committed results."""
    folder = tmp_path_factory.mktemp("tensorboard")
    (folder / "results").mkdir()
    for path in (ROOT / "results").iterdir():
        if path.name != "local":
            (folder / "results" / path.name).symlink_to(path)
    words = [sys.executable, "-m", "experiments", "tensorboard", "PORT=0"]
    places = os.pathsep.join(map(str, (ROOT / "src", ROOT)))
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    proxies = {"http_proxy": "http://localhost:9"}  # the command does without them
    environment = os.environ | {"PYTHONPATH": places} | proxies
    with (
        chromium() as made,
        subprocess.Popen(words, cwd=folder, env=environment, **options) as process,
    ):
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            set_size(made, *SCREEN)
            made.get(line.split()[1])
            yield made
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait() == 0


def found(browser, selector: str, condition=len) -> list[dict]:
    """What matches a selector, once it meets a condition."""
    from selenium.webdriver.support.wait import WebDriverWait

    def met(_):
        each = browser.execute_script(FOUND, selector)
        return each if condition(each) else None

    return WebDriverWait(browser, 40).until(met)


def go_to(browser, tab: str) -> None:
    browser.execute_script("location.hash = location.hash.replace(/^#[^&]*/, arguments[0])", tab)


def ends(card: dict) -> dict[str, float]:
    """Colour of each curve of a chart → how far below the top of the chart it ends."""
    curves = [(stroke, path) for stroke, path in card["paths"] if stroke != "none" and path]
    return {stroke: float(path.rpartition(",")[2]) for stroke, path in curves}


def test_it_opens_on_the_finding(browser):
    cards = found(
        browser,
        "tf-custom-scalar-margin-chart-card",
        lambda cards: len(cards) == 4 and all(len(ends(card)) == 7 for card in cards),
    )
    plain, residual, *logarithms = cards
    assert plain["text"].startswith("plain · training error, %")
    assert residual["text"].startswith("residual · training error, %")
    assert all("log10 of %" in card["text"] for card in logarithms)
    assert plain["right"] <= residual["left"]
    assert max(card["bottom"] for card in cards) <= SCREEN[1], "seen without scrolling"
    falls, rises = ([ends(card)[NEAREST[d]] for d in NEAREST] for card in (plain, residual))
    assert falls == sorted(falls, reverse=True), "deeper plain networks end higher"
    assert rises[-1] > rises[0], "residual-110 ends below residual-20"
    assert not errors(browser)


def test_hyper_parameters_list_every_cell(browser):
    go_to(browser, "#hparams")
    cells = found(browser, "vaadin-grid-cell-content", lambda cells: len(cells) > 100)
    texts = [cell["text"] for cell in cells]
    for name in ("arm", "depth", "seed", "protocol", "training error, %", "test error, %"):
        assert name in texts
    assert "depth/cpu-bf16/plain-56-seed1" in texts
    assert not errors(browser)


def test_images_are_the_figures_with_their_captions(browser):
    go_to(browser, "#images")
    caption = "error against depth · CIFAR-10 (JPEG copy) · protocol cpu · "
    found(browser, "tf-image-loader", lambda each: each and each[0]["text"].startswith(caption))
    image = found(browser, "img")[0]
    assert image["right"] - image["left"] > 300
    assert not errors(browser)


def test_signals_of_layers_are_distributions(browser):
    go_to(browser, "#distributions")
    charts = found(browser, "tf-distribution-loader", lambda each: each and each[0]["paths"])
    assert "plain-20" in charts[0]["text"]
    assert not errors(browser)
