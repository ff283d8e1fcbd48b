"""Check a container's JSON against the platform's rules, before the one submission that counts.

The rules are written here a second time, apart from the code in `model` that writes the JSON, so that a mistake there
is found. test.sh runs this inside the image: no pandas here, and nothing else that slows a container down.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mitoscope.bundle.find import find_bundle
from mitoscope.bundle.read import read_bundle
from mitoscope.errors import DataError
from mitoscope.files import describe_folder, read_json
from mitoscope.images.crops import read_stack
from mitoscope.sockets import OUTPUT_NAME

KINDS = {
    bool: "a boolean",
    int: "an integer",
    str: "a string",
    type(None): "nothing",
    list: "a list",
    dict: "an object",
}
LONGEST = 80  # characters of what was got


def check(
    output_json: Path,
    stack: Path,
    *,
    weights: Path | None = None,
    expected: Path | None = None,
    tolerance: float = 1e-4,
    class_margin: float = 0.0,
) -> int:
    """Print the pages as a table, then ``ok``, or one line ``wrong: …`` for each fault.

    The platform uploads the whole output folder and its evaluator fails a submission for one page: each must be
    ``{"class": "normal" | "atypical", "confidence": <float>}``, where confidence is P(atypical) whatever the class
    says, in page order.

    Args:
        output_json: What the container wrote, in its output folder.
        stack: What was scored, TIFF or MHA; its pages are counted.
        weights: The bundle whose threshold made the classes; None: see `mitoscope.bundle.find.find_bundle`.
        expected: The JSON that should have come out; None: only the rules are checked.
        tolerance: Largest difference of a confidence from the expected one.
        class_margin: A page expected closer than this to the threshold may change its class.

    Returns:
        0, or 1 if there is a fault.

    Raises:
        InputError: The stack cannot be read.
        WeightsError: There is no usable bundle.
        DataError: The expected JSON is not of this stack or breaks the rules itself.
    """
    n_pages = len(read_stack(stack))
    threshold = read_bundle(find_bundle(weights)).threshold.value
    wanted = None if expected is None else _read_expected(expected, n_pages)
    folder_faults = list(find_folder_faults(output_json))
    faults: list[str] = []
    try:
        pages = _read_pages(output_json)
    except DataError as error:
        return conclude([str(error), *folder_faults])
    if len(pages) != n_pages:
        faults.append(f"the length is wrong: got {len(pages)} pages, expected the {n_pages} of {stack.name}")
        wanted = None
    page_faults = list(_find_page_faults(pages))
    if page_faults:
        return conclude(faults + page_faults + folder_faults)
    _print_table(pages, wanted)
    faults += _find_class_faults(pages, threshold)
    faults += _find_value_faults(pages, wanted or [], threshold, tolerance, class_margin)
    return conclude(faults + folder_faults)


def conclude(faults: list[str]) -> int:
    """Print the faults, or that there is none; the exit code."""
    print(*(f"wrong: {fault}" for fault in faults) if faults else ["ok"], sep="\n")
    return 1 if faults else 0


def find_folder_faults(output_json: Path, name: str = OUTPUT_NAME) -> Iterator[str]:
    """Find other files in the output folder, and another file name than the platform's."""
    if output_json.name != name:
        yield f"the file has the wrong name: got {output_json.name[:LONGEST]!r}, expected {name}"
    folder = output_json.absolute().parent
    if output_json.exists() and any(path.name != output_json.name for path in folder.iterdir()):
        yield f"the whole folder is uploaded: got {describe_folder(folder)}, expected {name} alone"


