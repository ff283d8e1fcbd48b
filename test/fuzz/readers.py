"""The readers of outside data by name, each with small good files and a check of the result's form.

For any bytes, a reader returns a result of the right form or raises a MitoscopeError with one printable line.
"""

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fuzz import seeds
from mitoscope.bundle.members import parse_member
from mitoscope.bundle.read import MANIFEST, read_bundle
from mitoscope.classify.listing import list_crops
from mitoscope.classify.tables import find_threshold, read_predictions, read_record
from mitoscope.errors import DataError, MitoscopeError
from mitoscope.files import read_object
from mitoscope.images.crops import read_crops
from mitoscope.images.slide import Mpp, Slide, open_slide
from mitoscope.images.source import ArraySource
from mitoscope.networks.lora import merge_adapter
from mitoscope.scoring.check import check
from mitoscope.scoring.detection.platform import find_points, read_regions
from mitoscope.scoring.detection.tables import join_truth, read_detections, read_truth
from mitoscope.scoring.labels import read_labels
from mitoscope.scoring.platform import find_results, read_results
from mitoscope.slide.region import read_region
from mitoscope.sockets import OUTPUT_NAME, POINTS_NAME
from mitoscope.training.data.field_sources import truth
from mitoscope.training.data.field_sources.layout import LabelledFields
from mitoscope.training.data.field_sources.mitos import read_mitos14
from mitoscope.training.data.field_sources.yolo import read_yolo
from mitoscope.training.data.fields import count_bytes, read_fields
from mitoscope.training.data.sources.layout import read_csv
from mitoscope.training.data.table import read_data
from mitoscope.training.presets import configure
from model.contract import INPUTS_NAME, read_slugs

