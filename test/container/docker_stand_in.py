"""A recording stand-in for `docker`: tests of the scripts' own logic put it on PATH.

It appends each call's arguments to RECORD as a JSON line, and answers as an engine that holds one image would. The
variables OUTPUT, STDERR, STATUS, GPU, ENGINE, IMAGE_USER, API and BUNDLE set the scene; see test_scripts.py. A
container that runs in the background is a server of the invoke API; FAULT names its fault.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from itertools import pairwise
from pathlib import Path

BUNDLE = Path(os.environ["BUNDLE"])
MANIFEST = BUNDLE / "manifest.json"
RECORD = Path(os.environ["RECORD"])
MOUNTS, STOPPED, LOG = (RECORD.with_suffix(f".{name}") for name in ("mounts", "stopped", "log"))
FAULT = os.environ.get("FAULT")
TASK = json.loads(MANIFEST.read_text(encoding="utf-8")).get("task", "classify")
RESULT = "mitotic-figures.json" if TASK == "detect" else "multiple-mitotic-figure-classification.json"
REASON = "error: no inputs.json\n"


def main(arguments: list[str]) -> int:
    call: dict[str, object] = {"arguments": arguments}
    if arguments[0] == "build":
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as context:
            call["context"] = {member.name: member.mode for member in context if not member.issym()}
    with RECORD.open("a", encoding="utf-8") as record:
        record.write(json.dumps(call) + "\n")
    images = {"version": version, "image": inspect, "run": run, "cp": copy, "save": save}
    containers = {"exec": ask, "inspect": inspect_container, "stop": stop, "logs": logs}
    answer = (images | containers).get(arguments[0])
    return answer(arguments) if answer else 0


def version(_: list[str]) -> int:
    return 1 if os.environ.get("ENGINE") == "down" else 0


def inspect(arguments: list[str]) -> int:
    if os.environ.get("ENGINE") == "empty":
        return 1
    labels = {
        "bundle.task": TASK,
        "bundle.name": json.loads(MANIFEST.read_text(encoding="utf-8"))["name"],
        "bundle.manifest.sha256": hashlib.sha256(MANIFEST.read_bytes()).hexdigest(),
        "org.opencontainers.image.version": "1.2.3",
        "org.opencontainers.image.revision": "c0de",
        "org.grand-challenge.api-method": os.environ.get("API", "exec"),
    }
    form = arguments[arguments.index("--format") + 1]
    for label, value in labels.items():
        form = form.replace(f'{{{{index .Config.Labels "{label}"}}}}', value)
    print(form.replace("{{.Config.User}}", os.environ.get("IMAGE_USER", "1000:1000")).replace("{{.Size}}", "8000000"))
    return 0


def run(arguments: list[str]) -> int:
    mounts = dict(reversed(value.removesuffix(":ro").split(":")) for flag, value in pairwise(arguments) if flag == "-v")
    if "--detach" in arguments:
        MOUNTS.write_text(json.dumps(mounts), encoding="utf-8")
        print("c0ffee")
        return 0
    entrypoint = arguments[arguments.index("--entrypoint") + 1] if "--entrypoint" in arguments else None
    if entrypoint == "true":
        if os.environ.get("GPU"):
            return 0
        print('could not select device driver "" with capabilities: [[gpu]]', file=sys.stderr)
        return 125
    if entrypoint == "python":  # checks run for real, on the folders that would be mounted
        mounts |= {"/opt/app/weights": str(BUNDLE), "/opt/app/installed.txt": os.environ["INSTALLED"]}
        command = [place(word, mounts) for word in arguments[arguments.index("--entrypoint") + 3 :]]
        environment = os.environ | {"PYTHONPATH": str(Path.cwd())}  # for the image's mitoscope/
        return subprocess.run([sys.executable, "-P", *command], check=False, env=environment).returncode
    shutil.copytree(os.environ["OUTPUT"], mounts["/output"], dirs_exist_ok=True)
    sys.stderr.write(os.environ.get("STDERR", ""))
    return int(os.environ.get("STATUS", "0"))


def place(word: str, mounts: dict[str, str]) -> str:
    """The path outside of the container."""
    for inside, outside in mounts.items():
        if word == inside or word.startswith(f"{inside}/"):
            return outside + word.removeprefix(inside)
    return word


def ask(arguments: list[str]) -> int:
    method, path = arguments[-2:]
    if (method, path) == ("GET", "/health"):
        print(503 if FAULT == "never healthy" else 200)
        return 0
    mounts = {inside: Path(outside) for inside, outside in json.loads(MOUNTS.read_text(encoding="utf-8")).items()}
    stacks = [stack.stem for stack in mounts["/input"].glob("images/*/*")]
    print(score(stacks[0], mounts["/output"]) if stacks else refuse(mounts["/output"]))
    return 0


def score(stack: str, output: Path) -> int:
    """Write the result of one of make_cases.py's stacks; the long one is not ready before the server is stopped."""
    records = json.loads((Path(os.environ["OUTPUT"]) / RESULT).read_text(encoding="utf-8"))
    if stack == "glass" and FAULT != "stale":
        records["points"] = []
    if stack == "long" and FAULT != "fast":
        while not STOPPED.exists():
            time.sleep(0.05)
        if FAULT == "half-written":
            (output / f".{RESULT}.partial").touch()
        return 0
    if stack == "reversed" and FAULT != "stale":
        records.reverse()
    (output / RESULT).write_text(
        json.dumps(records * 64 if stack == "long" and TASK != "detect" else records), encoding="utf-8"
    )
    with LOG.open("a", encoding="utf-8") as log:
        log.write(os.environ.get("STDERR", ""))
    return 201


def refuse(output: Path) -> int:
    """A bad case."""
    if FAULT == "credulous":
        return 201
    if FAULT == "untidy":
        (output / RESULT).touch()
    with LOG.open("a", encoding="utf-8") as log:
        log.write("Traceback (most recent call last):\n" * (FAULT == "traceback") + REASON)
    return 500


def inspect_container(arguments: list[str]) -> int:
    status = 137 if FAULT == "deaf" else 0
    state = {"{{.State.Running}}": "false" if FAULT == "never healthy" else "true", "{{.State.ExitCode}}": status}
    print(state[arguments[2]])
    return 0


def stop(_: list[str]) -> int:
    STOPPED.touch()
    return 0


def logs(_: list[str]) -> int:
    sys.stderr.write(LOG.read_text(encoding="utf-8") if LOG.exists() else "")
    return 0


def copy(arguments: list[str]) -> int:
    return subprocess.run(
        ["cp", "-a", BUNDLE, arguments[2]], check=True
    ).returncode  # links stay links, as in docker cp


def save(_: list[str]) -> int:
    print("an image")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
