import hashlib
import json
import subprocess
import sys
from importlib.metadata import distributions, version
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tools.supply.sbom import DPKG, read_debian, read_licence

ROOT = Path(__file__).parents[4]
LITE = ROOT / "weights/lite"
DIGEST = "ab" * 32


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """All that is installed here, as if each wheel had the same hash."""
    path = tmp_path / "installed.txt"
    path.write_text("".join(f"{each.name}=={each.version} --hash=sha256:{DIGEST}\n" for each in distributions()))
    return path


def make(installed: Path) -> subprocess.CompletedProcess[bytes]:
    """As export.sh does: the file alone, on the standard input of a Python elsewhere."""
    command = [sys.executable, "-", "image", "1.2.3", "c0de", LITE, installed]
    script = (ROOT / "tools/supply/sbom.py").read_bytes()
    return subprocess.run(list(map(str, command)), input=script, cwd="/", capture_output=True, check=False)


def test_the_sbom_is_valid_and_the_same_each_time(installed: Path) -> None:
    made = make(installed)
    assert (made.returncode, made.stderr) == (0, b"")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(made.stdout.decode()) is None
    assert make(installed).stdout == made.stdout


def test_every_distribution_has_version_licence_and_hash(installed: Path) -> None:
    components = json.loads(make(installed).stdout)["components"]
    python = {each["name"]: each for each in components if each.get("purl", "").startswith("pkg:pypi/")}
    assert {"torch", "numpy", "scikit-image"} <= python.keys()
    assert python["torch"]["version"] == version("torch")
    assert all(each["hashes"] == [{"alg": "SHA-256", "content": DIGEST}] for each in python.values())
    assert python["torch"]["licenses"] == [{"license": {"name": "BSD-3-Clause"}}]
    assert all(each["licenses"][0]["license"]["name"] for each in python.values())


def test_the_weights_are_listed_file_by_file(installed: Path) -> None:
    [weights] = [each for each in json.loads(make(installed).stdout)["components"] if each["bom-ref"] == "weights"]
    assert weights["name"] == json.loads((LITE / "manifest.json").read_text())["name"]
    listed = {each["name"]: each["hashes"][0]["content"] for each in weights["components"]}
    assert listed == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in LITE.iterdir()}
    assert weights["hashes"][0]["content"] == listed["manifest.json"]


@pytest.mark.parametrize(
    ("line", "said"),
    [("", "expected no such package"), (f"numpy==0.0.1 --hash=sha256:{DIGEST}\n", "expected 0.0.1")],
)
def test_what_is_not_locked_is_an_error(installed: Path, line: str, said: str) -> None:
    lines = installed.read_text().splitlines(keepends=True)
    installed.write_text("".join(line if each.startswith("numpy==") else each for each in lines))
    made = make(installed)
    assert (made.returncode, made.stdout, made.stderr.count(b"\n")) == (1, b"", 1)
    assert made.stderr.startswith(
        f"error: the image holds what is not locked: got numpy {version('numpy')}, {said}".encode()
    )


def test_debians_packages_are_those_that_are_installed(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9+deb12u13\n"
        "Description: C library\n Version: not this one\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n"
    )
    [libc] = read_debian(status)
    assert libc["purl"] == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64"
    assert not list(read_debian(tmp_path / "missing"))
    assert DPKG.is_absolute()


@pytest.mark.parametrize(
    ("header", "licence"),
    [
        ("License-Expression: MIT\nClassifier: License :: OSI Approved :: BSD License\n", "MIT"),
        ("License: Apache 2.0\n", "Apache 2.0"),
        (
            "License: All of the text\n        of a licence\nClassifier: License :: OSI Approved :: BSD License\n",
            "BSD License",
        ),
        ("Classifier: License :: OSI Approved :: MIT License\nClassifier: Topic :: Games\n", "MIT License"),
        ("Classifier: Topic :: Games\n", "unknown"),
    ],
)
def test_the_licence_is_the_name_not_the_text(tmp_path: Path, header: str, licence: str) -> None:
    folder = tmp_path / "thing-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: thing\nVersion: 1\n{header}")
    [thing] = distributions(path=[str(tmp_path)])
    assert read_licence(thing.metadata) == licence
