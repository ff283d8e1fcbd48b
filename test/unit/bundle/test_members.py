import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoscope.bundle.inputs import FeatureRange, InputSpec, TrainingCrops
from mitoscope.bundle.manifest import Base, Bundle, Calibration, Member, Rounding, Threshold
from mitoscope.bundle.members import parse_member, write_bundle
from mitoscope.bundle.read import read_base, read_bundle, read_content
from mitoscope.errors import WeightsError

words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=20)
names = st.from_regex(r"[A-Za-z0-9_.-]{1,30}", fullmatch=True)
shares = st.floats(0, 1)
counts = st.integers(1, 10**6)
even = st.integers(1, 512).map(lambda half: 2 * half)
ranges = st.builds(FeatureRange, mean=shares, std=shares, low=st.floats(-9, 0), high=st.floats(0, 9))
tensors = st.builds(
    lambda shape, seed: torch.randn(shape, generator=torch.Generator().manual_seed(seed)).half().float(),
    st.lists(st.integers(1, 4), max_size=3),
    st.integers(0, 99),
)
states = st.dictionaries(st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8})?", fullmatch=True), tensors, max_size=3)
specs = st.builds(
    InputSpec,
    crop_px=even,
    size_px=st.integers(32, 1024),
    interpolation=st.sampled_from(("bicubic", "bilinear")),
    mean=st.tuples(shares, shares, shares),
    std=st.tuples(*[st.floats(0.01, 1)] * 3),
    mpp=st.floats(0.05, 5),
)


@st.composite
def bundles(draw: st.DrawFn) -> Bundle:
    """Any bundle of format 2; its folder and its hashes are set when it is written."""
    kinds = draw(st.lists(st.sampled_from(("full", "adapter")), min_size=1, max_size=7))
    licensed = draw(st.sampled_from(("base.safetensors", None)))
    metrics = st.dictionaries(words, st.floats(allow_nan=False, allow_infinity=False), max_size=3)
    members = [
        Member(f"m{k}.safetensors", "", kind, draw(st.none() | st.integers(0, 99)), draw(metrics))
        for k, kind in enumerate(kinds)
    ]
    fitted = {"fitted_on": words, "n_crops": counts}
    positive = st.floats(0.001, 0.999)
    calibrations = st.builds(
        Calibration, method=words, scale=positive, offset=st.floats(-99, 99), prevalence=st.floats(0.01, 0.99), **fitted
    )
    roundings = st.builds(Rounding, n_crops=counts, largest_change=shares, flipped=shares)
    return Bundle(
        folder=Path("unset"),
        name=draw(names),
        architecture=draw(words),
        input=draw(specs),
        threshold=draw(st.builds(Threshold, value=positive, rule=words, **fitted)),
        members=tuple(members),
        task=draw(st.sampled_from(("classify", "detect"))),
        classes=tuple(draw(st.lists(words, min_size=1, max_size=4, unique=True))),
        base=Base("0" * 64, draw(words), licensed, draw(words)) if "adapter" in kinds else None,
        calibration=draw(st.none() | calibrations),
        rounding=draw(st.dictionaries(st.sampled_from(("fp16", "bf16")), roundings)),
        training=draw(st.dictionaries(words, words | st.integers() | st.lists(words), max_size=3)),
        training_crops=draw(
            st.none() | st.builds(TrainingCrops, counts, st.dictionaries(words, ranges, min_size=1, max_size=3))
        ),
    )


@settings(max_examples=40, deadline=None)
@given(bundle=bundles(), data=st.data())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle, data: st.DataObject) -> None:
    bundle = replace(bundle, folder=tmp_path_factory.mktemp("bundle") / "new")
    written = [data.draw(states) for _ in bundle.members]
    stored = bundle.base is not None and bundle.base.file is not None
    base = data.draw(states) if stored else None
    returned = write_bundle(bundle, written, base)

    assert returned == read_bundle(bundle.folder)
    unhashed = replace(returned, members=tuple(replace(member, sha256="") for member in returned.members))
    if stored:
        unhashed = replace(unhashed, base=replace(returned.base, sha256="0" * 64))
        assert_same(parse_member(read_base(returned), "base"), base)
    assert unhashed == bundle
    for member, state in zip(returned.members, written, strict=True):
        assert_same(parse_member(read_content(returned, member), member.file), state)


