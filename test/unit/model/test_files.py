from pathlib import Path

import pytest

from model.files import read_file


def test_a_file_that_hides_its_size_is_not_read_beyond_the_limit() -> None:
    assert Path("/proc/self/maps").stat().st_size == 0
    with pytest.raises(OSError, match="it holds more than 10 bytes"):
        read_file(Path("/proc/self/maps"), 10)


def test_a_file_of_just_the_limit_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    assert read_file(tmp_path / "a", 10) == b"0123456789"
