"""The same sources give the same files: built twice without the cache, compared in bytes, modes, owners and times.

The layer of packages is built from a few locked packages, since all of them would take minutes. Digests of layers are
not compared: Docker's classic builder gives new folders the time of the build (docs/adr/0010).
"""

import io
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
FEW = {"numpy", "pillow", "safetensors", "tqdm"}
LIST = "find {0} ! -type d -printf '%p %y %m %U %G %s %T@ %l\\n' | sort; find {0} -type f -exec sha256sum {{}} + | sort"


def build(context: dict[str, bytes], tag: str, *options: str) -> str:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tarball:
        for name, content in context.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tarball.addfile(member, io.BytesIO(content))
    command = ["docker", "build", "--force-rm", "--tag", tag, *options, "-"]
    built = subprocess.run(command, input=packed.getvalue(), capture_output=True, check=False)
    assert built.returncode == 0, built.stdout[-2000:].decode() + built.stderr.decode()
    return tag


def list_files(image: str, folders: str) -> list[str]:
    command = ["docker", "run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "sh", image, "-c"]
    return subprocess.run(
        [*command, LIST.format(folders)], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def difference(first: list[str], second: list[str]) -> list[str]:
    return sorted(set(first) ^ set(second))[:20]


def test_the_layer_of_packages_is_the_same_twice(engine: None) -> None:
    blocks = re.findall(r"^[\w.-]+==(?:.*\\\n)+.*\n", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    few = "".join(block for block in blocks if block.split("==")[0] in FEW)
    context = {"Dockerfile": (ROOT / "Dockerfile").read_bytes(), "requirements.txt": few.encode()}
    folders = "/etc/passwd /etc/group /opt /root /usr /var"
    tags = [f"atypical-mitosis-repeatable:{number}" for number in (1, 2)]
    try:
        first, second = (list_files(build(context, tag, "--no-cache", "--target", "packages"), folders) for tag in tags)
        assert sum(line.endswith(".pyc") for line in first) > 1000
        assert difference(first, second) == []
    finally:
        subprocess.run(["docker", "image", "rm", *tags], capture_output=True, check=False)


def test_code_and_weights_are_the_same_twice(image: str) -> None:
    """The Dockerfile's second half, on the image whose packages are installed already."""
    half = (ROOT / "Dockerfile").read_text().split("FROM packages AS both\n")[1]
    made = "weights mitoscope model inference.py serve.py __pycache__ LICENSE REVISION"
    clear = f"USER 0\nRUN cd /opt/app && rm -r {made}\n"
    read = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "cat", image, "REVISION"]
    revision = subprocess.run(read, capture_output=True, text=True, check=True).stdout.strip()
    code = f"FROM {image} AS both\n{clear}{half}"
    context = {path: (ROOT / path).read_bytes() for path in ("inference.py", "serve.py", "LICENSE")}
    for folder in ("mitoscope", "model", "weights/lite"):
        files = [path for path in sorted((ROOT / folder).rglob("*.*")) if path.suffix != ".pyc" and path.is_file()]
        context |= {str(path.relative_to(ROOT)): path.read_bytes() for path in files}
    tags = [f"atypical-mitosis-repeatable:{number}" for number in (3, 4)]
    try:
        for tag in tags:
            options = ("--no-cache", "--target", "exec", "--build-arg", f"REVISION={revision}")
            build({"Dockerfile": code.encode(), **context}, tag, *options)
        first, second, real = (list_files(name, "/opt/app") for name in (*tags, image))
        assert sum(".pyc f " in line for line in first) >= len(list((ROOT / "mitoscope").rglob("*.py")))
        assert difference(first, second) == []
        assert difference(first, real) == []
    finally:
        subprocess.run(["docker", "image", "rm", *tags], capture_output=True, check=False)
