"""One file for each known attack: bombs, forged headers, circles, pipes, links; none may fill the memory or hang."""

import json
import os
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from fuzz import seeds
from fuzz.readers import READERS

from mitoscope.bundle.read import MANIFEST, read_bundle
from mitoscope.classify.listing import list_crops
from mitoscope.classify.tables import read_predictions
from mitoscope.command import run_command
from mitoscope.errors import MitoscopeError, one_line
from mitoscope.files import DEPTH_LIMIT, read_file, read_json
from mitoscope.images.crops import MEMORY_LIMIT, PICTURE_BYTES, STACK_BYTES, find_stack, read_crops
from mitoscope.scoring.platform import find_results
from model.classification import IMAGES_FOLDER
from model.contract import INPUTS_BYTES, read_slugs

ROOT = Path(__file__).resolve().parents[3]
PIXELS = bytes(128 * 128)
BOMB = zlib.compress(bytes(1 << 28), 9)  # 260 KB that inflate to 256 MB


def tiff(data=PIXELS, n_pages=1, following=None, **changes):
    """Grey pages that share one strip; `changes` are tags by number, `following` says where the next page lies."""
    tags = {256: 128, 257: 128, 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: 8, 277: (3, 1, 1), 278: 128}
    tags |= {279: len(data)} | {int(tag[1:]): value for tag, value in changes.items()}
    entries = [
        (tag, *(value if isinstance(value, tuple) else (4, 1, value))) for tag, value in sorted(tags.items()) if value
    ]
    start, size = 8 + len(data), 2 + 12 * len(entries) + 4
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    pages = [start + (page + 1) * size if page + 1 < n_pages else 0 for page in range(n_pages)]
    if following is not None:
        pages[-1] = start + following * size
    return struct.pack("<2sHI", b"II", 42, start) + data + b"".join(body + struct.pack("<I", page) for page in pages)


def big_endian(tag=None):
    """A page that is followed by itself, behind the first bytes that Pillow takes for a classic TIFF's: MM\\0+."""
    tags = {256: 128, 257: 128, 258: 8, 259: 1, 262: 1, 273: 16, 277: 1, 278: 128, 279: len(PIXELS)}
    entries = [(number, 4, 1, value) for number, value in tags.items()] + ([tag] if tag else [])
    at = 16 + len(PIXELS)
    body = struct.pack(">H", len(entries)) + b"".join(struct.pack(">HHII", *entry) for entry in sorted(entries))
    return struct.pack(">2s2sI8x", b"MM", b"\0+", at) + PIXELS + body + struct.pack(">I", at)


def tiles(side_px, compression):
    none = dict.fromkeys(("t273", "t278", "t279"))
    return tiff(BOMB, t259=(3, 1, compression), t322=side_px, t323=side_px, t324=8, t325=len(BOMB), **none)


def mha(pixels=bytes(128 * 128 * 3), source="LOCAL", before="", **changes):
    fields = {"ObjectType": "Image", "NDims": "2", "DimSize": "128 128", "ElementNumberOfChannels": "3"}
    fields |= {"ElementType": "MET_UCHAR", **changes, "ElementDataFile": source}
    return before.encode() + "".join(f"{key} = {value}\n" for key, value in fields.items()).encode() + pixels