def assert_same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """The tensors are equal: they were drawn from the numbers that fp16 can hold."""
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert got[name].dtype == (torch.float16 if tensor.ndim > 1 and tensor.shape[1] > 3 else torch.float32)
        assert torch.equal(got[name].float(), tensor)


class TestABaseThatTheBundleLacks:
    """The user names a folder or a file."""

    @pytest.fixture
    def given(self, tmp_path: Path) -> Path:
        """The user's folder, with the base and another network."""
        (tmp_path / "given").mkdir()
        for name in ("another", "base"):
            safetensors.torch.save_file({"weight": torch.ones(len(name))}, tmp_path / f"given/{name}.safetensors")
        return tmp_path / "given"

    @pytest.fixture
    def bundle(self, given: Path, tmp_path: Path) -> Bundle:
        digest = hashlib.sha256((given / "base.safetensors").read_bytes()).hexdigest()
        bundle = Bundle(
            folder=tmp_path / "adapters",
            name="adapters",
            architecture="test_vit",
            input=InputSpec(),
            threshold=Threshold(0.5, "", "", 0),
            members=(Member("fold0.safetensors", "", "adapter"),),
            base=Base(digest, "CC-BY-NC-ND-4.0", name="someone/Network"),
        )
        return write_bundle(bundle, [{}])

    def test_it_is_found_by_its_hash(self, bundle: Bundle, given: Path) -> None:
        for named in (given, given / "base.safetensors"):
            assert read_base(bundle, named) == (given / "base.safetensors").read_bytes()

    @pytest.mark.parametrize(
        ("named", "got"),
        [
            (None, "no --base"),
            ("given/another.safetensors", "no file with its hash in '.*another.safetensors'"),
            ("adapters", "no file with its hash in '.*adapters'"),
        ],
    )
    def test_another_or_none_is_refused(self, bundle: Bundle, tmp_path: Path, named: str | None, got: str) -> None:
        reason = rf"lacks its base someone/Network \(licence CC-BY-NC-ND-4.0\): got {got}, "
        with pytest.raises(WeightsError, match=f"{reason}expected .*sha256 {bundle.base.sha256}; .* with --base"):
            read_base(bundle, tmp_path / named if named else None)

    def test_one_that_cannot_be_read_says_why(self, bundle: Bundle, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"base .*elsewhere cannot be read: got .*No such file.*correct --base"):
            read_base(bundle, tmp_path / "elsewhere")

    def test_one_that_is_not_needed_is_refused(self, bundle: Bundle, given: Path) -> None:
        whole = replace(bundle, base=None, members=(Member("fold0.safetensors", ""),))
        for other in (whole, replace(bundle, base=replace(bundle.base, file="base.safetensors"))):
            with pytest.raises(WeightsError, match=r"'adapters' takes no base: got --base .*; leave --base out"):
                read_base(other, given)
        assert read_base(whole) is None


def test_a_failed_write_leaves_the_older_bundle(copy: Path, read_states: Callable[[Bundle], list]) -> None:
    bundle = read_bundle(copy)
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    with pytest.raises(ValueError, match="zip"):
        write_bundle(bundle, read_states(bundle)[:4])
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_a_folder_of_other_files_is_not_replaced(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    bundle = replace(read_bundle(tiny_bundle), folder=tmp_path)
    with pytest.raises(WeightsError, match="cannot be replaced: got other files than a bundle's"):
        write_bundle(bundle, [{}] * 5)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_weight_beyond_half_precision_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = replace(read_bundle(tiny_bundle), folder=tmp_path / "new")
    with pytest.raises(WeightsError, match="a weight cannot be stored"):
        write_bundle(bundle, [{"kernel": torch.full((4, 4), 1e5)}] * 5)
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_written_with_the_bundle(copy: Path, read_states: Callable[[Bundle], list]) -> None:
    bundle = read_bundle(copy)
    states = read_states(bundle)
    shutil.rmtree(copy)
    write_bundle(bundle, states, files={"README.md": "# A model card\n"})
    assert (copy / "README.md").read_text() == "# A model card\n"
