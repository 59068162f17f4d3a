"""Every question that has committed tables: `python -m experiments.__main__ figures` (or `check`), with slugs for some of them alone."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

RESULTS = Path("results")
# Slug → where its tables lie below results/slug, and how many folders further up the one that its commands take
TABLES = {
    "depth": ("*/runs.csv", 1),
    "robustness": ("baseline/runs.csv", 2),
    "pace": ("*/runs.csv", 2),
    "lineage": ("*/runs.csv", 2),
    "lenet": ("*/runs.csv", 2),
    "large": ("*/runs.csv", 2),
    "identity": ("*/*/runs.csv", 2),
    "signal": ("*/probes.csv", 2),
    "shortcuts": ("*/runs.csv", 1),
    "autopsy": ("*/runs.csv", 2),
    "thousand": ("*/runs.csv", 2),
    "landscape": ("*/surface-*.csv", 1),
    "bench": ("*.csv", 1),
}
WHY = ("identity", "signal", "shortcuts", "autopsy", "thousand", "landscape")
NO_CLAIMS = ("bench",)


def folders(slug: str, results: Path = RESULTS) -> list[Path]:
    """The folders of a slug that have tables; its commands take one of them."""
    pattern, up = TABLES[slug]
    return sorted({path.parents[up - 1] for path in (results / slug).glob(pattern)})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the figures or the claims of each; the worst of their statuses."""
    parser = argparse.ArgumentParser(
        description="Figures or verdicts of every question that has committed tables."
    )
    parser.add_argument("what", choices=("figures", "check"))
    parser.add_argument(
        "slugs",
        nargs="*",
        metavar="slug",
        help=f"of {', '.join(TABLES)} (default: all); why: {', '.join(WHY)}",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: results")
    options = parser.parse_args(arguments)
    slugs = [
        slug for name in options.slugs for slug in (WHY if name == "why" else (name,))
    ] or list(TABLES)
    if unknown := [slug for slug in slugs if slug not in TABLES]:
        print(
            f"plainres: {unknown[0]!r} is no question; legal: {', '.join(TABLES)}, why",
            file=sys.stderr,
        )
        return 2
    worst, done = 0, 0
    for slug in slugs:
        if options.what == "check" and slug in NO_CLAIMS:
            continue
        for folder in folders(slug, options.results):
            done += 1
            if options.what == "check":
                print(f"\n== {folder}\n")
            module = import_module(
                f"experiments.{slug}.{'claims' if options.what == 'check' else 'figures'}"
            )
            worst = max(worst, module.main([str(folder)]))
    if not done:
        print(
            f"plainres: no tables in {options.results} for {', '.join(slugs)}; make help lists what measures them",
            file=sys.stderr,
        )
        return 2
    return worst


if __name__ == "__main__":
    sys.exit(main())
