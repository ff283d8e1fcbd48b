import json
import os
import stat
from pathlib import Path

import pytest

from mitoscope.errors import InputError, OutputError
from mitoscope.sockets import INPUT_SLUG, OUTPUT_NAME
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


def test_a_missing_file_is_refused_with_a_list_of_the_others(tmp_path):
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


def test_the_result_is_written_whole_readable_by_others_and_alone(tmp_path):
    (tmp_path / OUTPUT_NAME).write_text("old")
    path, content = tmp_path / OUTPUT_NAME, [{"class": "normal", "confidence": 0.25}]
    write_result(path, content)
    assert json.loads(path.read_text(encoding="utf-8")) == content
    assert list(tmp_path.iterdir()) == [tmp_path / OUTPUT_NAME]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_failed_write_leaves_the_folder_as_it_was(tmp_path):
    (tmp_path / OUTPUT_NAME).mkdir()  # a file cannot be renamed onto a folder
    with pytest.raises(OutputError, match="the result cannot be written"):
        write_result(tmp_path / OUTPUT_NAME, [])
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
        check_writable(tmp_path / OUTPUT_NAME)
        write_result(tmp_path / OUTPUT_NAME, [])
    assert [path.name for path in tmp_path.iterdir()] == [OUTPUT_NAME]
    assert (tmp_path / OUTPUT_NAME).read_text() == "older"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        check_writable(tmp_path / "file" / "output" / OUTPUT_NAME)


def test_a_folder_is_made_and_left_empty(tmp_path):
    check_writable(tmp_path / "new" / "output" / OUTPUT_NAME)
    assert list((tmp_path / "new" / "output").iterdir()) == []


def test_a_folder_without_write_permission_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("needs a user that is not root, who may write everywhere")
    with pytest.raises(OutputError, match="cannot be written"):
        check_writable(tmp_path / OUTPUT_NAME)
