"""What the image holds and what it needs to be allowed: SECURITY.md names these tests."""

import json
import re
import subprocess
import time
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
LITE = ROOT / "weights/lite"
CASE = ROOT / "test/input/interf0"
RESULT = "multiple-mitotic-figure-classification.json"
# Less than the platform gives: nobody's user, no capability, nothing writable but /tmp, nothing executable there.
LEAST = (
    "--network none --read-only --cap-drop ALL --security-opt no-new-privileges --user 12345:12345 --pids-limit 256 "
    "--memory 4g --memory-swap 4g --tmpfs /tmp:rw,noexec,nosuid,nodev,mode=1777"
)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def ask(image: str, script: str, user: str = "0") -> list[str]:
    """The lines that a shell in the image writes; as root, who sees everything, unless another user is named."""
    options = ["--rm", "--network", "none", "--user", user, "--entrypoint", "sh"]
    done = run("docker", "run", *options, image, "-c", f"{script}; echo asked")
    *lines, last = done.stdout.splitlines()
    assert last == "asked"
    # A command that is not there, or fails, would find nothing; but some folders are closed to a user.
    assert [line for line in done.stderr.splitlines() if not line.endswith("Permission denied")] == []
    return lines


def inspect(image: str) -> dict:
    return json.loads(run("docker", "image", "inspect", image).stdout)[0]["Config"]


def test_the_image_holds_no_compiler_and_no_pip(image: str) -> None:
    tools = "gcc g++ cc c++ clang cpp as ld make cmake ninja nvcc pip pip3 easy_install conda git curl wget"
    assert ask(image, f"command -v {' '.join(['sh', *tools.split()])}") == ["/usr/bin/sh"]
    modules = "pip", "setuptools", "wheel", "ensurepip", "triton"
    found = f"import importlib.util as util; print([name for name in {modules} if util.find_spec(name)])"
    assert ask(image, f'python -c "{found}"') == ["[]"]


def test_the_image_holds_the_runtime_and_no_leftovers(image: str) -> None:
    code = {"__pycache__", "inference.py", "mitoscope", "model", "serve.py"}
    records = {"LICENSE", "REVISION", "installed.txt", "requirements.txt"}
    assert set(ask(image, "ls -A /opt/app")) == code | records | {"weights"}
    assert set(ask(image, "ls -A /opt/app/weights")) == {path.name for path in LITE.iterdir()}
    assert ask(image, "ls -A /tmp /var/tmp /root | grep -v -e : -e '^$' -e '^.bashrc$' -e '^.profile$'") == []
    names = "tests .git .gitignore .cache .env .netrc .pypirc .*_history id_rsa* *.key *.whl *.partial"
    wanted = " -o ".join(f"-name '{name}'" for name in names.split())
    assert ask(image, f"find / -xdev ! -path '/usr/share/*' \\( {wanted} \\)") == []
    assert (
        ask(image, "find / -xdev -path '*/torch/include' -o -path '*/nvidia/*/include' -o -size +1M -name '*.a'") == []
    )


def test_the_image_carries_no_secret_in_its_settings(image: str) -> None:
    base = {"PATH", "LANG", "GPG_KEY", "PYTHON_VERSION", "PYTHON_SHA256"}  # of Docker's python images
    text = (ROOT / "Dockerfile").read_text()
    ours = set(re.findall(r"(\w+)=", text[text.index("ENV ") : text.index("WORKDIR")]))
    assert {each.partition("=")[0] for each in inspect(image)["Env"]} - base == ours
    history = run("docker", "history", "--no-trunc", "--format", "{{.CreatedBy}}", image).stdout
    assert not re.search(r"(?i)token|secret|password|index-url|://", history)


def test_no_program_changes_its_user(image: str) -> None:
    assert ask(image, "find / -xdev -type f -perm /6000") == []


@pytest.mark.parametrize("user", ["1000:1000", "12345:12345"])
def test_nothing_but_the_temporary_folders_is_writable(image: str, user: str) -> None:
    writable = ask(image, "find / -xdev -writable ! -type l", user)
    assert "/tmp" in writable
    assert set(writable) <= {"/tmp", "/var/tmp", "/run/lock"}


