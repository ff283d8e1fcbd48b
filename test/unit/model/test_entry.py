import hashlib
import json
import os
import shutil
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import SimpleITK as sitk
import tifffile
import torch
from PIL import Image

from mitoscope.classify.classifier import Classifier
from mitoscope.classify.outliers import describe_crops
from mitoscope.images.crops import find_stack
from mitoscope.images.stain import measure_crops
from mitoscope.scoring.check import check
from mitoscope.sockets import OUTPUT_NAME
from model import entry
from model.classification import IMAGES_FOLDER


@pytest.fixture
def score(tmp_path, tiny_bundle, capfd):
    """A function (case, weights, *options) → (exit code, lines of stdout, lines of stderr, the output's files)."""

    def run(case, weights=tiny_bundle, *options):
        output = tmp_path / "output"
        shutil.rmtree(output, ignore_errors=True)
        arguments = ["--input", str(case), "--output", str(output), "--weights", str(weights), "--device", "cpu"]
        status = entry.main(entry.parse([*arguments, *options]))
        out, err = capfd.readouterr()
        written = {path.name: path.read_text() for path in output.iterdir()} if output.exists() else {}
        return status, out.splitlines(), err.splitlines(), written

    return run


@pytest.fixture
def refuse(score):
    """A function (case, weights) → the one line that the platform would show."""

    def run(case, weights):
        status, _, err, written = score(case, weights)
        assert status == 1
        assert written == {}
        assert "Traceback" not in "".join(err)
        assert err[-1].startswith("error: ")
        assert len(err[-1]) < 1024
        return err[-1]

    return run


@pytest.fixture
def case(make_case, stack, save_tiff):
    folder = make_case()
    save_tiff(folder / IMAGES_FOLDER / "0b5a.tif", stack)
    return folder


def confidences(written):
    return np.array([record["confidence"] for record in json.loads(written[OUTPUT_NAME])])


# ---- a good case


def test_a_case_becomes_one_record_a_page_and_six_lines(score, case):
    status, out, err, written = score(case)
    assert (status, err, list(written)) == (0, [], [OUTPUT_NAME])
    records = json.loads(written[OUTPUT_NAME])
    assert len(records) == 16
    for record in records:
        assert list(record) == ["class", "confidence"]
        assert isinstance(record["confidence"], float)
        assert record["class"] == ("atypical" if record["confidence"] >= 0.5 else "normal")
    assert {record["class"] for record in records} == {"normal", "atypical"}
    assert [line.split()[0] for line in out] == ["versions", "device", "bundle", "pages", "unlike", "seconds"]
    assert "CPU" in out[1]
    assert "16 in '0b5a.tif'" in out[3]
    assert out[4] == "unlike    unknown: the bundle does not describe its training crops"
    assert out[5].split()[1::2] == ["read", "imports", "weights", "forward", "compare", "write", "total"]


def test_the_table_shows_every_page_and_the_spread(score, case, tiny_bundle, stack):
    _, out, _, written = score(case, tiny_bundle, "--table")
    p_members = Classifier.load(tiny_bundle, device="cpu").predict_members(stack)
    assert np.allclose(confidences(written), p_members.mean(axis=0), atol=1e-9)
    rows = [line.split() for line in out[-16:]]
    assert [int(row[0]) for row in rows] == list(range(1, 17))
    spread = p_members.max(axis=0) - p_members.min(axis=0)
    assert np.allclose([float(row[3]) for row in rows], spread, atol=1e-4)


def test_the_same_stack_in_another_form_gives_the_same_numbers(score, make_case, stack, save_tiff):
    raw, lzw, mha = [make_case("interface", name=name) for name in ("raw", "lzw", "mha")]
    new = make_case("socket", name="new")
    save_tiff(raw / IMAGES_FOLDER / "s.tif", stack)
    save_tiff(new / IMAGES_FOLDER / "s.tif", stack)
    save_tiff(lzw / IMAGES_FOLDER / "s.tiff", stack, "tiff_lzw")
    sitk.WriteImage(sitk.GetImageFromArray(stack, isVector=True), str(mha / IMAGES_FOLDER / "s.mha"))
    expected = confidences(score(raw)[3])
    assert np.diff(np.sort(expected)).min() > 1e-5  # no two pages could be exchanged unseen
    for other in (new, lzw, mha):
        assert np.abs(confidences(score(other)[3]) - expected).max() <= 1e-6


def test_one_page_gives_one_record(score, make_case, stack, save_tiff):
    folder = make_case()
    save_tiff(folder / IMAGES_FOLDER / "s.tif", stack[:1])
    assert len(json.loads(score(folder)[3][OUTPUT_NAME])) == 1


