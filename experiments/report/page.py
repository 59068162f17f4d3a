"""The page: everything gathered, and put into one file that needs no other."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import plotly.io
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from experiments.depth.claims import ARMS
from experiments.report import classroom, ledgers
from experiments.report.cards import cards
from experiments.report.charts import SPLITS
from experiments.report.finding import Finding, findings
from experiments.reporting import style
from plainres.records.files import write_text

PAGE = Path("report") / "index.html"  # below results/local
TEMPLATES = {"light": "plotly_white", "dark": "plotly_dark"}


def write(results: Path, local: Path) -> Path:
    """Writes the page below `local`, with what this machine measured; returns its path.

    Raises:
        ValueError: there are no tables of the depth experiment, or one is damaged; one line.
    """
    path = local / PAGE
    write_text(path, page(results, local))
    return path


def page(results: Path, local: Path | None = None) -> str:
    """The page as text: the same bytes for the same tables.

    Args:
        local: what this machine measured is shown beside the committed results; None: not.
    """
    found, unusable = findings(results, local)
    if not found:
        raise ValueError(f"no tables in {results / 'depth'}; make sweep-depth measures the first")
    committed = [results / "depth" / each.name for each in found if not each.own]
    protocols, differences, unknown = ledgers.ledger(committed)
    folder = Path(__file__).with_name("templates")
    templates = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("page.html").render(
        findings=found,
        unusable=unusable,
        splits=SPLITS,
        arms=ARMS,
        depths=sorted({depth for each in found for depth in each.depths}),
        colour=style.depth_colour,
        cards=cards(results, local),
        outcomes=classroom.outcomes(results),
        protocols=protocols,
        differences=differences,
        unknown=unknown,
        measured=ledgers.measured(results),
        data=packed(_data(found)),
        css=(folder / "page.css").read_text(encoding="utf-8"),
        script=(folder / "page.js").read_text(encoding="utf-8"),
        plotly=packed(get_plotlyjs()),
    )


def _data(found: list[Finding]) -> str:
    """What the script reads, as JSON."""
    shown = {
        each.name: {
            "charts": each.charts,
            "alts": each.alts,
            "lowest": each.lowest,
            "depths": each.depths,
            "seeds": each.seeds,
            "published": each.published,
        }
        for each in found
    }
    templates: dict[str, Any] = {
        theme: plotly.io.templates[name].to_plotly_json() for theme, name in TEMPLATES.items()
    }
    value = {"findings": shown, "templates": templates}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def packed(text: str) -> str:
    """Compressed, as text that can stand inside a script element; the page's script unpacks it."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