def _read_pages(path: Path) -> list[Any]:
    """The list in a JSON file; Python's reader takes NaN and Infinity, which are then found page by page."""
    try:
        pages = read_json(path)
    except (OSError, ValueError) as error:
        raise _unusable(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(pages, list):
        raise _unusable(path, KINDS.get(type(pages), "a number"))
    return pages


def _read_expected(path: Path, n_pages: int) -> list[Any]:
    """The pages that should have come out, which must themselves be without fault."""
    pages = _read_pages(path)
    fault = next(_find_page_faults(pages), None)
    if fault or len(pages) != n_pages:
        raise _unusable(path, fault or f"{len(pages)} pages for a stack of {n_pages}")
    return pages


def _unusable(path: Path, got: str) -> DataError:
    """The error for a file that holds no list of pages."""
    return DataError(
        f"{path.name!r} cannot be used",
        got=got,
        expected="a JSON list in UTF-8, one object a page",
        remedy="check the code that wrote it",
    )


def _find_page_faults(pages: list[Any]) -> Iterator[str]:
    """Find the faults of each page's object: its keys, its class, its confidence."""
    for number, page in enumerate(pages, start=1):
        if not isinstance(page, dict):
            yield f"page {number}: got {quote(page)}, expected an object with the keys class and confidence"
            continue
        if page.keys() != {"class", "confidence"}:
            yield f"page {number}: got the keys {quote(sorted(page))}, expected class and confidence alone"
        if "class" in page and page["class"] not in ("normal", "atypical"):
            yield f'page {number}: got class {quote(page["class"])}, expected "normal" or "atypical"'
        if "confidence" in page:
            yield from _find_confidence_fault(number, page["confidence"])


def _find_confidence_fault(number: int, confidence: object) -> Iterator[str]:
    """Find why the evaluator, which checks ``isinstance(confidence, float)``, would refuse a confidence."""
    if not isinstance(confidence, float):
        got = f"{quote(confidence)}, {KINDS[type(confidence)]}"
        yield f"page {number}: got confidence {got}, expected a float (0.0 or 1.0 where it is whole)"
    elif not math.isfinite(confidence):
        yield f"page {number}: got confidence {confidence}, which the platform makes null, expected a float in [0, 1]"
    elif not 0 <= confidence <= 1:
        yield f"page {number}: got confidence {confidence}, expected a float in [0, 1]"


def quote(value: object) -> str:
    """A value as JSON writes it, cut."""
    text = json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _find_class_faults(pages: list[dict[str, Any]], threshold: float) -> Iterator[str]:
    """Find classes that contradict their confidence as P(atypical); the first line explains the likely mistake."""
    by_threshold = ["atypical" if page["confidence"] >= threshold else "normal" for page in pages]
    wrong = [number for number, page in enumerate(pages) if page["class"] != by_threshold[number]]
    if wrong:
        yield f"{len(wrong)} of {len(pages)} classes contradict their confidences: {_explain_classes(pages, threshold)}"
    for number in wrong:
        page = pages[number]
        yield (
            f"page {number + 1}: got class {page['class']}, expected {by_threshold[number]} "
            f"for confidence {page['confidence']:.6f} at the bundle's threshold {threshold:.6f}"
        )


def _explain_classes(pages: list[dict[str, Any]], threshold: float) -> str:
    """The likely mistake behind classes that contradict the threshold."""
    normal = [page["confidence"] for page in pages if page["class"] == "normal"]
    atypical = [page["confidence"] for page in pages if page["class"] == "atypical"]
    # The winning class's confidence is at least 0.5 where 0.5 divides, else at least what the threshold leaves it.
    if normal and min(normal) >= min(1 - threshold, 0.5) and min(atypical, default=1) >= min(threshold, 0.5):
        return (
            f"it looks as if the confidence of the winning class was written, since normal pages have high ones too "
            f"({min(normal):.2f} to {max(normal):.2f}); write P(atypical), whatever the class says"
        )
    if all(1 - p < threshold for p in normal) and all(1 - p >= threshold for p in atypical):
        return "it looks as if P(normal) was written; write P(atypical), whatever the class says"
    highest, lowest = max(normal, default=0.0), min(atypical, default=1.0)
    if highest < lowest:
        return (
            f"a threshold between {highest:.6f} and {lowest:.6f} made them, the bundle's is {threshold:.6f}; "
            "give the bundle that was used after --weights"
        )
    return "no threshold explains them; check the code that wrote them"


def _find_value_faults(
    pages: list[dict[str, Any]], expected: list[dict[str, Any]], threshold: float, tolerance: float, margin: float
) -> Iterator[str]:
    """Find pages that differ from the expected ones, if any are given."""
    for number, (page, wanted) in enumerate(zip(pages, expected, strict=False), start=1):
        undecided = abs(wanted["confidence"] - threshold) < margin
        if page["class"] != wanted["class"] and not undecided:
            yield f"page {number}: got class {page['class']}, expected {wanted['class']}"
        if not abs(page["confidence"] - wanted["confidence"]) <= tolerance:
            yield (
                f"page {number}: got confidence {page['confidence']:.6f}, "
                f"expected {wanted['confidence']:.6f} within {tolerance:g}"
            )


def _print_table(pages: list[dict[str, Any]], expected: list[dict[str, Any]] | None) -> None:
    """Show every page's class and P(atypical), and how far it is from the expected one."""
    print("page  class     p_atypical" + ("  difference" if expected else ""))
    for number, page in enumerate(pages, start=1):
        line = f"{number:4}  {page['class']:8}  {page['confidence']:10.6f}"
        if expected:
            line += f"  {page['confidence'] - expected[number - 1]['confidence']:+10.1e}"
        print(line)
