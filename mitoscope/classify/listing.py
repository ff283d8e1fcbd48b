"""Which crops are to be scored, and their pixels block by block: a million of them in the memory of a thousand.

The list lies in a temporary database on the disk, which sorts it, and refuses a name that comes twice.
"""

import csv
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mitoscope.errors import DataError, InputError, MitoscopeError
from mitoscope.images import CROP_PX
from mitoscope.images.crops import READERS, read_crops

Row = tuple[str, str, int, int]  # image_id, path, number of the path that was given, row of the index
ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Listing:
    """The files to be read, in the order of the paths given; within a folder by name, within an index by row.

    Attributes:
        database: Holds them.
        n_files: How many.
        n_others: Files in the folders that are no images by their names, and hidden ones.
        sha256: Of all names and sizes, in order.
        newest_s: When the last of the files was changed, in seconds since 1970.
    """

    database: sqlite3.Connection
    n_files: int
    n_others: int
    sha256: str = ""
    newest_s: float = 0.0

    def files(self, first: int = 0, last: int | None = None) -> Iterator[tuple[str, Path]]:
        """image_id and path of the files from `first` to before `last`, counted from 0."""
        start, stop = first, self.n_files if last is None else last
        for begin in range(start, stop, ROWS_AT_ONCE):
            place = (begin + 1, min(begin + ROWS_AT_ONCE, stop))
            query = "SELECT image_id, path FROM ordered WHERE rowid BETWEEN ? AND ? ORDER BY rowid"
            for image_id, path in self.database.execute(query, place).fetchall():
                yield image_id, Path(path)


@dataclass(frozen=True)
class Block:
    """Crops that are handed on together.

    Attributes:
        image_ids: A name a crop: the file's, with ``#page`` (from 1) where it holds several.
        crops: uint8 (B, 128, 128, 3), RGB in [0, 255].
        unreadable: Name of and reason for each file that could not be read since the last block.
        n_files: Files that were finished with this block, the unreadable ones included.
    """

    image_ids: list[str]
    crops: np.ndarray
    unreadable: list[tuple[str, str]]
    n_files: int


@contextmanager
def open_listing(paths: Sequence[Path]) -> Iterator[Listing]:
    """List what is to be read; no image is opened.

    Args:
        paths: Any mix of folders (searched to the bottom; a crop's name is its path below the folder), image files
            (PNG, JPEG, TIFF, MHA; the name is the file's), and index CSVs with ``image_id`` and ``path`` (relative to
            the CSV; the table.csv of `mitoscope train prepare` is one).

    Raises:
        DataError: A path is missing or of another type, a name comes twice, or there is nothing to read.
    """
    database = sqlite3.connect("", check_same_thread=False)  # a nameless file that goes with the connection
    try:
        database.execute("CREATE TABLE files (image_id TEXT PRIMARY KEY, path TEXT, given INT, line INT) WITHOUT ROWID")
        n_others = 0
        for number, path in enumerate(paths):
            n_others += _insert(database, number, path)
        database.execute("CREATE TABLE ordered AS SELECT image_id, path FROM files ORDER BY given, line, image_id")
        (n_files,) = database.execute("SELECT count(*) FROM ordered").fetchone()
        if not n_files:
            raise _fault("there are no crops", got=f"no image in {', '.join(map(str, paths))}")
        listing = Listing(database, n_files, n_others)
        yield replace(listing, **_stat(listing))
    except sqlite3.OperationalError as error:  # its file lies in the temporary folder
        raise DataError(
            "the list of crops cannot be kept", got=error, expected="space for it in TMPDIR", remedy="free space there"
        ) from error
    finally:
        database.close()


def read_blocks(listing: Listing, batch_size: int, first: int = 0, last: int | None = None) -> Iterator[Block]:
    """Read the files from `first` to before `last`, one block ahead of whoever works on them.

    Args:
        listing: What `open_listing` gave.
        batch_size: Crops a block; the last one may hold fewer.
        first: Of the files, counted from 0.
        last: None: to the end.
    """
    blocks = _blocks(listing.files(first, last), batch_size)
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, blocks, None)
        while (block := following.result()) is not None:
            following = reader.submit(next, blocks, None)
            yield block


