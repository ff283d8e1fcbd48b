"""pip-audit over requirements.txt, with an answer that cannot be mistaken.

    python -m tools.supply.vulnerabilities [LOCK]

pip-audit ends with 0 and "No known vulnerabilities found" also where the service knew none of the packages, as behind a
mirror that has no such service. Here that is no pass.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CLEAN, VULNERABLE, NOT_AUDITED = 0, 1, 2

LOCK = Path(__file__).parents[2] / "requirements.txt"


def ask_pip_audit(lock: Path) -> tuple[str, str]:
    """Standard output (JSON, or nothing) and standard error of pip-audit. The lock is whole: pip resolves nothing."""
    command = ["pip_audit", "--requirement", str(lock), "--require-hashes", "--disable-pip"]
    options = ["--format", "json", "--progress-spinner", "off"]
    ran = subprocess.run([sys.executable, "-m", *command, *options], capture_output=True, text=True, check=False)
    return ran.stdout, ran.stderr


def judge(stdout: str, stderr: str) -> tuple[int, list[str]]:
    """The exit code, and what to say, of an answer of pip-audit."""
    try:
        dependencies: list[dict[str, Any]] = json.loads(stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (stderr.strip().splitlines() or ["nothing"])[-1]
        return NOT_AUDITED, [f"NOT AUDITED: the service was not reached: {reason[:300]}"]
    skipped = [each["skip_reason"] for each in dependencies if "skip_reason" in each]
    found = [
        f"{each['name']} {each['version']}: {one['id']}, fixed in {', '.join(one['fix_versions']) or 'no version yet'}"
        for each in dependencies
        for one in each.get("vulns", [])
    ]
    if skipped or not dependencies:
        known = f"the service knew {len(dependencies) - len(skipped)} of {len(dependencies)} packages"
        found += [f"NOT AUDITED: {known}; {' '.join(skipped[:1])}"]
        return (VULNERABLE if len(found) > 1 else NOT_AUDITED), found
    return (VULNERABLE if found else CLEAN), found or [f"{len(dependencies)} packages, no known vulnerability"]


if __name__ == "__main__":
    code, lines = judge(*ask_pip_audit(Path(sys.argv[1]) if sys.argv[1:] else LOCK))
    print(*lines, sep="\n", file=sys.stderr if code else sys.stdout)
    raise SystemExit(code)
