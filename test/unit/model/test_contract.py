import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from mitoscope.errors import DeviceError, InputError, OutputError
from model.classification import INPUT_SLUG, OUTPUT_NAME, encode_result
from model.contract import check_writable, read_slugs, write_result


@pytest.mark.parametrize("key", ["socket", "interface"])
def test_both_spellings_of_the_slug_are_read(make_case, key):
    assert read_slugs(make_case(key)) == (INPUT_SLUG,)


def test_other_keys_are_ignored_and_slugs_sorted(tmp_path):
    values = [{"interface": {"slug": "b"}, "pk": 7, "value": None}, {"socket": {"slug": "a"}, "interface": None}]
    (tmp_path / "inputs.json").write_text(json.dumps(values))
    assert read_slugs(tmp_path) == ("a", "b")


def test_a_byte_order_mark_is_no_error(tmp_path):
    (tmp_path / "inputs.json").write_bytes(b'\xef\xbb\xbf[{"socket": {"slug": "a"}}]')
    assert read_slugs(tmp_path) == ("a",)


def test_a_missing_file_is_refused_with_what_lies_there(tmp_path):
    (tmp_path / "input.json").touch()
    with pytest.raises(InputError, match=r"no inputs\.json .*got a folder that holds \['input\.json'\]"):
        read_slugs(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[{", b"\xff\xfe\xfa", b"[" * 100_000])
def test_broken_json_is_refused(tmp_path, content):
    (tmp_path / "inputs.json").write_bytes(content)
    with pytest.raises(InputError, match=r"inputs\.json' cannot be read.*expected UTF-8 JSON"):
        read_slugs(tmp_path)


@pytest.mark.parametrize(
    "value", [{}, None, "x", [1], [{}], [{"socket": "a"}], [{"socket": {"slug": 3}}], [{"interface": {}}]]
)
def test_json_of_another_form_is_refused(tmp_path, value):
    (tmp_path / "inputs.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"inputs\.json' is malformed"):
        read_slugs(tmp_path)


def test_the_class_follows_the_threshold_and_the_confidence_does_not():
    records = encode_result(np.array([0.1, 0.3, 0.29999, 0.9]), threshold=0.3)
    assert [record["class"] for record in records] == ["normal", "atypical", "normal", "atypical"]
    assert [record["confidence"] for record in records] == [0.1, 0.3, 0.29999, 0.9]


@pytest.mark.parametrize("p", [0, 1, 0.0, 1.0, np.float32(0), np.float16(1), np.int64(1), 1e-300])
def test_a_confidence_is_a_json_float_even_at_the_ends(tmp_path, p):
    path = write_result(tmp_path, encode_result([p], threshold=0.5))
    (record,) = json.loads(path.read_text())
    assert isinstance(record["confidence"], float)
    assert record["confidence"] == p


@pytest.mark.parametrize("p", [np.nan, np.inf, -np.inf, -1e-9, 1 + 1e-9])
def test_a_probability_that_is_none_is_refused(p):
    with pytest.raises(DeviceError, match="the probability of page 2 is unusable"):
        encode_result([0.5, p], threshold=0.5)


def test_the_result_is_written_whole_readable_by_others_and_alone(tmp_path):
    (tmp_path / OUTPUT_NAME).write_text("old")
    records = encode_result([0.25, 0.75], threshold=0.5)
    path = write_result(tmp_path, records)
    assert path == tmp_path / OUTPUT_NAME
    assert json.loads(path.read_text(encoding="utf-8")) == records
    assert list(tmp_path.iterdir()) == [tmp_path / OUTPUT_NAME]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_failed_write_leaves_the_folder_as_it_was(tmp_path):
    (tmp_path / OUTPUT_NAME).mkdir()  # a file cannot be renamed onto a folder
    with pytest.raises(OutputError, match="the result cannot be written"):
        write_result(tmp_path, encode_result([0.5], threshold=0.5))
    assert list(tmp_path.iterdir()) == [tmp_path / OUTPUT_NAME]


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace"), (Path, "touch")])
def test_a_signal_in_the_middle_leaves_the_folder_as_it_was(tmp_path, monkeypatch, owner, name):
    (tmp_path / OUTPUT_NAME).write_text("older")
    real = getattr(owner, name)

    def interrupt(*arguments):
        if name == "touch":
            real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, interrupt)
    with pytest.raises(KeyboardInterrupt):
        check_writable(tmp_path)
        write_result(tmp_path, encode_result([0.5], threshold=0.5))
    assert [path.name for path in tmp_path.iterdir()] == [OUTPUT_NAME]
    assert (tmp_path / OUTPUT_NAME).read_text() == "older"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        check_writable(tmp_path / "file" / "output")


def test_a_folder_is_made_and_left_empty(tmp_path):
    check_writable(tmp_path / "new" / "output")
    assert list((tmp_path / "new" / "output").iterdir()) == []


def test_a_folder_without_write_permission_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user (root) may write everywhere")
    with pytest.raises(OutputError, match="cannot be written"):
        check_writable(tmp_path)
