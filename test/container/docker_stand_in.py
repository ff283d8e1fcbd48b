"""A recording stand-in for `docker`: the container tests put it on PATH where the scripts' own logic is asked about.

It appends each call's arguments to RECORD as a JSON line, and answers as an engine that holds one image would. The
variables OUTPUT, STDERR, STATUS, GPU, ENGINE, IMAGE_USER and BUNDLE set the scene; see test_scripts.py.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from itertools import pairwise
from pathlib import Path

BUNDLE = Path(os.environ["BUNDLE"])
MANIFEST = BUNDLE / "manifest.json"


def main(arguments: list[str]) -> int:
    call: dict[str, object] = {"arguments": arguments}
    if arguments[0] == "build":
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as context:
            call["context"] = {member.name: member.mode for member in context if not member.issym()}
    with Path(os.environ["RECORD"]).open("a", encoding="utf-8") as record:
        record.write(json.dumps(call) + "\n")
    answer = {"version": version, "image": inspect, "run": run, "cp": copy, "save": save}.get(arguments[0])
    return answer(arguments) if answer else 0


def version(_: list[str]) -> int:
    return 1 if os.environ.get("ENGINE") == "down" else 0


def inspect(arguments: list[str]) -> int:
    if os.environ.get("ENGINE") == "empty":
        return 1
    labels = {
        "bundle.name": json.loads(MANIFEST.read_text(encoding="utf-8"))["name"],
        "bundle.manifest.sha256": hashlib.sha256(MANIFEST.read_bytes()).hexdigest(),
        "org.opencontainers.image.version": "1.2.3",
    }
    form = arguments[arguments.index("--format") + 1]
    for label, value in labels.items():
        form = form.replace(f'{{{{index .Config.Labels "{label}"}}}}', value)
    print(form.replace("{{.Config.User}}", os.environ.get("IMAGE_USER", "1000:1000")).replace("{{.Size}}", "8000000"))
    return 0


def run(arguments: list[str]) -> int:
    mounts = dict(reversed(value.removesuffix(":ro").split(":")) for flag, value in pairwise(arguments) if flag == "-v")
    entrypoint = arguments[arguments.index("--entrypoint") + 1] if "--entrypoint" in arguments else None
    if entrypoint == "true":
        if os.environ.get("GPU"):
            return 0
        print('could not select device driver "" with capabilities: [[gpu]]', file=sys.stderr)
        return 125
    if entrypoint == "python":  # the check itself runs for real, on the folders that would be mounted
        mounts["/opt/app/weights"] = str(BUNDLE)
        command = [place(word, mounts) for word in arguments[arguments.index("-m") :]]
        packages = (Path(mounts["/opt/app/scoring"]).parent, Path.cwd())  # the latter for model/, which the image holds
        environment = os.environ | {"PYTHONPATH": ":".join(map(str, packages))}
        return subprocess.run([sys.executable, "-P", *command], check=False, env=environment).returncode
    shutil.copytree(os.environ["OUTPUT"], mounts["/output"], dirs_exist_ok=True)
    sys.stderr.write(os.environ.get("STDERR", ""))
    return int(os.environ.get("STATUS", "0"))


def place(word: str, mounts: dict[str, str]) -> str:
    """Where a path of the container lies outside."""
    for inside, outside in mounts.items():
        if word == inside or word.startswith(f"{inside}/"):
            return outside + word.removeprefix(inside)
    return word


def copy(arguments: list[str]) -> int:
    shutil.copytree(BUNDLE, arguments[2])
    return 0


def save(_: list[str]) -> int:
    print("an image")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
