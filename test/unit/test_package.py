"""What pip installs: the library, its templates and the default weights, and nothing else."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from mitoscope.provenance import hash_code

ROOT = Path(__file__).resolve().parents[2]
STACK = next((ROOT / "test/input/interf0/images").glob("*/*.tiff"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read_names(lines: list[str]) -> set[str]:
    """The packages that requirements name."""
    return {re.split(r"[<>=\[ #]", line)[0].lower() for line in lines if line.strip() and line[0] not in "#-"}


@pytest.mark.parametrize(
    ("requirements", "given"),
    [
        ("requirements.in", PROJECT["dependencies"]),
        ("train/requirements.in", PROJECT["optional-dependencies"]["train"]),
    ],
)
def test_the_package_and_the_images_need_the_same(requirements: str, given: list[str]) -> None:
    assert read_names((ROOT / requirements).read_text(encoding="utf-8").splitlines()) == read_names(given)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys, hatchling.build; hatchling.build.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, folder], cwd=ROOT, check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_the_library_and_the_weights_and_nothing_else(wheel: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "mitoscope"], cwd=ROOT, capture_output=True, text=True, check=True)
    weights = [path for name in ("lite", "detector-lite") for path in sorted((ROOT / "weights" / name).iterdir())]
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        given = {"mitoscope/weights/sample.tiff", "mitoscope/weights/sample.json"}  # for selftest
        given |= {f"mitoscope/{path.relative_to(ROOT)}" for path in weights}
        assert names == {*listed.stdout.split(), *given}
        for path in weights:
            assert archive.read(f"mitoscope/{path.relative_to(ROOT)}") == path.read_bytes()
        assert any(name.endswith(".html.j2") for name in names)
        (entry_points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "mitoscope = mitoscope.cli:main" in archive.read(entry_points).decode()


@pytest.mark.slow
def test_the_installed_package_classifies_with_its_own_weights(wheel: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)

    def python(*arguments: object) -> str:
        command = [sys.executable, *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(target), "PYTHONUTF8": "1"}
        done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    asked = "import mitoscope; print(mitoscope.Classifier.load(device='cpu').bundle.folder)"
    assert Path(python("-c", asked).strip()) == (target / "mitoscope" / "weights" / "lite").resolve()
    asked = "from mitoscope.provenance import hash_code; print(hash_code())"
    assert python("-c", asked).strip() == hash_code()
    python("-m", "mitoscope", "classify", "--crops", STACK, "--out", "p.csv")
    assert len((elsewhere / "p.csv").read_text(encoding="utf-8").splitlines()) == 17
    python("-m", "mitoscope", "train", "--help")
    python("-m", "mitoscope", "report", "--predictions", "p.csv", "--crops", STACK, "--out", "p.html", "--no-saliency")
    assert (elsewhere / "p.html").stat().st_size > 100_000