LONGEST_LINE = 2000


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        file: Name of its file in a folder.
        good: Makes the contents of good files.
        read: Reads the folder; raises AssertionError if the result has a wrong form.
        prepare: Writes the other files that it needs into an empty folder.
    """

    file: str
    good: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    prepare: Callable[[Path], object] = lambda folder: None


def try_reader(reader: Reader, folder: Path, content: bytes) -> bool:
    """Write a file and read it.

    Returns:
        True if it was read, False if it was refused with a MitoscopeError.

    Raises:
        Exception: Any other error or warning of the reader; AssertionError for a wrong result or message.
    """
    (folder / reader.file).write_bytes(content)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("error")
        try:
            reader.read(folder)
        except MitoscopeError as error:
            line = str(error)
            assert line.isprintable() and len(line) <= LONGEST_LINE, f"not one short printable line: {line!r}"
            return False
    return True


def _crops(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        crops = read_crops(folder / name)
        assert crops.dtype == "uint8" and crops.shape == (len(crops), 128, 128, 3) and 1 <= len(crops) <= 1024

    return read


def _slide(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        pixels = open_slide(folder / name).read(-9, -9, 128, 96, 0.31)
        assert pixels.dtype == "uint8" and pixels.shape == (96, 128, 3)

    return read


def _region(folder: Path) -> None:
    slide = Slide(Path("s.tif"), ArraySource(seeds.PAGES[0]), Mpp(2.0, 2.0, "given"), ())
    tissue = read_region(folder / "region.geojson", slide)
    assert tissue.mask.shape == (32, 32) and tissue.mask.any()


def _inputs(folder: Path) -> None:
    assert all(isinstance(slug, str) for slug in read_slugs(folder))


def _manifest(folder: Path) -> None:
    bundle = read_bundle(folder)
    assert len(bundle.members) == 5 and 0 < bundle.threshold.value < 1


def _members(folder: Path) -> None:
    for k in range(5):
        (folder / f"fold{k}.safetensors").touch()


def _member(folder: Path) -> None:
    tensors = parse_member((folder / "fold0.safetensors").read_bytes(), "fold0.safetensors")
    assert all(isinstance(name, str) for name in tensors)


def _adapter(folder: Path) -> None:
    base = parse_member(seeds.base(), "base")
    merged = merge_adapter(base, parse_member((folder / "fold0.safetensors").read_bytes(), "fold0"), "fold0")
    assert base.keys() <= merged.keys() and merged["a.weight"].ndim == 2


def _predictions(folder: Path) -> None:
    table = read_predictions(folder / "predictions.csv")
    assert len(table) and table["p_atypical"].between(0, 1).all() and table["image_id"].is_unique
    threshold = find_threshold(table, None)
    assert threshold is None or 0 <= threshold <= 1


def _labels(folder: Path) -> None:
    table = read_labels(folder / "labels.csv")
    assert list(table) == ["image_id", "label", "domain", "case"] and set(table["label"]) <= {"normal", "atypical"}


def _record(folder: Path) -> None:
    assert read_record(folder / "predictions.csv.json")["format"] == 1


def _platform(folder: Path) -> None:
    results = find_results(folder / "predictions.json")
    table = read_results(results, folder / "ground_truth.json")
    assert len(table) and table["p_atypical"].map(lambda p: isinstance(p, float)).all()


def _put_platform(folder: Path) -> None:
    (folder / "job" / "output").mkdir(parents=True)
    (folder / "job" / "output" / OUTPUT_NAME).write_bytes(seeds.answers()[0])
    (folder / "predictions.json").write_bytes(seeds.jobs()[0])
    (folder / "ground_truth.json").write_bytes(seeds.truth()[0])


def _regions(folder: Path) -> None:
    regions = read_regions(find_points(folder / "predictions.json"), folder / "ground_truth.json")
    assert all(len(region.points_mm) == len(region.p_mitosis) == len(region.called) for region in regions)
    assert all(np.isfinite(region.points_mm).all() and region.points_mm.shape[1:] == (2,) for region in regions)


def _put_regions(folder: Path) -> None:
    (folder / "job" / "output").mkdir(parents=True)
    (folder / "job" / "output" / POINTS_NAME).write_bytes(seeds.points()[0])
    (folder / "predictions.json").write_bytes(seeds.region_jobs()[0])
    (folder / "ground_truth.json").write_bytes(seeds.region_truth()[0])


def _detections(folder: Path) -> None:
    found = read_detections(folder / "detections.csv")
    [regions] = join_truth([found], read_truth(folder / "truth.csv"), None)
    assert all(np.isfinite(region.figures_mm).all() and region.n_found <= len(region.figures_mm) for region in regions)
    assert 0 <= found.threshold <= 1


def _put_detections(folder: Path) -> None:
    (folder / "detections.csv").write_bytes(seeds.detections()[0])
    (folder / "truth.csv").write_bytes(seeds.figures()[0])


def _check(folder: Path) -> None:
    if check(folder / "output" / OUTPUT_NAME, folder / "stack.mha", weights=seeds.LITE):  # it prints the faults
        raise DataError("faults", got="faults", expected="none", remedy="see above")


def _put_check(folder: Path) -> None:
    (folder / "output").mkdir()
    (folder / "stack.mha").write_bytes(seeds.mhas()[0])


def _index(folder: Path) -> None:
    listing = list_crops([folder / "index.csv"])
    assert listing.n_files >= 1


def _data(folder: Path) -> None:
    data = read_data(folder)
    assert data.crops.shape == (len(data.table), 128, 128, 3)


def _put_png(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(seeds.pngs()[0])


def _fields(read: Callable[[list[Path]], LabelledFields], *names: str) -> Callable[[Path], None]:
    def check_form(folder: Path) -> None:
        found = read([folder / name for name in names])
        assert len(found.fields) == 1 and set(found.points["image_id"]) <= set(found.fields["image_id"])

    return check_form


def _field_data(folder: Path) -> None:
    data = read_fields(folder)
    assert [data.field(row).size for row in range(len(data.table))] == count_bytes(data.table).tolist()


def _put_fields(folder: Path) -> None:
    (folder / "points.csv").write_text("image_id,x_px,y_px,label\n")
    (folder / "pixels.bin").write_bytes(seeds.PAGES[0].tobytes())


def _setting(folder: Path) -> None:
    text = (folder / "settings").read_bytes().decode("utf-8", "surrogateescape")
    configure("lite", [text])


def _put(name: str, make: Callable[[], list[bytes]]) -> Callable[[Path], int]:
    return lambda folder: (folder / name).write_bytes(make()[0])


READERS = {
    "tiff": Reader("s.tif", seeds.tiffs, _crops("s.tif")),
    "mha": Reader("s.mha", seeds.mhas, _crops("s.mha")),
    "png": Reader("s.png", seeds.pngs, _crops("s.png")),
    "jpeg": Reader("s.jpg", seeds.jpegs, _crops("s.jpg")),
    "slide-tiff": Reader("r.tif", seeds.slide_tiffs, _slide("r.tif")),
    "slide-mha": Reader("r.mha", seeds.slide_mhas, _slide("r.mha")),
    "slide-png": Reader("r.png", seeds.pngs, _slide("r.png")),
    "slide-jpeg": Reader("r.jpg", seeds.jpegs, _slide("r.jpg")),
    "slide-svs": Reader("r.svs", seeds.slide_svs, _slide("r.svs")),
    "region": Reader("region.geojson", seeds.outlines, _region),
    "inputs": Reader(INPUTS_NAME, seeds.inputs, _inputs),
    "manifest": Reader(MANIFEST, seeds.manifests, _manifest, _members),
    "member": Reader("fold0.safetensors", seeds.members, _member),
    "adapter": Reader("fold0.safetensors", seeds.members, _adapter),
    "predictions": Reader("predictions.csv", seeds.predictions, _predictions),
    "labels": Reader("labels.csv", seeds.labels, _labels),
    "record": Reader("predictions.csv.json", seeds.records, _record),
    "jobs": Reader("predictions.json", seeds.jobs, _platform, _put_platform),
    "truth": Reader("ground_truth.json", seeds.truth, _platform, _put_platform),
    "answers": Reader(f"job/output/{OUTPUT_NAME}", seeds.answers, _platform, _put_platform),
    "detections": Reader("detections.csv", seeds.detections, _detections, _put_detections),
    "figures": Reader("truth.csv", seeds.figures, _detections, _put_detections),
    "detections record": Reader("detections.csv.json", seeds.detection_records, _detections, _put_detections),
    "region jobs": Reader("predictions.json", seeds.region_jobs, _regions, _put_regions),
    "region truth": Reader("ground_truth.json", seeds.region_truth, _regions, _put_regions),
    "points": Reader(f"job/output/{POINTS_NAME}", seeds.points, _regions, _put_regions),
    "check": Reader(f"output/{OUTPUT_NAME}", seeds.answers, _check, _put_check),
    "index": Reader("index.csv", seeds.indices, _index),
    "table": Reader("table.csv", seeds.tables, _data, _put("crops.npy", seeds.arrays)),
    "annotations": Reader(
        "annotations.csv", seeds.annotations, _fields(read_mitos14, ""), lambda at: _put_png(at, "images/H04_a.png")
    ),
    "field points": Reader(
        "t.csv", seeds.field_points, _fields(truth.read_truth, "t.csv", ""), lambda at: _put_png(at, "a.png")
    ),
    "boxes": Reader("a.txt", seeds.boxes, _fields(read_yolo, ""), lambda at: _put_png(at, "a.png")),
    "fields": Reader("fields.csv", seeds.field_tables, _field_data, _put_fields),
    "settings": Reader("settings", seeds.settings, _setting),
    "study": Reader("study.json", seeds.manifests, lambda folder: read_object(folder / "study.json", "none")),
    "published": Reader("t.csv", seeds.labels, lambda folder: read_csv(folder / "t.csv", ["label"])),
}
