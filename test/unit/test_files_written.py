import hashlib
from pathlib import Path

import pytest

from mitoscope.errors import DataError
from mitoscope.files import check_file, hash_file, write_json, write_text


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figures.json"
    write_json(path, {"name": "µ", "value": None})
    before = path.read_bytes()
    assert before == '{\n "name": "µ",\n "value": null\n}\n'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"value": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half of it \ud800")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_hash_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"ab")
    assert hash_file(tmp_path / "a") == hashlib.sha256(b"ab").hexdigest()


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    check_file(tmp_path / "new.csv")
    with pytest.raises(DataError, match="is a folder"):
        check_file(tmp_path)