def png(*chunks, width_px=128, rows=None):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width_px, 128, 8, 2, 0, 0, 0))
    pixels = zlib.compress(bytes(128 * (1 + 3 * 128))) if rows is None else rows
    body = b"".join(chunk(kind, data) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


ATTACKS = {  # file name: (content, what the message says; None where a right answer is as good)
    "deflate-bomb.tif": (tiff(BOMB, t259=(3, 1, 8)), None),
    "deflate-bomb-one-strip.tif": (tiff(BOMB, t259=(3, 1, 8), t278=2**32 - 1), None),
    "tile-bomb.tif": (tiles(46_304, 8), "in tiles of 46304 x 46304 px"),
    "tile-bomb-lzw.tif": (tiles(32_768, 5), "in tiles of"),
    "strip-of-4-gb.tif": (tiff(t279=2**32 - 1), "page 1 of 4,294,967,295 bytes"),
    "circle-of-one.tif": (tiff(following=0), "followed by an earlier one"),
    "circle-of-three.tif": (tiff(n_pages=3, following=1), "page 3 is followed by an earlier one"),
    "million-pages.tif": (tiff(n_pages=1_000_000), "more than 1024 pages"),
    "tag-of-2-gb.tif": (tiff(t65000=(7, 2**31, 8)), "tag 65000 of 2147483648 values"),
    "numbers.tif": (tiff(bytes(80_000_000), t279=16384, t258=(4, 20_000_000, 8)), "tag 258 of 20000000 values"),
    "fractions.tif": (tiff(bytes(80_000_000), t279=16384, t282=(5, 10_000_000, 8)), "tag 282 of 10000000 values"),
    "tags.tif": (struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, 2**40), "a directory of 1099511627776 tags"),
    "bytes.tif": (tiff(bytes(80_000_000), t279=16384, t258=(1, 80_000_000, 8)), "cannot be read"),
    "wide.tif": (tiff(t256=10**6, t257=10**6), "1000000 x 1000000 px"),
    "bomb.mha": (mha(BOMB, CompressedData="True"), "49153 bytes of pixels or more"),
    "no-end.mha": (mha(zlib.compress(bytes(49152))[:-1], CompressedData="True"), "without an end"),
    "behind.mha": (mha(zlib.compress(bytes(49152)) + b"x", CompressedData="True"), "bytes behind"),
    "longer.mha": (mha(bytes(49153)), "49153 bytes of pixels or more"),
    "other-kind.tif": (big_endian(), "a file that begins with b'MM"),
    "other-kind-numbers.tif": (big_endian((65000, 4, 20_000_000, 16)) + bytes(80_000_000), "a file that begins with"),
    "spaces.mha": (b"Comment = x" + b" " * 60_000 + b"x\n" + mha(), None),
    "no-separator.mha": (b"x" + b" " * 60_000 + b"x\n" + mha(), "without ElementDataFile"),
    "header.mha": (b"Comment = " + b"x" * 50_000_000 + b"\n" + mha(), "without ElementDataFile"),
    "negative-dims.mha": (mha(NDims="-1"), "NDims -1"),
    "giant-dims.mha": (mha(NDims="1000000"), "NDims 1000000"),
    "giant-size.mha": (mha(NDims="3", DimSize="128 128 99999999999"), "128 x 128 x 99999999999"),
    "negative-size.mha": (mha(NDims="3", DimSize="128 128 -1"), "128 x 128 x -1"),
    "channels.mha": (mha(ElementNumberOfChannels="2000000000"), "2000000000 channels"),
    "elsewhere.mha": (mha(b"", "../secret.raw"), "pixels in the file '../secret.raw'"),
    "absolute.mha": (mha(b"", "/etc/passwd"), "pixels in the file '/etc/passwd'"),
    "list.mha": (mha(b"secret.raw\n", "LIST"), "pixels in the file 'LIST'"),
    "comment.mha": (mha(b"", "secret.raw", before="Comment = ElementDataFile = LOCAL\n"), "the file 'secret.raw'"),
    "other-key.mha": (mha(b"", "secret.raw", before="XElementDataFile = LOCAL\n"), "the file 'secret.raw'"),
    "zero-byte.mha": (mha(b"", "secret.raw", before="Name = a\0ElementDataFile = LOCAL\n"), "the file 'secret.raw'"),
    "twice.mha": (mha(before="NDims = 3\n"), "NDims twice"),
    "gap.mha": (mha(HeaderSize="99999999"), "behind a gap"),
    "text.mha": (mha(BinaryData="False"), "pixels as text"),
    "rows-bomb.png": (png(rows=BOMB), None),
    "wide.png": (png(width_px=2**31 - 1), "2147483647 x 128 px"),
    "profile-bomb.png": (png((b"iCCP", b"x\0\0" + BOMB)), None),
    "text-bomb.png": (png((b"zTXt", b"x\0\0" + BOMB)), "too large"),
    "text-bombs.png": (png(*[(b"zTXt", b"x\0\0" + zlib.compress(bytes(1 << 20)))] * 200), "MAX_TEXT_MEMORY"),
    "frames.png": (png((b"acTL", struct.pack(">II", 2**31 - 1, 0))), None),
}

MEASURE = """
import resource, sys, time
from pathlib import Path
from mitoscope.images.crops import MEMORY_LIMIT, read_crops
from mitoscope.errors import InputError
import PIL.ImageFile
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY_LIMIT, held + MEMORY_LIMIT))
for path in map(Path, sys.argv[1:]):
    start = time.process_time()
    try:
        said = str(read_crops(path).shape)
    except InputError as error:
        said = str(error)
    print(path.name, round(time.process_time() - start, 1), said, sep="\\t", flush=True)
"""


