"""Many slides, one after the other: a folder each, and slides.csv with a row for each."""

import csv
import io
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mitoscope.classify.classifier import Classifier
from mitoscope.detect.detector import Detector
from mitoscope.detect.task import check_finds_mitoses
from mitoscope.errors import DataError, InputError, describe_memory_error, one_line
from mitoscope.files import write_text
from mitoscope.images.slide import read_quickhash
from mitoscope.memory import keep_freed_memory
from mitoscope.slide.analyse import PAGE, SUMMARY, Settings, analyse
from mitoscope.slide.counts import choose_floor

FAILED_CODE = 3  # the exit code when a slide could not be analysed, as for crops that cannot be read
TABLE = "slides.csv"
WAITING = "waiting"  # the state of a slide that was not analysed yet
COLUMNS = ("slide", "state", "reason", "warnings", "tissue_mm2", "read_mm2", "n_mitotic_figures", "per_mm2",
           "n_hotspot", "n_atypical_hotspot", "n_atypical", "share_atypical", "share_low", "share_high",
           "n_unread_tiles", "not_for")  # fmt: skip
NOT_FOR = "clinical use"


def run_slides(
    slides: list[Path],
    out: Path,
    *,
    detector: Path | None = None,
    classifier: Path | None = None,
    mpp: float | None = None,
    region: Path | None = None,
    floor: float | None = None,
    dicom_ann: bool = False,
    device: str = "auto",
    precision: str = "auto",
    shard: tuple[int, int] = (1, 1),
    table: Path | None = None,
) -> int:
    """Analyse slides. See `mitoscope.slide.analyse.analyse` for a slide's folder, out/NAME.

    Args:
        slides: Files; no two of the same name.
        out: The folder for the results. A slide that is finished there, by the same weights, settings and code, is not
            analysed again; one that was broken off goes on.
        detector: Its bundle's folder; None: see `mitoscope.detect.detector.Detector.load`.
        classifier: Its bundle's folder; None: see `mitoscope.classify.classifier.Classifier.load`.
        mpp: µm per px of all slides; None: from each one's tags.
        region: GeoJSON with the outline of the tissue of the one slide; None: it is found.
        floor: The least probability of a point in the result, above 0; None: see
            `mitoscope.slide.counts.choose_floor`.
        dicom_ann: Write annotations.dcm, too; the slides must be DICOM, and highdicom installed.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        precision: ``"auto"``, ``"fp32"``, ``"fp16"`` or ``"bf16"``.
        shard: (i, N): only the i-th of N parts of the slides, whose table is slides.i-of-N.csv. Without it, at the end,
            all are found finished, and slides.csv is written.
        table: Where the table goes instead of into out.

    Returns:
        0, or `FAILED_CODE` when a slide could not be analysed; the reason is on stderr and in the table.

    Raises:
        MitoscopeError: The weights or the settings cannot be used.
        OSError: The results cannot be written.
    """
    keep_freed_memory()
    check_slides(slides, out, floor, region)
    make_folder(out)  # only now: what is refused leaves no folder
    loaded_detector = Detector.load(detector, device=device, precision=precision, for_slides=True)
    check_finds_mitoses(loaded_detector.bundle)
    loaded_classifier = Classifier.load(classifier, device=device, precision=precision, for_slides=True)
    floor = choose_floor(loaded_detector.threshold) if floor is None else floor
    if floor > loaded_detector.threshold:
        raise DataError(
            "--floor cannot be used",
            got=floor,
            expected=f"at most the threshold of {loaded_detector.bundle.name}, {loaded_detector.threshold:g}",
            remedy="correct it: a higher one hides mitotic figures",
        )
    first, last = ((number * len(slides)) // shard[1] for number in (shard[0] - 1, shard[0]))
    print(f"{last - first:,} slides: detector {loaded_detector.bundle.name}, "
          f"classifier {loaded_classifier.bundle.name}, "
          f"{loaded_detector.device.type} {loaded_detector.precision}. Not for clinical use.", flush=True)  # fmt: skip
    table = table or out / (TABLE if shard[1] == 1 else f"slides.{shard[0]}-of-{shard[1]}.csv")
    rows = [{"slide": _show_name(path), "state": WAITING, "not_for": NOT_FOR} for path in slides[first:last]]
    write_text(table, encode_table(rows))
    for number, path in enumerate(slides[first:last]):
        rows[number] = _analyse_one(
            path, out / path.name, loaded_detector, loaded_classifier, Settings(mpp, region, floor, dicom_ann)
        )
        write_text(table, encode_table(rows))
    return finish(table, rows)


def finish(table: Path, rows: Sequence[Mapping[str, Any]]) -> int:
    """Print what was written; returns the exit code."""
    n_failed = sum(row["state"] == "failed" for row in rows)
    print(f"wrote {table}: {len(rows) - n_failed:,} slides, {n_failed:,} failed")
    return FAILED_CODE if n_failed else 0


def check_slides(slides: Sequence[Path], out: Path, floor: float | None, region: Path | None) -> None:
    """Raise DataError for slides or settings that cannot be used together.

    Files with one hash of openslide are one slide, such as those of a DICOM series: it would be counted for each.
    A slide's folder has the name of its file with its ending, since two files may differ in their endings alone.
    """
    name, count = Counter(path.name for path in slides).most_common(1)[0]
    if count > 1:
        raise DataError("two slides have the same name", got=name, expected="different names", remedy="rename one")
    _check_distinct(slides)
    for folder in (out / path.name for path in slides):
        if folder.exists() and not folder.is_dir():
            raise DataError(
                "the results cannot be written",
                got=f"a file at {folder}, where a folder would be",
                expected="a folder, or nothing there",
                remedy="choose another --out",
            )
    if floor is not None and not 0 < floor <= 1:
        raise DataError("--floor cannot be used", got=floor, expected="above 0, at most 1", remedy="correct it")
    if region is not None and not region.is_file():
        raise DataError("--region cannot be read", got=f"no file {region}", expected="GeoJSON", remedy="correct it")
    if region is not None and len(slides) > 1:
        raise DataError(
            "--region needs one slide", got=f"{len(slides)} slides", expected="one", remedy="run each by itself"
        )


def make_folder(out: Path) -> None:
    """Make the folder for the results, before minutes of work; raise DataError where that fails."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            "--out cannot be used",
            got=f"{out}: {error.strerror}",
            expected="a folder, or the name of a new one where files can be written",
            remedy="name another one",
        ) from error


def _check_distinct(slides: Sequence[Path]) -> None:
    """Refuse two files of one slide."""
    known: dict[str, Path] = {}
    for path in slides if len(slides) > 1 else ():
        found = read_quickhash(path)
        other = known.setdefault(found, path) if found else path
        if other != path:
            raise DataError(
                "two files belong to one slide",
                got=f"{other.name} and {path.name}",
                expected="each slide once",
                remedy="name one of them, and one file of each DICOM series",
            )


def _analyse_one(
    path: Path, folder: Path, detector: Detector, classifier: Classifier, settings: Settings
) -> dict[str, Any]:
    """Analyse a slide; what is wrong with it becomes its row."""
    try:
        summary = analyse(path, folder, detector, classifier, settings)
    except (InputError, DataError) as error:
        reason = str(error)
    except OSError as error:
        if (
            error.filename is None or Path(error.filename) != path
        ):  # the disk is full, say: the next slide fares no better
            raise
        reason = f"{error}; correct it, then run the same command again"
    except (MemoryError, RuntimeError) as error:  # this slide's is freed: the next one may need less
        memory = describe_memory_error(error)
        if not memory:
            raise
        reason = f"{memory}; close other programs, then run the same command again"
    else:
        _print_result(path, folder, summary)
        return _make_row(path, summary)
    row = make_failed_row(path, reason, folder)
    print(one_line(f"error: {path.name}: {row['reason']}"), file=sys.stderr)
    return row


def make_failed_row(path: Path, reason: str, folder: Path) -> dict[str, Any]:
    """The row of a slide that could not be analysed.

    Args:
        path: The slide.
        reason: Why.
        folder: Of its results; an earlier run may have left some there, and the row says so.
    """
    if (folder / SUMMARY).is_file():
        reason = f"{reason}; its folder holds the results of an earlier run"
    return {"slide": _show_name(path), "state": "failed", "reason": one_line(reason), "not_for": NOT_FOR}


def _show_name(path: Path) -> str:
    """A file's name for the table; bytes that are not UTF-8 are escaped."""
    return path.name.encode("utf-8", "backslashreplace").decode("utf-8")


def _make_row(path: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """A slide's row."""
    counts, hotspot, share = summary["counts"], summary["counts"]["hotspot"], summary["counts"]["atypical"]
    return {
        "slide": _show_name(path),
        "state": "finished",
        "warnings": "; ".join(summary["warnings"]),
        "tissue_mm2": f"{counts['tissue_mm2']:.3f}",
        "read_mm2": f"{counts['read_mm2']:.3f}",
        "n_mitotic_figures": counts["n_mitotic_figures"],
        "per_mm2": f"{counts['per_mm2']:.3f}",
        "n_hotspot": hotspot["n_figures"] if hotspot else 0,
        "n_atypical_hotspot": hotspot["atypical"]["n_atypical"] if hotspot else 0,
        "n_atypical": share["n_atypical"],
        "share_atypical": "" if share["share"] is None else f"{share['share']:.4f}",
        "share_low": f"{share['interval'][0]:.4f}" if share["interval"] else "",
        "share_high": f"{share['interval'][1]:.4f}" if share["interval"] else "",
        "n_unread_tiles": summary["tiles"]["n_unread"],
        "not_for": NOT_FOR,
    }


def _print_result(path: Path, folder: Path, summary: dict[str, Any]) -> None:
    """A slide's result in a few lines."""
    counts, hotspot = summary["counts"], summary["counts"]["hotspot"]
    state = "was finished" if summary["was_finished"] else "finished"
    place = f"{hotspot['n_figures']:,} in the hotspot of {hotspot['area_mm2']} mm²" if hotspot else "no hotspot"
    print(f"{path.name}: {state}: {counts['n_mitotic_figures']:,} mitotic figures in {counts['tissue_mm2']:.2f} mm² of "
          f"tissue, {place}, {counts['atypical']['n_atypical']:,} atypical in all")  # fmt: skip
    print(f"  {folder / PAGE}", flush=True)
    for text in summary["warnings"]:
        print(one_line(f"warning: {path.name}: {text}"), file=sys.stderr)


def encode_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """slides.csv."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
