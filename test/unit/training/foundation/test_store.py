from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mitoscope.bundle.inputs import InputSpec
from mitoscope.errors import DataError
from mitoscope.training.data.table import CropData
from mitoscope.training.foundation.embedder import Embedder
from mitoscope.training.foundation.probe import store
from mitoscope.training.foundation.probe.store import Embeddings, embed, embed_views, read_embeddings


def take(data: CropData, rows: list[int]) -> CropData:
    return CropData(data.table.iloc[rows].reset_index(drop=True), data.crops[rows])


def test_what_is_read_is_what_the_network_says(data: CropData, embedder: Embedder, embeddings: Embeddings) -> None:
    expected = embedder.embed(np.array(data.crops[:5])).numpy()
    assert embeddings.values.shape == (80, 1, embedder.dimension)
    np.testing.assert_allclose(embeddings.values[:5, 0], expected, rtol=1e-5, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 0


def test_a_crop_is_embedded_once_whatever_the_table(data: CropData, embedder: Embedder, tmp_path: Path) -> None:
    assert embed(take(data, [3, 1]), embedder, tmp_path) == 2
    assert embed(take(data, [1, 2, 3]), embedder, tmp_path) == 1
    assert embed(take(data, [1, 2, 3]), embedder, tmp_path) == 0
    found = read_embeddings(tmp_path, take(data, [2, 3, 1])).values[:, 0]
    np.testing.assert_allclose(found, embedder.embed(data.crops[[2, 3, 1]]).numpy(), rtol=1e-5, atol=1e-6)


def test_an_interrupted_run_continues(
    data: CropData, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BLOCK_CROPS", 32)
    write, written = store.write_bytes, []

    def stop_after_one(path: Path, content: bytes) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_bytes", stop_after_one)
        with pytest.raises(KeyboardInterrupt):
            embed(data, embedder, tmp_path)
    with pytest.raises(DataError, match=r"embeddings\.json cannot be read"):
        read_embeddings(tmp_path, data)
    assert embed(data, embedder, tmp_path) == 48
    assert read_embeddings(tmp_path, data).values.shape[0] == 80


def test_another_input_does_not_go_into_the_same_folder(data: CropData, embedder: Embedder, tmp_path: Path) -> None:
    embed(take(data, [0]), embedder, tmp_path)
    for other, orientations in ((replace(embedder, input=InputSpec(crop_px=128, size_px=64)), 0), (embedder, 2)):
        with pytest.raises(DataError, match="name another --out"):
            embed(take(data, [0]), other, tmp_path, orientations)


def test_missing_and_damaged_embeddings_are_one_clear_line(data: CropData, embedder: Embedder, tmp_path: Path) -> None:
    embed(take(data, [0, 1]), embedder, tmp_path)
    with pytest.raises(DataError, match="got 78 crops without an embedding, such as made/2"):
        read_embeddings(tmp_path, data)
    next(tmp_path.glob("block-*")).write_bytes(b"damaged")
    with pytest.raises(DataError, match="expected a block of embeddings; delete that file"):
        read_embeddings(tmp_path, data)


def test_a_turned_crop_has_the_same_embeddings_in_another_order(data: CropData, embedder: Embedder) -> None:
    crop = data.crops[:1].copy()
    crop[:, :20] = 90  # a crop that no turn leaves as it is
    crop[:, :, :9] = 40
    views = embed_views(embedder, crop, 8).numpy()[0]
    turned = embed_views(embedder, np.rot90(crop, axes=(1, 2)).copy(), 8).numpy()[0]
    np.testing.assert_allclose(views, turned, rtol=1e-4, atol=1e-5)
    assert np.abs(views[0] - views[1]).max() > 1e-4


def test_orientations_out_of_range_are_refused(data: CropData, embedder: Embedder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--orientations is out of range: got 9, expected 0 to 8"):
        embed(data, embedder, tmp_path, 9)
