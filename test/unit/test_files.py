import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from mitoscope import files as module
from mitoscope.errors import DataError
from mitoscope.files import check_file, hash_file, read_file, read_object, write_json, write_text, written_folder

ROOT = Path(__file__).resolve().parents[2]
STARVED = """
import resource, sys
from pathlib import Path
from mitoscope.files import read_file
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (16 << 20), held + (16 << 20)))
print(read_file(Path(sys.argv[1]), 1 << 30))
"""


def test_a_file_that_hides_its_size_is_not_read_beyond_the_limit() -> None:
    assert Path("/proc/self/maps").stat().st_size == 0
    with pytest.raises(OSError, match="it holds more than 10 bytes"):
        read_file(Path("/proc/self/maps"), 10)


def test_a_file_that_hides_its_size_is_read_whole() -> None:
    assert read_file(Path("/proc/self/maps"), 1 << 24).count(b"\n") > 100


def test_a_file_of_just_the_limit_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    assert read_file(tmp_path / "a", 10) == b"0123456789"


@pytest.mark.parametrize("content", [b"0123456789", b""])
def test_a_small_file_takes_little_memory_whatever_the_limit(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    command = [sys.executable, "-c", STARVED, str(tmp_path / "a")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{content!r}\n", "")


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
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written: got .*file, a file, expected a folder there"):
        check_file(tmp_path / "file" / "sub" / "new.csv")
    with pytest.raises(DataError, match="is a folder"):
        check_file(tmp_path)


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    for content in ("older", "newer"):
        with written_folder(tmp_path / "folder") as scratch:
            (scratch / "file").write_text(content)
        assert (tmp_path / "folder" / "file").read_text() == content
    with pytest.raises(KeyboardInterrupt), written_folder(tmp_path / "folder") as scratch:
        (scratch / "file").write_text("newest")
        raise KeyboardInterrupt
    assert (tmp_path / "folder" / "file").read_text() == "newer"
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_an_older_folder_never_lacks_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed leaves the older folder or the newer one."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("older")
    monkeypatch.setattr(Path, "rename", None)  # cannot be called: the two names are exchanged in one step
    with written_folder(folder) as scratch:
        (scratch / "file").write_text("newer")
    assert (folder / "file").read_text() == "newer"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_is_no_file_to_read_and_stays_closed(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(OSError, match="no file, but a folder, a pipe or a device"):
            read_file(tmp_path, 10)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("moment", "left"), [("after the first rename", "older"), ("before the second", "older"), ("after it", "newer")]
)
def test_an_interrupt_between_the_renames_leaves_one_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, left: str
) -> None:
    folder, rename = tmp_path / "folder", Path.rename
    folder.mkdir()
    (folder / "file").write_text("older")

    def interrupted(path: Path, target: Path) -> Path:
        is_first, is_second = path == folder, target == folder and not path.name.endswith(".old")
        if is_second and moment == "before the second":
            raise KeyboardInterrupt
        rename(path, target)
        if (is_first and moment == "after the first rename") or (is_second and moment == "after it"):
            raise KeyboardInterrupt
        return target

    monkeypatch.setattr(Path, "rename", interrupted)
    monkeypatch.setattr(module, "_exchange", lambda one, other: False)  # as on NFS
    with pytest.raises(KeyboardInterrupt), written_folder(folder) as scratch:
        (scratch / "file").write_text("newer")
    assert (folder / "file").read_text() == left
    assert list(tmp_path.iterdir()) == [folder]


def test_a_record_that_lacks_a_key_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "done.json").write_text('{"mark": {}}')
    with pytest.raises(DataError, match="done.json cannot be read: got no commits, expected a JSON object with mark"):
        read_object(tmp_path / "done.json", "delete it", ("mark", "commits"))
