"""Small good files for each reader; the first of each kind fits the first of the others."""

import hashlib
import io
import json
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import safetensors.numpy
import tifffile
from PIL import Image, PngImagePlugin

from mitoscope.bundle.find import DEFAULTS
from mitoscope.bundle.formats import to_json
from mitoscope.bundle.manifest import Base, Calibration, Rounding
from mitoscope.bundle.read import CHECKSUM, MANIFEST, hash_manifest, read_bundle
from mitoscope.sockets import INPUT_SLUG, OUTPUT_NAME, POINTS_NAME, REGION_SLUG
from mitoscope.training.data.fields import FIELD_COLUMNS
from mitoscope.training.data.table import COLUMNS, KNOWN_BY_SOME

LITE = DEFAULTS[-1]  # the checkout's bundle
PAGES = np.kron(np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8), np.ones((1, 16, 16, 1), np.uint8))


def _save(page: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    page.save(file, kind, **options)
    return file.getvalue()


def tiffs() -> list[bytes]:
    """Two pages of each compression, grey, palette, alpha, and BigTIFF."""
    first, second = (Image.fromarray(page) for page in PAGES)
    kinds = ("tiff_adobe_deflate", "raw", "tiff_lzw", "packbits", "jpeg", "zstd", "lzma")
    files = [_save(first, "tiff", save_all=True, append_images=[second], compression=kind) for kind in kinds]
    modes = [_save(first.convert(mode), "tiff", compression="tiff_lzw") for mode in ("L", "P", "RGBA")]
    return [*files, *modes, _save(first, "tiff", big_tiff=True, compression="tiff_lzw")]


def mhas() -> list[bytes]:
    """Compressed, raw, and of one page without an axis for it."""
    header = b"ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = %s\nDimSize = 128 128 2\n"
    header += b"ElementNumberOfChannels = 3\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    raw = header % b"False" + PAGES.tobytes()
    one = (header % b"False").replace(b"NDims = 3", b"NDims = 2").replace(b"128 128 2", b"128 128")
    return [header % b"True" + zlib.compress(PAGES.tobytes()), raw, one + PAGES[0].tobytes()]


def slide_tiffs() -> list[bytes]:
    """One page of each compression, grey, palette, alpha, and in tiles of separate planes."""
    picture, file = Image.fromarray(PAGES[0]), io.BytesIO()
    kinds = ("tiff_adobe_deflate", "raw", "tiff_lzw", "packbits", "jpeg", "zstd", "lzma")
    files = [_save(picture, "tiff", compression=kind, dpi=(101600, 101600)) for kind in kinds]
    modes = [_save(picture.convert(mode), "tiff", compression="tiff_lzw") for mode in ("L", "P", "RGBA")]
    planes = PAGES[0].transpose(2, 0, 1)
    tifffile.imwrite(file, planes, photometric="rgb", planarconfig="separate", tile=(32, 48), compression="zlib")
    return [*files, *modes, file.getvalue()]


def slide_svs() -> list[bytes]:
    """A scanner's slide in tiles, which openslide reads."""
    file, text = io.BytesIO(), "Aperio Image Library v11.2.1\r\n128x128 [0,0 128x128] (64x64)|AppMag = 40|MPP = 0.25"
    tifffile.imwrite(file, PAGES[0], description=text, photometric="rgb", tile=(64, 64), metadata=None)
    return [file.getvalue()]


def outlines() -> list[bytes]:
    """A polygon with a hole, as QuPath exports it, and several polygons."""
    ring, hole = [[10, 10], [100, 10], [100, 90], [10, 10]], [[60, 30], [80, 30], [80, 40], [60, 30]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring, hole]}, "properties": {}}
    several = {"type": "MultiPolygon", "coordinates": [[ring], [hole]]}
    return _json({"type": "FeatureCollection", "features": [feature]}, [several])


def slide_mhas() -> list[bytes]:
    """Those of a stack that have one page, raw and compressed, with a spacing."""
    raw = mhas()[2].replace(b"DimSize", b"ElementSpacing = 0.00025 0.00025\nDimSize")
    header, _, pixels = raw.partition(b"LOCAL\n")
    return [raw, header.replace(b"Data = False", b"Data = True") + b"LOCAL\n" + zlib.compress(pixels)]


