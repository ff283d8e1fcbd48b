"""Which crops are to be scored, and their pixels block by block."""

import csv
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mitoscope.errors import DataError, InputError, MitoscopeError
from mitoscope.images import CROP_PX
from mitoscope.images.crops import READERS, read_crops

File = tuple[str, str]  # image_id, path


@dataclass(frozen=True)
class Listing:
    """The files to be read, in the order of the paths given; within a folder by name, within an index by row.

    Attributes:
        files: image_id and path of each; a million take some 200 MB.
        n_others: Files in the folders that are hidden or that are no images by their names.
        sha256: Of all names and sizes, in order.
        files_sha256: Of where the files are, their sizes and when they were changed: whether they are the same files.
    """

    files: list[File]
    n_others: int
    sha256: str
    files_sha256: str

    @property
    def n_files(self) -> int:
        """How many there are."""
        return len(self.files)


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


def list_crops(paths: Sequence[Path]) -> Listing:
    """List what is to be read; no image is opened.

    Args:
        paths: Any mix of folders (searched to the bottom; a crop's name is its path below the folder), image files
            (PNG, JPEG, TIFF, MHA; the name is the file's), and index CSVs with ``image_id`` and ``path`` (relative to
            the CSV; the table.csv of `mitoscope train prepare` is one).

    Raises:
        DataError: A path is missing or of another type, a name comes twice, or there is nothing to read.
    """
    files: list[File] = []
    n_others = 0
    for path in paths:
        found, others = _list_path(path)
        files += found
        n_others += others
    if not files:
        raise _fault("there are no crops", got=f"no image in {', '.join(map(str, paths))}")
    _check_names(files)
    return Listing(files, n_others, *_describe(files))


def read_blocks(listing: Listing, batch_size: int, first: int = 0, last: int | None = None) -> Iterator[Block]:
    """Read the files from `first` to before `last`, one block ahead of the caller.

    Args:
        listing: As `list_crops` gives it.
        batch_size: Crops a block; the last one may hold fewer.
        first: Of the files, counted from 0.
        last: None: to the end.
    """
    blocks = _blocks(listing.files[first:last], batch_size)
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, blocks, None)
        while (block := following.result()) is not None:
            following = reader.submit(next, blocks, None)
            yield block


def _blocks(files: Iterable[File], batch_size: int) -> Iterator[Block]:
    """Group the crops of the files, whatever number of pages each file has."""
    image_ids: list[str] = []
    held: list[np.ndarray] = []  # uint8 (n, 128, 128, 3) each
    unreadable: list[tuple[str, str]] = []
    n_files = 0
    for image_id, path in files:
        n_files += 1
        try:
            crops = read_crops(Path(path))
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


def _list_path(path: Path) -> tuple[list[File], int]:
    """The files that one path stands for, and how many others were skipped."""
    if path.is_dir():
        return _walk(path)
    if path.suffix.lower() == ".csv":
        return list(_read_index(path)), 0
    if path.suffix.lower() in READERS and path.is_file():
        return [(path.name, str(path))], 0
    raise _fault(f"{path} cannot be read as crops", got="a file" if path.exists() else "no such file or folder")


def _walk(folder: Path) -> tuple[list[File], int]:
    """The images below a folder by name, links followed; and the number of other files."""
    files: list[File] = []
    n_others = 0
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
                    files.append((os.path.relpath(entry.path, folder), entry.path))
                else:
                    n_others += 1
    return sorted(files), n_others


def _read_index(path: Path) -> Iterator[File]:
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
                yield row["image_id"], str(path.parent / row["path"])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _fault(f"{path} cannot be read", got=str(error)) from error


def _check_names(files: Sequence[File]) -> None:
    """Refuse a name that comes twice, and one that no CSV can hold."""
    seen = set[str]()
    for image_id, path in files:
        if image_id in seen:
            raise DataError(
                "two crops have the same name",
                got=f"{image_id!r} twice",
                expected="a unique image_id for each",
                remedy="name the folder above them, or give an index CSV with image_id and path",
            )
        seen.add(image_id)
        try:
            (image_id + path).encode()
        except UnicodeEncodeError:
            raise DataError(
                f"a file's name cannot be written to a CSV: {path!r}",
                got="bytes that are no UTF-8",
                expected="UTF-8",
                remedy="rename it",
            ) from None


def _describe(files: Iterable[File]) -> tuple[str, str]:
    """The two SHA-256 of a `Listing`; a file that is missing counts as one of size -1."""
    of_names, of_files = hashlib.sha256(), hashlib.sha256()
    for image_id, path in files:
        size, times = -1, (0, 0)
        with suppress(OSError):
            found = os.stat(path)  # noqa: PTH116 - a million times
            size, times = found.st_size, (found.st_mtime_ns, found.st_ctime_ns)  # a copy may keep the former
        of_names.update(f"{image_id}\0{size}\n".encode())
        of_files.update(f"{os.path.abspath(path)}\0{size}\0{times}\n".encode())  # noqa: PTH100 - a million times
    return of_names.hexdigest(), of_files.hexdigest()


def _fault(what: str, got: str) -> MitoscopeError:
    """The error for paths from which no crops can be read."""
    return DataError(
        what,
        got=got,
        expected=f"folders, files ({', '.join(READERS)}), or a CSV with image_id and path",
        remedy="name the crops after --crops",
    )
