import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.supply.licences import LOCK, check, judge, read_locked, read_sbom


def test_all_that_is_locked_has_a_licence_that_was_agreed_to(capsys: pytest.CaptureFixture[str]) -> None:
    licences = read_locked(LOCK)
    assert {"torch", "nvidia-cudnn-cu12", "scikit-image"} <= licences.keys()
    assert check(licences) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "licence", "judged"),
    [
        ("thing", "MIT", "MIT"),
        ("thing", "Apache Software License", "Apache-2.0"),
        ("thing", "MPL-2.0 AND MIT", "MPL-2.0 AND MIT"),
        ("thing", "GPL-2.0-only OR BSD", "BSD-3-Clause"),
        ("thing", "GPL-3.0-or-later", None),
        ("thing", "MIT AND GPL-2.0-only", None),
        ("thing", "GNU Lesser General Public License v3 (LGPLv3)", None),
        ("thing", "unknown", None),
        ("evalutils", "unknown", "no code"),
        ("nvidia-cublas-cu12", "NVIDIA Proprietary Software", "NVIDIA"),
        ("thing", "NVIDIA Proprietary Software", None),
    ],
)
def test_a_licence_is_judged(name: str, licence: str, judged: str | None) -> None:
    assert judge(name, licence) == judged


def test_a_refused_licence_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert check({"good": "MIT", "bad": "AGPL-3.0-only"}) == 1
    said = capsys.readouterr()
    assert said.out == "   1  MIT\n"
    assert said.err.startswith(
        "error: the licence of bad was not agreed to: got 'AGPL-3.0-only', expected one of 0BSD, "
    )
    assert said.err.count("\n") == 1


def test_an_sbom_is_judged_by_its_python_distributions(tmp_path: Path) -> None:
    sbom = tmp_path / "sbom.json"
    components = [{"name": "bad", "licenses": [{"license": {"name": "GPL"}}]}, {"name": "libc6"}]
    sbom.write_text(json.dumps({"components": components}))
    assert read_sbom(sbom) == {"bad": "GPL"}
    command = [sys.executable, "-m", "tools.supply.licences", str(sbom)]
    assert subprocess.run(command, cwd=LOCK.parent, capture_output=True, check=False).returncode == 1
