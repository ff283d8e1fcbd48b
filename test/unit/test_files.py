import subprocess
import sys
from pathlib import Path

import pytest

from mitoscope.files import read_file

ROOT = Path(__file__).resolve().parents[3]
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
