from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mitoscope.classify.listing import list_crops, read_blocks
from mitoscope.errors import DataError


@pytest.fixture
def folder(tmp_path, stack, save_tiff) -> Path:
    """Three PNGs in two folders, a stack of 16 pages, and two files that are no images."""
    root = tmp_path / "crops"
    for name, page in (("b/2.png", 2), ("b/10.png", 1), ("a/3.PNG", 3)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stack[page]).save(root / name)
    save_tiff(root / "s.tiff", stack)
    (root / "b" / "notes.txt").write_text("no image")
    (root / "b" / ".hidden.png").write_bytes(b"no image")
    return root


def read(paths, batch_size=4, first=0, last=None):
    listing = list_crops(paths)
    blocks = list(read_blocks(listing, batch_size, first, last))
    return [name for block in blocks for name in block.image_ids], np.concatenate([block.crops for block in blocks])


def test_a_folder_is_read_to_the_bottom_in_the_order_of_the_names(folder, stack):
    names, crops = read([folder])
    assert names == ["a/3.PNG", "b/10.png", "b/2.png", *(f"s.tiff#{page}" for page in range(1, 17))]
    np.testing.assert_array_equal(crops, stack[[3, 1, 2, *range(16)]])


@pytest.mark.parametrize("batch_size", [1, 3, 5, 100])
def test_blocks_hold_the_batch_size_and_the_last_one_the_rest(folder, batch_size):
    listing = list_crops([folder])
    blocks = list(read_blocks(listing, batch_size))
    sizes = [len(block.crops) for block in blocks]
    assert set(sizes[:-1]) <= {batch_size}
    assert (sum(sizes), sizes[-1]) == (19, 19 % batch_size or batch_size)
    assert sum(block.n_files for block in blocks) == 4


def test_others_and_hidden_files_are_counted(folder):
    listing = list_crops([folder])
    assert (listing.n_files, listing.n_others) == (4, 2)


def test_any_mix_keeps_the_order_given(folder, tmp_path):
    index = tmp_path / "index.csv"
    index.write_text("path,image_id,label\ncrops/b/2.png,z,x\ncrops/s.tiff,y,x\n")
    names, _ = read([folder / "b" / "10.png", index, folder / "a"], 100)
    assert names == ["10.png", "z", *(f"y#{page}" for page in range(1, 17)), "3.PNG"]


def test_a_part_of_the_files(folder):
    assert read([folder], first=1, last=3)[0] == ["b/10.png", "b/2.png"]


def test_an_unreadable_file_is_named_and_the_rest_is_read(folder):
    (folder / "b" / "1.png").write_bytes(b"no image")
    (folder / "z.png").write_bytes(b"")
    listing = list_crops([folder])
    blocks = list(read_blocks(listing, 2))
    assert sum(len(block.crops) for block in blocks) == 19
    faults = [fault for block in blocks for fault in block.unreadable]
    assert [name for name, _ in faults] == ["b/1.png", "z.png"]
    assert "zero bytes" in faults[1][1]


def test_the_hash_is_of_names_and_sizes(folder):
    def hashed():
        listing = list_crops([folder])
        return listing.sha256

    before = hashed()
    assert hashed() == before
    (folder / "b" / "2.png").rename(folder / "b" / "4.png")
    assert hashed() != before


def test_links_are_followed(folder, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "Atypical").symlink_to(folder / "b")
    (tmp_path / "links" / "3.PNG").symlink_to(folder / "a" / "3.PNG")
    assert read([tmp_path / "links"])[0] == ["3.PNG", "Atypical/10.png", "Atypical/2.png"]


def test_a_link_without_an_end_is_refused(folder):
    (folder / "b" / "up").symlink_to(folder)
    with pytest.raises(DataError, match="up leads to a folder that is read already"):
        list_crops([folder])


def test_a_name_that_comes_twice_is_refused(folder):
    with pytest.raises(DataError, match=r"same name: got '3.PNG' twice"):
        list_crops([folder / "a", folder / "a"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("image_id,file\na,b\n", "is no index: got the columns"),
        ("image_id,path\na,\n", "empty cell: got line 2"),
        ("", "is no index"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path, content, said):
    path = tmp_path / "index.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=said):
        list_crops([path])


@pytest.mark.parametrize("name", ["missing", "notes.txt"])
def test_what_is_no_crops_is_refused(tmp_path, name):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match=f"{name} cannot be read as crops"):
        list_crops([tmp_path / name])


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(DataError, match="there are no crops"):
        list_crops([tmp_path])


def test_a_name_that_is_no_utf8_is_refused(tmp_path):
    (tmp_path / "\udcff.png").write_bytes(b"")
    with pytest.raises(DataError, match="no UTF-8"):
        list_crops([tmp_path])