def test_no_image_file_takes_a_gibibyte_or_ten_seconds_or_an_answer_that_is_none(tmp_path):
    (tmp_path / "secret.raw").write_bytes(bytes(49152))
    for name, (content, _) in ATTACKS.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in ATTACKS]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [name for name, _, _ in lines] == list(ATTACKS)
    assert max(float(seconds) for _, seconds, _ in lines) < 10
    for name, _, said in lines:
        expected = ATTACKS[name][1]
        assert said == "(1, 128, 128, 3)" or "cannot be read as crops: got" in said, (name, said)
        assert expected is None or expected in said, (name, said)


TWO_TILES = """
import resource, sys
from pathlib import Path
from mitoscope.images.crops import MEMORY_LIMIT
from mitoscope.images.slide import open_slide
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY_LIMIT, held + MEMORY_LIMIT))
slide = open_slide(sys.argv[1], 0.25)
print([int(slide.read(left, 0, 64, 64, 0.25).max()) for left in (0, 10_000)])
"""


def test_the_largest_tiles_of_a_region_take_no_gibibyte_one_after_the_other(tmp_path):
    tiles = (np.full((10_000, 10_000, 3), value, np.uint8) for value in (1, 2))
    size = {"shape": (10_000, 20_000, 3), "dtype": np.uint8, "tile": (10_000, 10_000)}
    tifffile.imwrite(tmp_path / "r.tif", tiles, photometric="rgb", compression="zlib", **size)
    command = [sys.executable, "-c", TWO_TILES, str(tmp_path / "r.tif")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("[1, 2]\n", "")


STARVED = """
import resource, sys
from pathlib import Path
from mitoscope.images.crops import read_crops
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (4 << 20), held + (4 << 20)))
try:
    read_crops(Path(sys.argv[1]))
except MemoryError:
    print("MemoryError")
"""
PLENTY = bytes(15 << 20)
GOOD = {
    "a.png": png((b"zzZz", PLENTY)),
    "a.tif": tiff(bytes(128 * 128) + PLENTY, t279=128 * 128, t65000=(7, len(PLENTY), 8)),
    "a.mha": mha(bytes(1024 * 128 * 128 * 3), NDims="3", DimSize="128 128 1024"),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_machine_without_memory_is_not_told_as_a_bad_file(tmp_path, name):
    (tmp_path / name).write_bytes(GOOD[name])
    assert read_crops(tmp_path / name).shape[1:] == (128, 128, 3)
    command = [sys.executable, "-c", STARVED, str(tmp_path / name)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("MemoryError\n", "")


def test_the_limit_of_the_memory_is_one_that_a_bomb_breaks():
    spent = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); bytes(1 << 30)"
    done = subprocess.run([sys.executable, "-c", spent], capture_output=True, text=True, check=False)
    assert "MemoryError" in done.stderr
    assert MEMORY_LIMIT == 1 << 30


@pytest.mark.parametrize(("name", "limit"), [("s.tif", STACK_BYTES), ("s.mha", STACK_BYTES), ("s.png", PICTURE_BYTES)])
def test_a_file_larger_than_any_crops_is_refused_unread(tmp_path, name, limit):
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, limit + 1)
    with pytest.raises(MitoscopeError, match=f"a file of {limit + 1:,} bytes, expected at most {limit:,}"):
        read_crops(tmp_path / name)


def test_the_longest_stack_is_not_too_large(tmp_path):
    pages = np.zeros((1024, 128, 128, 4), np.uint8)
    (tmp_path / "s.mha").write_bytes(
        mha(pages.tobytes(), NDims="3", DimSize="128 128 1024", ElementNumberOfChannels="4")
    )
    assert read_crops(tmp_path / "s.mha").shape == (1024, 128, 128, 3)


# ---- what is no file


@pytest.mark.parametrize("name", ["s.tif", "s.mha", "s.png", "s.jpg"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_refused_at_once(tmp_path, name, kind):
    path = tmp_path / name
    {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda path: path.symlink_to("/dev/zero")}[kind](path)
    with pytest.raises(MitoscopeError, match="a folder, a pipe or a device"):
        read_crops(path)


@pytest.mark.parametrize("name", ["inputs.json", MANIFEST, "fold0.safetensors"])
def test_a_pipe_in_the_place_of_a_small_file_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    read = {"inputs.json": read_slugs, MANIFEST: read_bundle}.get(name, lambda folder: read_file(folder / name, 9))
    with pytest.raises((MitoscopeError, OSError), match="no file, but a folder, a pipe or a device"):
        read(tmp_path)


def test_a_link_out_of_the_case_is_not_followed(tmp_path, make_case):
    (tmp_path / "secret.json").write_text('[{"socket": {"slug": "secret"}}]')
    case = make_case()
    (case / "inputs.json").unlink()
    (case / "inputs.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(MitoscopeError, match=r"inputs\.json is outside of the case"):
        read_slugs(case)
    (tmp_path / "input-2").symlink_to(case)  # as the invoke server finds /input
    with pytest.raises(MitoscopeError, match=r"inputs\.json is outside of the case"):
        read_slugs(tmp_path / "input-2")
    (case / "inputs.json").unlink()
    (case / "inputs.json").symlink_to("inputs.json")  # to itself
    with pytest.raises(MitoscopeError, match="cannot be read"):
        read_slugs(case)


def test_a_folder_of_images_that_is_a_link_out_of_the_case_is_not_followed(tmp_path, make_case):
    case = make_case()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "s.tif").write_bytes(tiff())
    (case / IMAGES_FOLDER).rmdir()
    (case / IMAGES_FOLDER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MitoscopeError, match="is outside of the case"):
        find_stack(case / IMAGES_FOLDER, root=case)


def test_a_result_outside_of_the_platforms_folder_is_not_read(tmp_path):
    jobs = json.loads(seeds.jobs()[0])
    for pk in ("../elsewhere", "/etc"):
        jobs[0]["pk"] = pk
        (tmp_path / "predictions.json").write_text(json.dumps(jobs))
        with pytest.raises(MitoscopeError, match="a result outside of the folder"):
            find_results(tmp_path / "predictions.json")


# ---- JSON and CSV


@pytest.mark.parametrize("name", ["inputs", "manifest", "record", "jobs", "truth", "answers", "check", "study"])
def test_json_nested_too_deep_is_refused_by_every_reader(tmp_path, capsys, name):
    reader = READERS[name]
    reader.prepare(tmp_path)
    (tmp_path / reader.file).write_text("[" * (DEPTH_LIMIT + 1) + "]" * (DEPTH_LIMIT + 1))
    with pytest.raises(MitoscopeError) as caught:
        reader.read(tmp_path)
    assert "nested deeper than 64 levels" in f"{caught.value}{capsys.readouterr().out}"  # `check` prints what is wrong


@pytest.mark.parametrize("depth", [*range(900, 1010, 7), 100_000])  # around Python's own limit, and far beyond
def test_json_nested_deeper_than_python_can_follow_is_refused(tmp_path, depth):
    (tmp_path / "a.json").write_text("[" * depth + "]" * depth)
    with pytest.raises(ValueError, match="nested deeper than 64 levels"):
        read_json(tmp_path / "a.json")


def test_json_nested_as_deep_as_is_allowed_is_read(tmp_path):
    (tmp_path / "a.json").write_text("[" * DEPTH_LIMIT + "]" * DEPTH_LIMIT)
    assert str(read_json(tmp_path / "a.json")).count("[") == DEPTH_LIMIT


def test_inputs_larger_than_the_platform_writes_are_refused_unread(tmp_path):
    (tmp_path / "inputs.json").touch()
    os.truncate(tmp_path / "inputs.json", 300 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(MitoscopeError, match=f"it holds 314,572,800 bytes, more than {INPUTS_BYTES:,}"):
        read_slugs(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10  # KiB


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1e999", "9" * 400, "9" * 5000, "true", "[]", '"\\ud800\\n"'])
@pytest.mark.parametrize("place", ['"value": ', '"crop_px": 64', '"low": '])
def test_a_number_that_is_none_is_refused_in_a_manifest(tmp_path, number, place):
    text = seeds.manifests()[0].decode()
    at = text.index(place)
    stop = min(text.index(end, at) for end in (",", "\n"))
    (tmp_path / MANIFEST).write_text(f"{text[:at]}{place.partition(':')[0]}: {number}{text[stop:]}")
    with pytest.raises(MitoscopeError) as caught:
        read_bundle(tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["a\nwarning   b", "\ud800", "x" * 1000])
@pytest.mark.parametrize("key", ["name", "architecture"])
def test_a_name_that_no_log_can_show_is_refused_in_a_manifest(tmp_path, key, name):
    (tmp_path / MANIFEST).write_text(json.dumps({**json.loads(seeds.manifests()[0]), key: name}))
    with pytest.raises(MitoscopeError, match="names? cannot be used"):
        read_bundle(tmp_path)


@pytest.mark.parametrize(
    "rows",
    [
        "a\0b,0.5,atypical\n",
        "x" * 10_000_000 + ",2,atypical\n",
        "a,b,0.5,atypical\n",
        "a,0.5,atypical" + ",1" * 100_000 + "\n",
        '"a,0.5,atypical\n',
        "a,0.5,atyp\x1b[31mical\n",
    ],
    ids=["zero byte", "giant cell", "a cell too many", "many cells", "open quote", "control code"],
)
def test_a_hostile_table_is_refused_or_read(tmp_path, rows):
    (tmp_path / "p.csv").write_text(f"image_id,p_atypical,class\n{rows}")
    try:
        assert read_predictions(tmp_path / "p.csv")["image_id"].tolist() == ["a\0b"]
    except MitoscopeError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 1500


def test_a_row_with_a_cell_too_many_is_not_shifted(tmp_path):
    (tmp_path / "p.csv").write_text("image_id,p_atypical,class\na,b,0.5,atypical\nc,d,0.4,normal\n")
    with pytest.raises(MitoscopeError, match="rows with more cells than there are columns"):
        read_predictions(tmp_path / "p.csv")


def test_a_table_of_a_hundred_thousand_columns_is_refused(tmp_path):
    (tmp_path / "p.csv").write_text(",".join(map(str, range(100_000))) + "\n")
    with pytest.raises(MitoscopeError, match="more than 1000 columns"):
        read_predictions(tmp_path / "p.csv")
    with pytest.raises(MitoscopeError, match="is no index"):
        list_crops([tmp_path / "p.csv"])
    (tmp_path / "p.csv").write_text("image_id,p_atypical,class\na,0.5,atypical" + ",1" * 2000 + "\n")
    with pytest.raises(MitoscopeError, match="more than 1000 columns"):  # pandas would make names of them
        read_predictions(tmp_path / "p.csv")


def test_a_zero_byte_in_a_name_is_refused(tmp_path):
    with pytest.raises(MitoscopeError, match="cannot be read as crops: got embedded null byte"):
        read_crops(tmp_path / "a\0.png")
    jobs = json.loads(seeds.jobs()[0])
    jobs[0]["pk"] = "a\0"
    (tmp_path / "predictions.json").write_text(json.dumps(jobs))
    with pytest.raises(MitoscopeError, match=r"job 1 of .* is malformed: got ValueError embedded null byte"):
        find_results(tmp_path / "predictions.json")


def test_a_column_of_five_thousand_digits_is_no_member(tmp_path):
    (tmp_path / "p.csv").write_text(f"image_id,p_atypical,class,member_{'9' * 5000}\na,0.5,atypical,0.5\n")
    assert list(read_predictions(tmp_path / "p.csv")) == ["image_id", "p_atypical", "class"]


@pytest.mark.parametrize("path", ["a\0.png", "x" * 200_000])
def test_a_path_that_is_none_is_refused_in_an_index(tmp_path, path):
    (tmp_path / "index.csv").write_text(f"image_id,path\na,{path}\n")
    with pytest.raises(MitoscopeError, match=r"zero byte|field larger"):
        list_crops([tmp_path / "index.csv"])


# ---- names


@pytest.mark.parametrize("name", [b"a\nerror: b.tif", b"\xff\xfe\x1b[2J\xe2\x80\xa8.tif"])
def test_a_hostile_name_leaves_one_printable_line(run_inference, make_case, tmp_path, name):
    case = make_case()
    path = os.fsencode(case / IMAGES_FOLDER) + b"/" + name
    Path(os.fsdecode(path)).write_bytes(tiff())
    done = run_inference("--input", case, "--output", tmp_path / "output", "--weights", ROOT / "weights" / "lite")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 7  # the seventh warns of grey pages
    assert all(line.isprintable() for line in done.stdout.splitlines())
    Path(os.fsdecode(path)).write_bytes(b"II*\0")
    done = run_inference("--input", case, "--output", tmp_path / "output", "--weights", "none")
    (line,) = done.stderr.splitlines()
    assert line.isprintable() and "cannot be read as crops" in line


def test_an_error_is_one_printable_line_whatever_was_got():
    got = "a\nb\u2028\u202e\ud800\x00\x1b[2J" + "x" * 10_000
    line = str(MitoscopeError("what", got=got, expected="expected", remedy="remedy"))
    assert line.isprintable()
    assert line.startswith("what: got a b \\u202e\\ud800\\x00\\x1b[2Jxxx")
    assert line.endswith("xx…, expected expected; remedy")
    assert len(str(MitoscopeError(200 * "\udcff", got=10_000 * "\udcff", expected="", remedy=""))) < 1000
    assert one_line("µ é 😀") == "µ é 😀"


def test_a_command_ends_with_one_printable_line_whatever_the_system_said(capsys):
    def fail():
        raise OSError("a\nb\x1b[2J")

    assert run_command(fail) == 1
    assert capsys.readouterr().err == "error: a b\\x1b[2J; fix the cause, then run the command again\n"
