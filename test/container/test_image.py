"""The image itself, built and run by a real Docker engine: what it does. test_hygiene.py asks what it holds and may."""

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
LITE = ROOT / "weights/lite"
CASE = ROOT / "test/input/interf0"
RESULT = "multiple-mitotic-figure-classification.json"


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), env=os.environ | environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def run_case(image: str, case: Path, output: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    strict = "--rm --network none --read-only --cap-drop ALL --security-opt no-new-privileges --tmpfs /tmp:rw,mode=1777"
    mounts = ("-v", f"{case}:/input:ro", "-v", f"{output}:/output")
    return run("docker", "run", *strict.split(), *mounts, *options, image)


def test_the_fixture_passes(image: str) -> None:
    tested = run(ROOT / "test.sh", IMAGE=image)
    assert tested.stdout.endswith("\nPASS\n"), tested.stdout + tested.stderr
    assert (tested.returncode, tested.stderr) == (0, "")


def test_an_altered_expectation_fails(image: str, tmp_path: Path) -> None:
    pages = json.loads((ROOT / "test/expected/interf0" / RESULT).read_text())
    pages[2]["class"] = "normal" if pages[2]["class"] == "atypical" else "atypical"
    (tmp_path / RESULT).write_text(json.dumps(pages))
    tested = run(ROOT / "test.sh", IMAGE=image, EXPECTED=str(tmp_path))
    assert tested.returncode == 1
    assert "wrong: page 3: got class" in tested.stdout


def test_a_bad_case_is_one_line_and_no_output(image: str, tmp_path: Path, output: Path) -> None:
    case = tmp_path / "case"
    case.mkdir()
    ran = run_case(image, case, output)
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert "inputs.json" in ran.stderr
    assert not list(output.iterdir())


@pytest.mark.parametrize("nested", [".", "bundle"])
def test_an_attached_bundle_overrides_the_baked_one(image: str, tmp_path: Path, output: Path, nested: str) -> None:
    folder = tmp_path / "model" / nested
    shutil.copytree(LITE, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["checksum"]
    manifest["name"] = "attached"
    manifest["threshold"]["value"] = 0.999999  # no page of the fixture reaches it
    (folder / "manifest.json").write_text(json.dumps(manifest))
    ran = run_case(image, CASE, output, "-v", f"{tmp_path / 'model'}:/opt/ml/model:ro")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "attached in '/opt/ml/model" in ran.stdout
    assert {page["class"] for page in json.loads((output / RESULT).read_text())} == {"normal"}


def test_the_invoke_image_keeps_the_platforms_contract(invoke_image: str) -> None:
    tested = run(ROOT / "test.sh", IMAGE=invoke_image)
    assert tested.stdout.endswith("\nPASS\n"), tested.stdout + tested.stderr
    assert (tested.returncode, tested.stderr) == (0, "")
    config = json.loads(run("docker", "image", "inspect", invoke_image).stdout)[0]["Config"]
    assert (config["User"], config["Entrypoint"]) == ("1000:1000", ["python", "serve.py"])
    assert config["Labels"]["org.grand-challenge.api-method"] == "invoke"


def test_a_server_without_its_weights_ends_at_once(invoke_image: str, tmp_path: Path, output: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/notes.txt").touch()
    ran = run_case(invoke_image, CASE, output, "-v", f"{tmp_path / 'model'}:/opt/ml/model:ro")
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1)
    assert ran.stderr.startswith("error: the model tarball holds no bundle")


def test_a_bundle_that_is_not_whole_is_not_baked(image: str, tmp_path: Path) -> None:
    shutil.copytree(LITE, tmp_path / "broken")
    member = tmp_path / "broken/fold3.safetensors"
    content = bytearray(member.read_bytes())
    content[-1] ^= 1
    member.write_bytes(content)
    built = run(ROOT / "build.sh", tmp_path / "broken", IMAGE="atypical-mitosis-classifier:broken")
    assert built.returncode == 1
    assert "fold3.safetensors was altered or swapped" in built.stdout + built.stderr
    assert built.stderr.splitlines()[-1].startswith("build.sh: the image was not built")


def test_the_exported_tarballs_can_be_loaded(engine: None, tmp_path: Path) -> None:
    """On an image of Python, the bundle and its labels alone: the real one takes minutes to compress."""
    name = "atypical-mitosis-export-test"
    shutil.copytree(LITE, tmp_path / "weights")
    base = (ROOT / "Dockerfile").read_text().split("ARG BASE_IMAGE=")[1].split("\n")[0]
    line = "f'{each.name}=={each.version} --hash=sha256:{0:064x}'"
    wheels = f"from importlib.metadata import distributions as all; print(*({line} for each in all()), sep='\\n')"
    (tmp_path / "Dockerfile").write_text(
        f'FROM {base}\nCOPY weights /opt/app/weights\nRUN python -c "{wheels}" > /opt/app/installed.txt\n'
    )
    labels = ("--label", "bundle.name=small", "--label", "org.opencontainers.image.version=0.0.1")
    assert run("docker", "build", "--tag", name, *labels, tmp_path).returncode == 0
    assert run("docker", "tag", name, f"{name}:another").returncode == 0
    exported = run(ROOT / "export.sh", IMAGE=name, DIST=str(tmp_path / "dist"))
    assert (exported.returncode, exported.stderr) == (0, "")
    sbom = json.loads((tmp_path / f"dist/{name}-0.0.1.cdx.json").read_text())
    bundle = json.loads((LITE / "manifest.json").read_text())["name"]
    assert {bundle, "python", "pip"} <= {each["name"] for each in sbom["components"]}
    assert run("docker", "rmi", name, f"{name}:another").returncode == 0
    loaded = run("docker", "load", "--input", tmp_path / f"dist/{name}-0.0.1.tar.gz")
    assert loaded.stdout == f"Loaded image: {name}:latest\n"
    run("docker", "rmi", name)
    with tarfile.open(tmp_path / "dist/small-model.tar.gz") as tarball:
        assert sorted(tarball.getnames()) == sorted(path.name for path in LITE.iterdir())
