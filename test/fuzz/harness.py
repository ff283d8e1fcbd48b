"""One reader under libFuzzer: `PYTHONPATH=.:test python -m fuzz.harness READER FOLDER… -OPTION=…`."""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["model", "mitoscope", "PIL"]):
    from fuzz.readers import READERS, try_reader


def main(arguments: list[str]) -> None:
    """Read libFuzzer's files until its time is over; a failure ends the process."""
    name, *options = arguments
    reader = READERS[name]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        reader.prepare(Path(folder))
        atheris.Setup([sys.argv[0], *options], lambda content: try_reader(reader, Path(folder), content) and None)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