def test_the_bundle_in_git_gives_the_expected_result_in_git(run_inference, tmp_path):
    root = Path(__file__).resolve().parents[3]
    bundle, expected = root / "weights" / "lite", root / "test" / "expected" / "interf0"
    done = run_inference(
        *("--input", root / "test" / "input" / "interf0", "--output", tmp_path),
        *("--weights", bundle, "--device", "cpu"),
    )
    assert done.returncode == 0, done.stderr
    checked = check(
        tmp_path / OUTPUT_NAME,
        find_stack(root / "test" / "input" / "interf0" / IMAGES_FOLDER),
        weights=bundle,
        expected=expected / OUTPUT_NAME,
        tolerance=1e-5,  # README: some 1e-6 between processors
    )
    assert checked == 0


def describe(bundle, folder, crops):
    """A copy of a bundle whose manifest describes these training crops."""
    shutil.copytree(bundle, folder)
    edit_manifest(folder, training_crops=asdict(describe_crops(measure_crops(crops))))
    return folder


def test_pages_unlike_the_training_crops_are_named_and_the_result_stays_the_same(
    score, make_case, stack, save_tiff, tiny_bundle, tmp_path
):
    pages = stack.copy()
    pages[2] = pages[2] // 8
    pages[6] = (200, 150, 180)
    folder = make_case()
    save_tiff(folder / IMAGES_FOLDER / "s.tif", pages)
    status, out, err, written = score(folder, describe(tiny_bundle, tmp_path / "described", stack))
    assert (status, err) == (0, [])
    [line] = [line for line in out if line.startswith("unlike")]
    assert line.startswith("unlike    2 of 16 pages are unlike the training crops: page 3 (haematoxylin mean")
    assert "), page 7 (" in line
    assert line.endswith("sharpness)")
    assert written == score(folder)[3]  # to the byte


def test_pages_like_the_training_crops_are_counted_as_such(score, case, tiny_bundle, stack, tmp_path):
    _, out, _, _ = score(case, describe(tiny_bundle, tmp_path / "described", stack))
    assert "unlike    0 of 16 pages are unlike the training crops" in out


def test_it_runs_as_a_process_with_a_silent_stderr(run_inference, case, tmp_path, tiny_bundle):
    done = run_inference("--input", case, "--output", tmp_path / "output", "--weights", tiny_bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 6
    assert list((tmp_path / "output").iterdir()) == [tmp_path / "output" / OUTPUT_NAME]


@pytest.mark.gpu
def test_it_runs_on_the_gpu(run_inference, case, tmp_path, tiny_bundle):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for device in ("cpu", "cuda"):
        done = run_inference(
            "--input", case, "--output", tmp_path / device, "--weights", tiny_bundle, "--device", device
        )
        assert (done.returncode, done.stderr) == (0, "")
    on_cpu, on_gpu = (confidences({OUTPUT_NAME: (tmp_path / d / OUTPUT_NAME).read_text()}) for d in ("cpu", "cuda"))
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-2)


@pytest.mark.data
def test_the_challenges_own_stack_scores_the_same_in_every_form(score, make_case):
    if "MITOSIS_DATA" not in os.environ:
        pytest.skip("MITOSIS_DATA, the folder with the real crops, is not set")
    source = Path(os.environ["MITOSIS_DATA"]) / "stacks" / "stack_5.tiff"
    with Image.open(source) as image:
        pages = []
        for page in range(image.n_frames):
            image.seek(page)
            pages.append(np.asarray(image.convert("RGB")))
    cases = [make_case(key, name=name) for key, name in [("interface", "a"), ("socket", "b"), ("socket", "c")]]
    shutil.copy(source, cases[0] / IMAGES_FOLDER)
    sitk.WriteImage(sitk.GetImageFromArray(np.stack(pages), isVector=True), str(cases[1] / IMAGES_FOLDER / "s.mha"))
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(cases[2] / IMAGES_FOLDER / "s.tif", save_all=True, append_images=others, compression="tiff_lzw")
    original, mha, lzw = [confidences(score(folder)[3]) for folder in cases]
    assert len(original) == 16
    assert np.diff(np.sort(original)).min() > 1e-5
    assert np.abs(mha - original).max() <= 1e-6
    assert np.abs(lzw - original).max() <= 1e-6


# ---- a bad case: refused before the weights are read


def remove_inputs(case):
    (case / "inputs.json").unlink()


def break_json(case):
    (case / "inputs.json").write_text('[{"interface": ')


def rename_slug(case):
    (case / "inputs.json").write_text('[{"interface": {"slug": "ct-image"}}]')


def add_socket(case):
    values = json.loads((case / "inputs.json").read_text())
    (case / "inputs.json").write_text(json.dumps([*values, {"socket": {"slug": "age"}}]))


def image_of(case):
    return case / IMAGES_FOLDER / "0b5a.tif"


def remove_image(case):
    image_of(case).unlink()


def add_image(case):
    shutil.copy(image_of(case), case / IMAGES_FOLDER / "second.TIFF")


def truncate(case):
    image_of(case).write_bytes(image_of(case).read_bytes()[:-5000])


def empty(case):
    image_of(case).write_bytes(b"")


