"""The answers are pip-audit's own, of version 2; the last test asks it itself, where no service can be reached."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.supply.vulnerabilities import CLEAN, NOT_AUDITED, VULNERABLE, judge

ROOT = Path(__file__).parents[4]
GOOD = {"name": "good", "version": "1.0", "vulns": []}
BAD = {"name": "bad", "version": "1.0", "vulns": [{"id": "PYSEC-2024-1", "fix_versions": ["1.1"], "description": "…"}]}
SKIPPED = {"name": "odd", "skip_reason": "Dependency not found on PyPI and could not be audited: odd (1.0)"}


@pytest.mark.parametrize(
    ("dependencies", "code", "said"),
    [
        ([GOOD], CLEAN, ["1 packages, no known vulnerability"]),
        ([GOOD, BAD], VULNERABLE, ["bad 1.0: PYSEC-2024-1, fixed in 1.1"]),
        ([GOOD, SKIPPED], NOT_AUDITED, ["NOT AUDITED: the service knew 1 of 2 packages; Dependency not found"]),
        ([BAD, SKIPPED], VULNERABLE, ["bad 1.0: PYSEC", "NOT AUDITED: the service knew 1 of 2 packages"]),
        ([], NOT_AUDITED, ["NOT AUDITED: the service knew 0 of 0 packages"]),
    ],
)
def test_only_a_whole_answer_is_a_pass(dependencies: list[dict], code: int, said: list[str]) -> None:
    judged, lines = judge(json.dumps({"dependencies": dependencies, "fixes": []}), "")
    assert judged == code
    assert [line.startswith(start) for line, start in zip(lines, said, strict=True)] == [True] * len(said)


def test_without_a_network_nothing_is_said_to_be_audited(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text(f"numpy==2.0.0 --hash=sha256:{'0' * 64}\n")
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    environment = os.environ | nowhere | {key.lower(): value for key, value in nowhere.items()}
    command = [sys.executable, "-m", "tools.supply.vulnerabilities", str(lock)]
    ran = subprocess.run(
        command,
        cwd=ROOT,
        env=environment | {"XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (NOT_AUDITED, "")
    assert ran.stderr.startswith("NOT AUDITED: the service was not reached: ")
    assert ran.stderr.count("\n") == 1
