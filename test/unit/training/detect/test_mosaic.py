import torch

from mitoscope.training.detect.mosaic import make_mosaics

SIDE = 32


def draw(figures: torch.Tensor) -> torch.Tensor:
    """Images of which every pixel holds their number, and 1,000 more where a figure is."""
    images = torch.arange(6.0).view(6, 1, 1, 1).repeat(1, 1, SIDE, SIDE)
    for number, x, y, _ in figures.tolist():
        images[int(number), 0, int(y), int(x)] += 1000
    return images


def test_figures_are_where_the_mosaics_show_them() -> None:
    random = torch.Generator().manual_seed(0)
    places = torch.stack([torch.randperm(SIDE * SIDE, generator=random)[:40] for _ in range(6)])
    figures = torch.cat(
        [
            torch.stack([torch.full((40,), float(k)), own % SIDE, own // SIDE, own % 2], dim=1)
            for k, own in enumerate(places)
        ]
    )
    mosaics, moved = make_mosaics(draw(figures), figures, 1.0, random)
    for number, mosaic in enumerate(mosaics[:, 0]):
        own = moved[moved[:, 0] == number]
        shown = {(int(x), int(y)) for y, x in (mosaic >= 1000).nonzero().tolist()}
        assert {(int(x), int(y)) for _, x, y, _ in own.tolist()} == shown
        assert len(own) == len(shown) > 10
        corners = (mosaic % 1000)[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()
        assert corners == [(number + k) % 6 for k in range(4)]


def test_only_a_share_is_changed_and_none_by_default() -> None:
    random = torch.Generator().manual_seed(0)
    images, figures = torch.rand(200, 1, 8, 8, generator=random), torch.empty(0, 4)
    mosaics, moved = make_mosaics(images, figures, 0.25, random)
    changed = (mosaics != images).flatten(1).any(dim=1).float().mean()
    assert 0.15 < changed < 0.35
    assert moved.shape == (0, 4)
    assert torch.equal(make_mosaics(images, figures, 0.0, random)[0], images)