def test_the_labels_say_what_the_image_is(image: str) -> None:
    config, labels = inspect(image), inspect(image)["Labels"]
    assert (config["User"], config["Entrypoint"]) == ("1000:1000", ["python", "inference.py"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert labels["org.opencontainers.image.version"] == project["version"]
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?", labels["org.opencontainers.image.revision"])
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    assert labels["org.opencontainers.image.base.name"].startswith("python:3.11")
    assert labels["org.grand-challenge.api-method"] == "exec"
    assert labels["bundle.name"] == json.loads((LITE / "manifest.json").read_text())["name"]
    assert "\n".join(ask(image, "cat /opt/app/LICENSE")) + "\n" == (ROOT / "LICENSE").read_text()


def test_what_was_cut_is_missed_by_nothing(image: str) -> None:
    """Every library that torch links is there, every package can be imported, and timm's networks can be built."""
    linked = "ldd /usr/local/lib/python3.11/site-packages/torch/lib/*.so"  # all but the driver, which the host brings
    assert ask(image, f"{linked} | grep 'not found' | grep -v libcuda.so.1") == []
    names = (
        "torch torch.utils.data torchvision timm numpy SimpleITK PIL skimage.color safetensors grand_challenge_metrics "
        "sklearn.metrics scipy.stats pandas matplotlib.pyplot jinja2 tqdm captum.attr fastapi uvicorn"
    )
    build = "from mitoscope.networks.build import build_network; build_network('regnetx_002', 64)"
    script = f"import importlib; [importlib.import_module(name) for name in '{names}'.split()]; {build}"
    cuda = "import torch; print(torch.version.cuda)"
    [version] = ask(image, f'python -W error::ImportWarning -c "{script}; {cuda}"', "1000")
    assert version.startswith("12.")


@pytest.mark.parametrize("api", ["exec", "invoke"])
def test_least_privilege_is_enough(api: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    image = request.getfixturevalue({"exec": "image", "invoke": "invoke_image"}[api])
    tmp_path.chmod(0o777)
    mounts = ("-v", f"{CASE}:/input:ro", "-v", f"{tmp_path}:/output")
    if api == "exec":
        ran = run("docker", "run", "--rm", *LEAST.split(), *mounts, image)
        assert (ran.returncode, ran.stderr) == (0, "")
    else:
        serve(image, *mounts)
    assert [path.name for path in tmp_path.iterdir()] == [RESULT]
    assert len(json.loads((tmp_path / RESULT).read_text())) == 16
    assert (tmp_path / RESULT).stat().st_uid == 12345


def serve(image: str, *mounts: str) -> None:
    """Start the server, have one case scored, and stop it."""
    call = "import sys, urllib.request as web; print(web.urlopen(web.Request(sys.argv[2], method=sys.argv[1])).status)"
    container = run("docker", "run", "--detach", *LEAST.split(), *mounts, image).stdout.strip()

    def request(method: str, path: str) -> str:
        url = f"http://127.0.0.1:4743{path}"
        return run("docker", "exec", container, "python", "-c", call, method, url).stdout.strip()

    try:
        until = time.monotonic() + 60
        while request("GET", "/health") != "200" and time.monotonic() < until:
            time.sleep(0.5)
        assert request("POST", "/invoke") == "201", run("docker", "logs", container)
        assert run("docker", "logs", container).stderr == ""
    finally:
        run("docker", "rm", "--force", container)


def test_the_sbom_of_the_image_lists_what_is_locked_and_its_licences_were_agreed_to(image: str, tmp_path: Path) -> None:
    command = ["docker", "run", "--rm", "--interactive", *LEAST.split(), "--entrypoint", "python", image]
    arguments = ["-", "image", "0", "revision", "/opt/app/weights", "/opt/app/installed.txt"]
    with (ROOT / "tools/supply/sbom.py").open() as script:
        made = subprocess.run([*command, *arguments], stdin=script, capture_output=True, text=True, check=False)
    assert (made.returncode, made.stderr) == (0, "")
    components = json.loads(made.stdout)["components"]
    hashes = {each["name"]: each["hashes"][0]["content"] for each in components if "pypi" in each["bom-ref"]}
    lock = (ROOT / "requirements.txt").read_text()
    assert hashes.keys() == set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)) - {"triton"}
    assert all(f"sha256:{digest}" in lock for digest in hashes.values())
    assert any(each["bom-ref"].startswith("pkg:deb/debian/libc6@") for each in components)
    (tmp_path / "sbom.json").write_text(made.stdout)
    judged = run(ROOT / ".venv/bin/python", "-m", "tools.supply.licences", tmp_path / "sbom.json")
    assert (judged.returncode, judged.stderr) == (0, "")
