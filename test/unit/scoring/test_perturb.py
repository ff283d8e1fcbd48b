import numpy as np
import pytest
from skimage.color import hed2rgb, rgb2hed

from mitoscope.scoring.perturb import blur, compress, list_perturbations, restain, rotate, shift


def test_every_step_keeps_shape_and_type_and_changes_something(stack):
    steps = list(list_perturbations())
    assert {step.kind for step in steps} == {"haematoxylin", "eosin", "blur", "JPEG", "shift", "rotation"}
    for step in steps:
        for change in step.variants:
            changed = change(stack)
            assert (changed.shape, changed.dtype) == (stack.shape, np.uint8)
            assert not np.array_equal(changed, stack)


@pytest.mark.parametrize("stain", [0, 1])
def test_no_change_of_a_stain_is_none_to_the_eye(stack, stain):
    assert np.abs(restain(stack, stain, 1.0).astype(int) - stack).max() <= 1


@pytest.mark.parametrize("stain", [0, 1])
def test_a_stain_changes_as_skimage_changes_it(stack, stain):
    hed = rgb2hed(stack)
    assert (hed[..., stain] > 0).any()
    changed = rgb2hed(restain(stack, stain, 0.5))
    unclipped = (hed > 0).all(axis=-1)  # rgb2hed clips at 0, and restain does not
    expected = hed[unclipped] * np.where(np.arange(3) == stain, 0.5, 1.0)
    shown = rgb2hed((hed2rgb(expected) * 255).round().astype(np.uint8))
    np.testing.assert_allclose(changed[unclipped], shown, atol=2e-3)


def test_blur_keeps_the_mean_and_takes_the_detail(stack):
    blurred = blur(stack, 2.0)
    assert abs(blurred.mean() - stack.mean()) < 0.5
    assert np.abs(np.diff(blurred.astype(int), axis=1)).max() < np.abs(np.diff(stack.astype(int), axis=1)).max()


def test_less_quality_is_farther_off(stack):
    error = [np.abs(compress(stack, quality).astype(int) - stack).mean() for quality in (90, 50, 10)]
    assert error == sorted(error)
    assert error[0] < error[2]


def test_a_shift_moves_the_pixels_by_what_it_says(stack):
    moved = shift(stack, (4, -8))
    np.testing.assert_array_equal(moved[:, 4:, :-8], stack[:, :-4, 8:])


def test_turns(stack):
    np.testing.assert_array_equal(rotate(rotate(stack, 90), 90), rotate(stack, 180))
    np.testing.assert_array_equal(rotate(stack, 180), stack[:, ::-1, ::-1])
    back = rotate(rotate(stack, 45), -45)[:, 48:80, 48:80].astype(int)
    assert np.abs(back - stack[:, 48:80, 48:80]).mean() < 4


def test_small_and_right_angles_turn_to_the_same_side(stack):
    near = rotate(stack, 89.9)[:, 40:88, 40:88].astype(int)
    assert np.abs(near - rotate(stack, 90)[:, 40:88, 40:88]).mean() < 3