def use_16_bit(case):
    tifffile.imwrite(image_of(case), np.zeros((2, 128, 128, 3), np.uint16), photometric="rgb")


def use_float(case):
    tifffile.imwrite(image_of(case), np.zeros((2, 128, 128), np.float32))


def use_wide_page(case):
    Image.new("RGB", (10_000, 128)).save(image_of(case), compression="tiff_lzw")


def use_5000_pages(case):
    tifffile.imwrite(image_of(case), np.zeros((5000, 128, 128), np.uint8), photometric="minisblack", compression="zlib")


BAD_CASES = {
    remove_inputs: "no inputs.json in",
    break_json: "inputs.json' cannot be read: got JSONDecodeError",
    rename_slug: "sockets are unknown: got ['ct-image']",
    add_socket: "sockets are unknown: got ['age', 'stacked-histopathology-roi-cropouts']",
    remove_image: "no image in",
    add_image: "2 images in",
    truncate: "expected a whole TIFF",
    empty: "a file of zero bytes",
    use_16_bit: "page 1 of 16-bit unsigned samples",
    use_float: "page 1 of 32-bit floating-point samples",
    use_wide_page: "page 1 of 10000 x 128 px",
    use_5000_pages: "more than 1024 pages",
}


@pytest.mark.parametrize("spoil", BAD_CASES, ids=lambda spoil: spoil.__name__)
def test_a_bad_case_is_refused_in_one_line(refuse, case, tmp_path, spoil):
    spoil(case)
    assert BAD_CASES[spoil] in refuse(case, tmp_path / "no weights here")


def test_a_bad_case_is_refused_by_the_process(run_inference, case, tmp_path, tiny_bundle):
    truncate(case)
    done = run_inference("--input", case, "--output", tmp_path / "output", "--weights", tiny_bundle)
    assert done.returncode == 1
    assert "0b5a.tif' cannot be read as crops: got" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "output").exists()


def test_an_unwritable_output_is_refused_before_the_weights_are_read(case, tmp_path, capsys):
    (tmp_path / "output").touch()
    command = ["--input", str(case), "--output", str(tmp_path / "output"), "--weights", "none"]
    assert entry.main(entry.parse(command)) == 1
    assert capsys.readouterr().err.startswith("error: the result cannot be written to ")


# ---- a bad bundle


def edit_manifest(bundle, **changes):
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["checksum"]
    (bundle / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def remove_manifest(bundle):
    (bundle / "manifest.json").unlink()


def flip_bit(bundle):
    content = bytearray((bundle / "fold4.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "fold4.safetensors").write_bytes(content)


def plant_foreign_member(bundle):
    """One member of another network, with its own hash in the manifest."""
    content = safetensors.numpy.save({"fc.weight": np.zeros((1, 8), np.float16)})
    (bundle / "fold2.safetensors").write_bytes(content)
    members = json.loads((bundle / "manifest.json").read_text())["members"]
    members[2]["sha256"] = hashlib.sha256(content).hexdigest()
    edit_manifest(bundle, members=members)


def invent_architecture(bundle):
    edit_manifest(bundle, architecture="efficientvit_b99")


BAD_BUNDLES = {
    remove_manifest: "no bundle in",
    flip_bit: "fold4.safetensors was altered or swapped",
    plant_foreign_member: "fold2.safetensors is of another architecture",
    invent_architecture: "efficientvit_b99",
}


@pytest.mark.parametrize("spoil", BAD_BUNDLES, ids=lambda spoil: spoil.__name__)
def test_a_bad_bundle_is_refused_in_one_line(refuse, case, tmp_path, tiny_bundle, spoil):
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    spoil(tmp_path / "bundle")
    assert BAD_BUNDLES[spoil] in refuse(case, tmp_path / "bundle")


# ---- anything else


def test_an_unexpected_error_still_ends_with_one_line(monkeypatch, capsys):
    def run(arguments):
        raise ZeroDivisionError("two\nlines " + 5000 * "x")

    monkeypatch.setattr(entry, "run", run)
    assert entry.main(entry.parse([])) == 1
    *above, last = capsys.readouterr().err.splitlines()
    assert above[0].startswith("Traceback")
    assert last.startswith("error: unexpected ZeroDivisionError: two lines xxx")
    assert len(last) < 1024


def test_too_little_memory_is_reported(monkeypatch, capsys):
    def run(arguments):
        raise MemoryError

    monkeypatch.setattr(entry, "run", run)
    assert entry.main(entry.parse([])) == 1
    assert capsys.readouterr().err.startswith("error: out of memory")


@pytest.mark.filterwarnings("always")
def test_a_warning_goes_to_stdout_in_one_printable_line(monkeypatch, capsys):
    monkeypatch.setattr(entry, "run", lambda arguments: warnings.warn("old\ndriver\x1b[2J", stacklevel=1))
    assert entry.main(entry.parse([])) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("warning   old driver\\x1b[2J\n", "")
