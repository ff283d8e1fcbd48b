import hashlib
from pathlib import Path

import pytest

from scoring.files import hash_files, write_json, write_text


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


def test_the_hash_is_that_of_the_bytes_one_file_after_the_other(tmp_path: Path) -> None:
    for name, content in (("a", b"ab"), ("b", b"c")):
        (tmp_path / name).write_bytes(content)
    assert hash_files([tmp_path / "a", tmp_path / "b"]) == hashlib.sha256(b"abc").hexdigest()
