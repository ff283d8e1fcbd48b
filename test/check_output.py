"""Check a container's output folder against the platform's rules and an expected output.

test.sh runs this inside the image, so it needs the standard library alone; it states the rules a second time,
apart from model.contract, so that a mistake there is seen here.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULT = "multiple-mitotic-figure-classification.json"


def main() -> int:
    """Print the pages as a table and one line a fault; return 1 if there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the folder that the container wrote")
    parser.add_argument("expected", type=Path, help=f"the folder with the expected {RESULT}")
    parser.add_argument("--manifest", type=Path, required=True, help="the bundle's manifest.json, for its threshold")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference of a confidence")
    parser.add_argument(
        "--class-margin", type=float, default=0.0, help="a page expected closer to the threshold may change its class"
    )
    parser.add_argument("--format-only", action="store_true", help="compare the number of pages, but no value")
    arguments = parser.parse_args()

    threshold = json.loads(arguments.manifest.read_text(encoding="utf-8"))["threshold"]["value"]
    expected = json.loads((arguments.expected / RESULT).read_text(encoding="utf-8"))
    faults = list(find_format_faults(arguments.output, len(expected)))
    if not faults:
        pages = json.loads((arguments.output / RESULT).read_text(encoding="utf-8"))
        print_table(pages, None if arguments.format_only else expected)
        faults += find_threshold_faults(pages, threshold)
        if not arguments.format_only:
            faults += find_value_faults(pages, expected, threshold, arguments.tolerance, arguments.class_margin)
    for fault in faults:
        print(f"wrong: {fault}")
    return 1 if faults else 0


def find_format_faults(output: Path, n_pages: int) -> Iterator[str]:
    """Say in what the folder breaks the platform's rules: its files, the JSON, each page's keys and types."""
    found = sorted(str(path.relative_to(output)) for path in output.rglob("*"))
    if found != [RESULT]:
        yield f"the output folder: got {found}, expected {RESULT} alone"
        return
    try:
        pages = json.loads((output / RESULT).read_text(encoding="utf-8"), parse_constant=refuse_constant)
    except (OSError, ValueError) as error:
        yield f"{RESULT}: got {error}, expected UTF-8 JSON"
        return
    if not isinstance(pages, list) or len(pages) != n_pages:
        got = f"{len(pages)} pages" if isinstance(pages, list) else type(pages).__name__
        yield f"{RESULT}: got {got}, expected a list of {n_pages} pages"
        return
    for number, page in enumerate(pages, start=1):
        yield from find_page_faults(number, page)


def refuse_constant(name: str) -> float:
    """NaN and the infinities are Python's, not JSON's, and become null on the platform."""
    raise ValueError(f"{name}, which is no JSON")


def find_page_faults(number: int, page: Any) -> Iterator[str]:
    """Say in what one page's object is wrong; a confidence of 0 or 1 without a point is no float to the evaluator."""
    if not isinstance(page, dict) or set(page) != {"class", "confidence"}:
        yield f"page {number}: got {page!r}, expected exactly the keys class and confidence"
        return
    if page["class"] not in ("normal", "atypical"):
        yield f"page {number}: got class {page['class']!r}, expected 'normal' or 'atypical'"
    confidence = page["confidence"]
    if not (isinstance(confidence, float) and 0 <= confidence <= 1):
        yield f"page {number}: got confidence {confidence!r}, expected a float in [0, 1]"


def find_threshold_faults(pages: list[dict[str, Any]], threshold: float) -> Iterator[str]:
    """Say which pages' classes contradict their own P(atypical)."""
    for number, page in enumerate(pages, start=1):
        by_threshold = "atypical" if page["confidence"] >= threshold else "normal"
        if page["class"] != by_threshold:
            yield (
                f"page {number}: got class {page['class']}, expected {by_threshold} "
                f"for confidence {page['confidence']:.6f} at the bundle's threshold {threshold:.6f}"
            )


def find_value_faults(
    pages: list[dict[str, Any]], expected: list[dict[str, Any]], threshold: float, tolerance: float, margin: float
) -> Iterator[str]:
    """Say which pages differ from the expected ones."""
    for number, (page, wanted) in enumerate(zip(pages, expected, strict=True), start=1):
        undecided = abs(wanted["confidence"] - threshold) < margin
        if page["class"] != wanted["class"] and not undecided:
            yield f"page {number}: got class {page['class']}, expected {wanted['class']}"
        if abs(page["confidence"] - wanted["confidence"]) > tolerance:
            yield (
                f"page {number}: got confidence {page['confidence']:.6f}, "
                f"expected {wanted['confidence']:.6f} within {tolerance:g}"
            )


def print_table(pages: list[dict[str, Any]], expected: list[dict[str, Any]] | None) -> None:
    """Show every page's class and P(atypical), and how far it is from the expected one."""
    print("page  class     p_atypical" + ("  difference" if expected else ""))
    for number, page in enumerate(pages, start=1):
        line = f"{number:4}  {page['class']:8}  {page['confidence']:10.6f}"
        if expected:
            line += f"  {page['confidence'] - expected[number - 1]['confidence']:+10.1e}"
        print(line)


if __name__ == "__main__":
    raise SystemExit(main())