def _blocks(files: Iterable[tuple[str, Path]], batch_size: int) -> Iterator[Block]:
    """Group what the files hold, however many pages each of them has."""
    image_ids: list[str] = []
    held: list[np.ndarray] = []  # uint8 (n, 128, 128, 3) each
    unreadable: list[tuple[str, str]] = []
    n_files = 0
    for image_id, path in files:
        n_files += 1
        try:
            crops = read_crops(path)
        except InputError as error:
            unreadable.append((image_id, str(error)))
            crops = np.empty((0, CROP_PX, CROP_PX, 3), np.uint8)
        image_ids += [image_id] if len(crops) == 1 else [f"{image_id}#{page}" for page in range(1, len(crops) + 1)]
        held.append(crops)
        while len(image_ids) >= batch_size:
            pixels = np.concatenate(held)
            yield Block(image_ids[:batch_size], pixels[:batch_size], unreadable, n_files)
            image_ids, held, unreadable, n_files = image_ids[batch_size:], [pixels[batch_size:]], [], 0
        if len(held) > batch_size:  # many unreadable files
            held = [np.concatenate(held)]
    if image_ids or unreadable:
        yield Block(image_ids, np.concatenate(held), unreadable, n_files)


def _insert(database: sqlite3.Connection, number: int, path: Path) -> int:
    """List what one path stands for; returns how many files in it were passed over."""
    others = [0]
    if path.is_dir():
        rows = _walk(path, number, others)
    elif path.suffix.lower() == ".csv":
        rows = _read_index(path, number)
    elif path.suffix.lower() in READERS and path.is_file():
        rows = iter([(path.name, str(path), number, 0)])
    else:
        raise _fault(f"{path} cannot be read as crops", got="no such file or folder" if not path.exists() else "a file")
    for row in rows:
        try:
            database.execute("INSERT INTO files VALUES (?, ?, ?, ?)", row)
        except sqlite3.IntegrityError:
            raise DataError(
                "two crops have the same name",
                got=f"{row[0]!r} twice",
                expected="a unique image_id for each",
                remedy="name the folder above them, or give an index CSV with image_id and path",
            ) from None
        except UnicodeEncodeError:
            raise DataError(
                f"a file's name cannot be written to a CSV: {row[1]!r}",
                got="bytes that are no UTF-8",
                expected="UTF-8",
                remedy="rename it",
            ) from None
    return others[0]


def _walk(folder: Path, number: int, others: list[int]) -> Iterator[Row]:
    """The images below a folder, in no order, links followed; counts what is passed over."""
    waiting, seen = [str(folder)], set[str]()
    while waiting:
        place = waiting.pop()
        if os.path.realpath(place) in seen:  # a link to a folder above it has no end
            raise _fault(f"{place} leads to a folder that is read already", got="a link")
        seen.add(os.path.realpath(place))
        with os.scandir(place) as entries:
            for entry in entries:
                hidden = entry.name.startswith(".")
                if entry.is_dir() and not hidden:
                    waiting.append(entry.path)
                elif not hidden and os.path.splitext(entry.name)[1].lower() in READERS:  # noqa: PTH122 - a million times
                    yield os.path.relpath(entry.path, folder), entry.path, number, 0
                else:
                    others[0] += 1


def _read_index(path: Path, number: int) -> Iterator[Row]:
    """The rows of an index CSV."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not {"image_id", "path"} <= {*(rows.fieldnames or ())}:
                raise _fault(f"{path} is no index", got=f"the columns {rows.fieldnames}")
            for row in rows:
                if not row["image_id"] or not row["path"]:
                    raise _fault(f"{path} has an empty cell", got=f"line {rows.line_num}")
                if "\0" in row["path"]:
                    raise _fault(f"{path} has a path with a zero byte", got=f"line {rows.line_num}")
                yield row["image_id"], str(path.parent / row["path"]), number, rows.line_num
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _fault(f"{path} cannot be read", got=str(error)) from error


def _stat(listing: Listing) -> dict[str, Any]:
    """What a listing says of the files' names, sizes and times; a file that is missing counts as one of size -1."""
    digest, newest_s = hashlib.sha256(), 0.0
    for image_id, path in listing.files():
        size = -1
        with suppress(OSError):
            found = path.stat()
            size, newest_s = found.st_size, max(newest_s, found.st_mtime)
        digest.update(f"{image_id}\0{size}\n".encode())
    return {"sha256": digest.hexdigest(), "newest_s": newest_s}


def _fault(what: str, got: str) -> MitoscopeError:
    """Whatever was given that crops cannot be read from."""
    return DataError(
        what,
        got=got,
        expected=f"folders, files ({', '.join(READERS)}), or a CSV with image_id and path",
        remedy="name the crops after --crops",
    )
