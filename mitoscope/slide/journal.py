"""What is done of a slide, line by line, so that a slide that was broken off goes on from there."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any


class Journal:
    """A file to which finished parts are appended. One process a file.

    A line that was not written whole, since the process was killed or the disk was full, does not count.

    Args:
        path: The file; missing folders are made.
        mark: What the parts depend on. What another mark wrote is discarded.

    Attributes:
        done: The finished parts, by their names.
    """

    def __init__(self, path: Path, mark: dict[str, Any]) -> None:
        self.done: dict[str, Any] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._file.seek(0)
        head = _encode(mark)
        length = 0
        if self._file.readline() == head:
            length = len(head)
            for line in self._file:
                try:
                    name, part = json.loads(line)
                except ValueError:
                    break
                if not line.endswith(b"\n"):
                    break
                self.done[name] = part
                length += len(line)
        self._file.truncate(length)
        if not length:
            try:
                self._write(head)
            except OSError:  # the disk is full: closing writes once more
                with suppress(OSError):
                    self._file.close()
                raise

    def add(self, name: str, part: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        """Append a finished part; raises OSError if the disk is full."""
        self._write(_encode([name, part]))
        self.done[name] = part

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        """Append a line and hand it to the system."""
        self._file.write(line)
        self._file.flush()


def _encode(value: object) -> bytes:
    """A line of JSON; numbers are read back to the last bit."""
    return (json.dumps(value, allow_nan=False, separators=(",", ":")) + "\n").encode()