def pngs() -> list[bytes]:
    """Colour, grey, palette, and with text and profile."""
    picture, text = Image.fromarray(PAGES[0]), PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * 99, zip=True)
    modes = [_save(picture.convert(mode), "png") for mode in ("RGB", "L", "P", "RGBA")]
    return [*modes, _save(picture, "png", pnginfo=text, icc_profile=b"x" * 99)]


def jpegs() -> list[bytes]:
    """Baseline, progressive and grey."""
    picture = Image.fromarray(PAGES[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        _save(picture, "jpeg", exif=exif),
        _save(picture, "jpeg", progressive=True),
        _save(picture.convert("L"), "jpeg"),
    ]


def _json(*values: object) -> list[bytes]:
    return [json.dumps(value).encode() for value in values]


def inputs() -> list[bytes]:
    """Both spellings."""
    return _json(*([{key: {"slug": INPUT_SLUG}, "image": {"name": "a.tif"}}] for key in ("socket", "interface")))


def manifests() -> list[bytes]:
    """Format 2, format 1, and format 2 with every field; each without a checksum, and the second with one."""
    bundle = read_bundle(LITE)
    members = (*(replace(member, kind="adapter") for member in bundle.members[:4]), bundle.members[4])
    full = replace(
        bundle,
        members=members,
        base=Base("0" * 64, "MIT", None, "someone/network"),
        calibration=Calibration("platt", 1.5, 0.1, "out-of-fold", 9, 0.2),
        rounding={name: Rounding(400, 0.01, 0.0) for name in ("fp16", "bf16")},
    )
    old = _format_1()
    manifests = [to_json(bundle), old, {**old, CHECKSUM: hash_manifest(old)}, to_json(full)]
    return [json.dumps(manifest, indent=1).encode() for manifest in manifests]


def _format_1() -> dict[str, Any]:
    """The manifest in git, in format 1."""
    manifest: dict[str, Any] = json.loads((LITE / MANIFEST).read_bytes())
    manifest.pop(CHECKSUM, None)
    if manifest["format"] == 1:
        return manifest
    members = [{**member, **member["metrics"]} for member in manifest["members"]]
    kept = ("name", "architecture", "input", "threshold", "training", "training_crops")
    old = {key: manifest[key] for key in kept}
    fields = ("file", "sha256", "fold", "balanced_accuracy", "roc_auc")
    return {
        "format": 1,
        "positive_class": "atypical",
        **old,
        "members": [{key: member[key] for key in fields} for member in members],
        "bf16": manifest["rounding"].get("bf16"),
    }


def members() -> list[bytes]:
    """Two tensors; an adapter of `base`."""
    adapter = {"a.lora_a": np.ones((1, 3), np.float16), "a.lora_b": np.ones((2, 1), np.float16)}
    return [
        safetensors.numpy.save({**adapter, "a.bias": np.ones(2, np.float32)}),
        safetensors.numpy.save({"a": np.zeros((2, 3), np.float16), "b": np.ones(2, np.float32)}),
    ]


def base() -> bytes:
    """The base of the adapter."""
    return safetensors.numpy.save({"a.weight": np.zeros((2, 3), np.float16), "a.bias": np.zeros(2, np.float32)})


def predictions() -> list[bytes]:
    """With and without members."""
    with_members = b"image_id,p_atypical,class,member_0,member_1\na,0.25,normal,0.2,0.3\nb,0.75,atypical,0.7,0.8\n"
    return [with_members, b"image_id,p_atypical,class\na,0.25,normal\nb,0.75,atypical\n"]


def labels() -> list[bytes]:
    """With and without domains."""
    return [b"image_id,label,domain,case\na,normal,lung,1\nb,AMF,,\n", b"image_id,label\na,NMF\nb,atypical\n"]


def records() -> list[bytes]:
    """The smallest record."""
    keys = ("shard", "crops", "versions", "machines", "device", "precision", "commit", "csv_sha256")
    return _json({"format": 1, "bundle": {"threshold": 0.5}, **dict.fromkeys(keys, "x")})


def jobs() -> list[bytes]:
    """One job of the platform's predictions.json."""
    image = {"interface": {"slug": INPUT_SLUG}, "image": {"name": "a.tif"}}
    slug = OUTPUT_NAME.removesuffix(".json")
    answer = {"socket": {"slug": slug, "relative_path": OUTPUT_NAME}}
    return _json([{"pk": "job", "inputs": [image], "outputs": [answer]}])


def truth() -> list[bytes]:
    """Its ground truth."""
    return _json([{"image": "a.tif", "labels": ["normal", "atypical"], "tumordomains": [1, "lung"]}])


def answers() -> list[bytes]:
    """Its result."""
    return _json([{"class": "normal", "confidence": 0.125}, {"class": "atypical", "confidence": 0.75}])


def detections() -> list[bytes]:
    """Points in two images, one of them of whole pixels; and none."""
    head = b"image,x_um,y_um,x_px,y_px,p_mitosis\n"
    return [head + b"a.tif,25,50,100,200,0.9\na.tif,50.1,50,200,200,0.3\nb.tif,23,46,100,200,0.7\n", head]


def figures() -> list[bytes]:
    """What is there, with and without domains."""
    rows = b"a.tif,100,200,mitotic figure,lung,1\nb.tif,5,5.5,hard negative,,\n"
    return [b"image,x_px,y_px,label,domain,case\n" + rows, b"image,x_px,y_px,label\na.tif,9,9,mitotic figure\n"]


def detection_records() -> list[bytes]:
    """A record with the threshold."""
    return _json({"csv_sha256": hashlib.sha256(detections()[0]).hexdigest(), "bundle": {"threshold": 0.5}})


def region_jobs() -> list[bytes]:
    """One job of Track 1."""
    image = {"interface": {"slug": REGION_SLUG}, "image": {"name": "a.tif"}}
    answer = {"socket": {"slug": POINTS_NAME.removesuffix(".json"), "relative_path": POINTS_NAME}}
    return _json([{"pk": "job", "inputs": [image], "outputs": [answer]}])


def region_truth() -> list[bytes]:
    """Its ground truth."""
    return _json({"a.tif": {"annotations": [[0.5, 0.5, 0], [1, 2, 0]], "tumor domain": 0, "roi type": "hotspot"}})


def points() -> list[bytes]:
    """Its result, and one without points."""
    called = {"name": "mitotic figure", "point": [0.5, 0.5, 0.0], "probability": 0.9}
    other = {"name": "non-mitotic figure", "point": [3.0, 0.5, 0.0], "probability": 0.2}
    frame = {"name": "Points of interest", "type": "Multiple points", "version": {"major": 1, "minor": 0}}
    return _json({**frame, "points": [called, other]}, {**frame, "points": []})


def indices() -> list[bytes]:
    """An index of two crops that need not exist."""
    return [b"image_id,path\na,a.png\nb,folder/b.tif\n"]


def tables() -> list[bytes]:
    """A training table of two rows."""
    names = (*COLUMNS, *KNOWN_BY_SOME)
    rows = [
        ",".join("normal" if name == "label" else "1" if name.endswith("px") else f"{name}{row}" for name in names)
        for row in range(2)
    ]
    return ["\n".join([",".join(names), *rows, ""]).encode()]


def annotations() -> list[bytes]:
    """Points of a contest's field."""
    return [b"image,x,y,label,confidence\nH04_a.png,3,4.5,mitotic figure,1\nH04_a.png,9,9,hard negative,\n"]


def field_points() -> list[bytes]:
    """Points of any images: with a case, and an image without a figure."""
    return [b"image,x_px,y_px,label,case\na.png,3,4.5,mitotic figure,1\n", b"image,x_px,y_px,label\na.png,,,\n"]


def boxes() -> list[bytes]:
    """YOLO's."""
    return [b"0 0.5 0.5 0.1 0.1\n1 0.25 0.75 0.1 0.1\n", b""]


def field_tables() -> list[bytes]:
    """A prepared field."""
    values = {"width_px": 128, "height_px": 128, "mpp": 0.5, "read_mpp": 0.25}
    return [f"{','.join(FIELD_COLUMNS)}\n{','.join(str(values.get(name, name)) for name in FIELD_COLUMNS)}\n".encode()]


def arrays() -> list[bytes]:
    """Its crops."""
    file = io.BytesIO()
    np.save(file, PAGES)
    return [file.getvalue()]


def settings() -> list[bytes]:
    """Settings of training."""
    return [b"epochs=3", b"augment.zoom=0.1", b"input.size_px=96", b"input.mean=[0.5,0.5,0.5]", b"keep=best"]
