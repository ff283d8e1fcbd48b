"""The shell scripts, executed with a recording stand-in for docker on PATH. test_image.py asks a real engine."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULT = "multiple-mitotic-figure-classification.json"
POINTS = "mitotic-figures.json"
NO_POINTS = {"name": "Points of interest", "type": "Multiple points", "points": [], "version": {"major": 1, "minor": 0}}
LITE_OUTPUT = ROOT / "test/expected/interf0"
TOOLS = "bash cat chmod cp cut dirname env find git grep gzip mkdir mktemp mv rm sed sha256sum sort stat tar"
STRICT = (
    "--rm --platform linux/amd64 --network none --read-only --cap-drop ALL --security-opt no-new-privileges "
    "--memory 15g --tmpfs /tmp:rw,exec,mode=1777"
)


@dataclass
class Checkout:
    """A checkout's scripts and fixture in a folder of their own, and the scene that the stand-in plays."""

    root: Path
    environment: dict[str, str]

    def run(self, *command: str, **scene: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.root, env=self.environment | scene, capture_output=True, text=True, check=False
        )

    def calls(self, kind: str) -> list[dict]:
        record = Path(self.environment["RECORD"])
        calls = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
        return [call for call in calls if call["arguments"][0] == kind]

    def case_runs(self) -> list[str]:
        runs = (" ".join(call["arguments"]) for call in self.calls("run"))
        return [line for line in runs if "--entrypoint" not in line]

    def rename_bundle(self, folder: str, name: str) -> Path:
        shutil.copytree(self.root / "weights/lite", self.root / folder)
        edit_manifest(self.root / folder, name=name)
        return self.root / folder


def edit_manifest(folder: Path, **changes: str) -> None:
    fields = json.loads((folder / "manifest.json").read_text()) | changes
    del fields["checksum"]
    (folder / "manifest.json").write_text(json.dumps(fields, indent=1))  # as published


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "checkout"
    (root / "test/container").mkdir(parents=True)
    for name in (
        "build.sh",
        "test.sh",
        "export.sh",
        "Dockerfile",
        "pyproject.toml",
        "requirements.txt",
        "LICENSE",
        "inference.py",
        "serve.py",
        "test/container/make_cases.py",
        "test/compare_points.py",
    ):
        shutil.copy(ROOT / name, root / name)
    for folder in ("mitoscope", "model", "tools/supply", "weights/lite", "test/input", "test/expected"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    docker = tmp_path / "bin/docker"
    docker.parent.mkdir()
    stand_in = (ROOT / "test/container/docker_stand_in.py").read_text()
    docker.write_text(f"#!{sys.executable}\n{stand_in}")
    docker.chmod(0o755)
    installed = tmp_path / "installed.txt"
    installed.write_text("".join(f"{each.name}=={each.version} --hash=sha256:{'0' * 64}\n" for each in distributions()))
    environment = {
        "INSTALLED": str(installed),
        "PATH": f"{docker.parent}:{os.environ['PATH']}",
        "TMPDIR": str(tmp_path),
        "RECORD": str(tmp_path / "record"),
        "BUNDLE": str(root / "weights/lite"),
        "OUTPUT": str(root / "test/expected/interf0"),
    }
    return Checkout(root, environment)


def lite_name(checkout: Checkout) -> str:
    return json.loads((checkout.root / "weights/lite/manifest.json").read_text())["name"]


# build.sh


def test_build_takes_lite_and_says_so(checkout: Checkout) -> None:
    built = checkout.run("./build.sh")
    assert (built.returncode, built.stderr) == (0, "")
    assert f"with the bundle {lite_name(checkout)} from {checkout.root}/weights/lite" in built.stdout
    [call] = checkout.calls("build")
    manifest = (checkout.root / "weights/lite/manifest.json").read_bytes()
    for words in (
        "--tag atypical-mitosis-classifier --target exec --platform linux/amd64 --force-rm",
        f"--build-arg BUNDLE_NAME={lite_name(checkout)}",
        f"--build-arg BUNDLE_SHA256={hashlib.sha256(manifest).hexdigest()}",
        "--build-arg VERSION=",
    ):
        assert words in " ".join(call["arguments"])


def test_build_sends_what_the_image_needs_and_every_user_may_read_it(checkout: Checkout) -> None:
    (checkout.root / "weights/lite/manifest.json").chmod(0o600)
    (checkout.root / "model/__pycache__").mkdir(exist_ok=True)
    checkout.run("./build.sh")
    context = checkout.calls("build")[0]["context"]
    assert {name.split("/")[0] for name in context} == {
        "Dockerfile",
        "requirements.txt",
        "LICENSE",
        "inference.py",
        "serve.py",
        "mitoscope",
        "model",
        "weights",
    }
    assert {f"weights/fold{k}.safetensors" for k in range(5)} | {"weights/manifest.json"} <= context.keys()
    assert not any("__pycache__" in name for name in context)
    assert all(mode & 0o444 == 0o444 for mode in context.values())


def test_build_makes_the_other_target_for_the_invoke_api(checkout: Checkout) -> None:
    built = checkout.run("./build.sh", "--api", "invoke", "weights/lite")
    assert (built.returncode, built.stderr) == (0, "")
    assert "(classify, invoke, version " in built.stdout
    assert "--target invoke --platform" in " ".join(checkout.calls("build")[0]["arguments"])


def test_build_prefers_l2(checkout: Checkout) -> None:
    checkout.rename_bundle("weights/l2", "the-large-one")
    built = checkout.run("./build.sh")
    assert f"with the bundle the-large-one from {checkout.root}/weights/l2" in built.stdout
    assert "BUNDLE_NAME=the-large-one" in " ".join(checkout.calls("build")[0]["arguments"])


def test_build_takes_a_named_bundle_and_follows_links(checkout: Checkout) -> None:
    member = checkout.rename_bundle("elsewhere", "mine") / "fold4.safetensors"
    member.unlink()
    member.symlink_to(checkout.root / "weights/lite/fold4.safetensors")
    (checkout.root / "link").symlink_to("elsewhere")
    built = checkout.run("./build.sh", "link", IMAGE="other:tag", BASE_IMAGE="mirror/python:3.11")
    [call] = checkout.calls("build")
    assert "with the bundle mine from link" in built.stdout
    assert "weights/fold4.safetensors" in call["context"]
    assert {"other:tag", "BASE_IMAGE=mirror/python:3.11"} <= set(call["arguments"])


def test_build_refuses_a_task_without_an_image(checkout: Checkout) -> None:
    edit_manifest(checkout.root / "weights/lite", task="segment")
    built = checkout.run("./build.sh")
    assert (built.returncode, built.stderr.count("\n")) == (1, 1)
    assert built.stderr.startswith("build.sh: no image can be built for this task: got segment in ")
    assert not checkout.calls("build")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--api", "grpc"], "--api is unusable: got 'grpc', expected exec or invoke"),
        (["--api"], "--api is unusable: got ''"),
        (["--fast"], "the option is unknown: got --fast"),
        (["a", "b"], "there are too many bundles: got a and b"),
        (["model"], "there is no weights bundle: got no model/manifest.json"),
    ],
)
def test_build_refuses(checkout: Checkout, arguments: list[str], reason: str) -> None:
    built = checkout.run("./build.sh", *arguments)
    assert built.returncode == 1
    assert built.stderr.startswith(f"build.sh: {reason}")
    assert built.stderr.count("\n") == 1
    assert not checkout.calls("build")


# test.sh


def test_the_image_runs_under_stricter_conditions_than_the_platforms(checkout: Checkout) -> None:
    tested = checkout.run("./test.sh")
    assert (tested.returncode, tested.stderr) == (0, "")
    assert tested.stdout.endswith("\nPASS\n")
    [case] = checkout.case_runs()
    assert case.startswith(f"run {STRICT} -v ")
    assert ":/input:ro -v " in case
    assert ":/opt/ml/model:ro atypical-mitosis-classifier" in case
    assert not list(Path(checkout.environment["TMPDIR"]).glob("tmp.*"))


@pytest.mark.parametrize("gpu", ["", "yes"])
def test_the_gpu_is_used_when_docker_offers_one(checkout: Checkout, gpu: str) -> None:
    tested = checkout.run("./test.sh", GPU=gpu)
    assert ("--gpus all" in checkout.case_runs()[0]) == bool(gpu)
    assert ("test.sh: GPU: yes" if gpu else "test.sh: GPU: no, on the CPU; Docker refuses --gpus all") in tested.stdout
    assert f"tolerance {'2e-2' if gpu else '1e-4'}" in tested.stdout


def write_output(checkout: Checkout, pages: list[dict]) -> dict[str, str]:
    folder = checkout.root / "altered"
    folder.mkdir()
    (folder / RESULT).write_text(json.dumps(pages))
    return {"OUTPUT": str(folder)}


def test_a_wrong_output_fails(checkout: Checkout) -> None:
    pages = json.loads((checkout.root / "test/expected/interf0" / RESULT).read_text())
    tested = checkout.run("./test.sh", **write_output(checkout, pages[:-1]))
    assert tested.returncode == 1
    assert "got 15 pages" in tested.stdout
    assert tested.stdout.endswith("\nFAIL: fixture: the output is wrong, see above\n")


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        ({"STDERR": "a warning\n"}, "the container wrote on stderr"),
        ({"STATUS": "3"}, "the container ended with exit code 3"),
        ({"IMAGE_USER": ""}, "the image runs as root"),
        ({"IMAGE_USER": "0:0"}, "the image runs as root"),
    ],
)
def test_a_good_output_is_not_enough(checkout: Checkout, scene: dict[str, str], reason: str) -> None:
    tested = checkout.run("./test.sh", **scene)
    assert tested.returncode == 1
    assert tested.stdout.endswith(f"\nFAIL: {reason}\n")
    assert tested.stderr == scene.get("STDERR", "")


def test_another_bundle_is_held_to_the_format_alone_unless_an_expectation_is_named(checkout: Checkout) -> None:
    other = str(checkout.rename_bundle("other", "mine"))
    pages = json.loads((checkout.root / "test/expected/interf0" / RESULT).read_text())
    pages[0]["confidence"] += 1e-3 if pages[0]["class"] == "atypical" else -1e-3
    scene = {"BUNDLE": other} | write_output(checkout, pages)
    tested = checkout.run("./test.sh", **scene)
    assert "checking the format only: the image holds mine" in tested.stdout
    assert tested.stdout.endswith("\nPASS\n")
    tested = checkout.run("./test.sh", EXPECTED="test/expected/interf0", **scene)
    assert "page 1: got confidence" in tested.stdout
    assert tested.returncode == 1


def test_an_image_of_no_known_api_is_refused(checkout: Checkout) -> None:
    tested = checkout.run("./test.sh", API="<no value>")
    assert tested.returncode == 1
    assert tested.stderr.startswith(
        "test.sh: the image is another one: got the label org.grand-challenge.api-method '<no v"
    )


@pytest.mark.slow
def test_an_invoke_image_is_asked_from_inside_and_stopped(checkout: Checkout) -> None:
    tested = checkout.run("./test.sh", API="invoke")
    assert (tested.returncode, tested.stderr) == (0, "")
    assert tested.stdout.endswith("\nPASS\n")
    [server] = [line for line in checkout.case_runs() if "--detach" in line]
    assert server.startswith(f"run {STRICT.replace('--rm', '--detach')} -v ")
    assert ":/input:ro -v " in server
    asked = [call["arguments"][-2:] for call in checkout.calls("exec")]
    assert asked == [["GET", "/health"], *[["POST", "/invoke"]] * 8]
    said = [line for line in tested.stdout.splitlines() if "/invoke answered" in line]
    assert [line.split()[-1] for line in said] == ["201", "201", "201", "500", "201"]
    assert "SIGTERM ended the server in the middle of a case" in tested.stdout
    assert checkout.calls("rm")[0]["arguments"] == ["rm", "--force", "c0ffee"]
    assert not list(Path(checkout.environment["TMPDIR"]).glob("tmp.*"))


@pytest.mark.slow
def test_a_case_that_is_over_before_the_signal_must_be_whole(checkout: Checkout) -> None:
    tested = checkout.run("./test.sh", API="invoke", FAULT="fast")
    assert "the case was over before SIGTERM came" in tested.stdout
    assert tested.stdout.endswith("\nPASS\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        ({"FAULT": "never healthy"}, "/health never answered 200"),
        pytest.param({"FAULT": "stale"}, "reversed: the output is wrong, see above", marks=pytest.mark.long),
        ({"FAULT": "credulous"}, "bad: /invoke answered 201, expected 500"),
        pytest.param({"FAULT": "untidy"}, "bad: a case that failed has an output", marks=pytest.mark.long),
        pytest.param(
            {"FAULT": "traceback"}, "stderr does not hold just the reasons of the failed cases", marks=pytest.mark.long
        ),
        ({"STDERR": "a warning\n"}, "stderr does not hold just the reasons of the failed cases"),
        pytest.param(
            {"FAULT": "deaf"}, "SIGTERM did not end the server cleanly: exit code 137", marks=pytest.mark.long
        ),
        pytest.param({"FAULT": "half-written"}, "SIGTERM left something in the output folder", marks=pytest.mark.long),
    ],
)
def test_a_server_that_breaks_the_contract_fails(checkout: Checkout, scene: dict[str, str], reason: str) -> None:
    tested = checkout.run("./test.sh", API="invoke", **scene)
    assert tested.returncode == 1
    *_, last = tested.stdout.splitlines()
    assert last.startswith("FAIL: ")
    assert reason in last


# Track 1


@pytest.fixture
def detecting(checkout: Checkout, tiny_detector: Path) -> Checkout:
    """A checkout whose image holds a detector, and a result with two points."""
    shutil.copytree(tiny_detector, checkout.root / "detector")
    output = checkout.root / "points"
    output.mkdir()
    content = json.loads(json.dumps(NO_POINTS))
    for x_mm, p in ((0.05, 0.9), (0.15, 0.2)):
        name = "mitotic figure" if p >= 0.5 else "non-mitotic figure"
        content["points"].append({"name": name, "point": [x_mm, 0.1, 0.0], "probability": p})
    (output / POINTS).write_text(json.dumps(content))
    checkout.environment |= {"BUNDLE": str(checkout.root / "detector"), "OUTPUT": str(output)}
    return checkout


def alter_points(checkout: Checkout, **changes: object) -> dict[str, str]:
    """EXPECTED with another first point."""
    content = json.loads((Path(checkout.environment["OUTPUT"]) / POINTS).read_text())
    content["points"][0] |= changes
    (checkout.root / "wanted").mkdir()
    (checkout.root / "wanted" / POINTS).write_text(json.dumps(content))
    return {"EXPECTED": str(checkout.root / "wanted")}


def test_a_detector_becomes_an_image_of_track_1_and_the_scripts_find_it(detecting: Checkout) -> None:
    built = detecting.run("./build.sh", "detector")
    assert (built.returncode, built.stderr) == (0, "")
    assert built.stdout.startswith("build.sh: mitotic-figure-detector (detect, exec, version ")
    words = " ".join(detecting.calls("build")[0]["arguments"])
    for each in ("--tag mitotic-figure-detector ", "TITLE=mitotic-figure-detector ", "BUNDLE_TASK=detect "):
        assert each in words
    tested = detecting.run("./test.sh")
    assert (tested.returncode, tested.stderr) == (0, "")
    assert tested.stdout.endswith("\nok\nPASS\n")
    assert "checking the format only: the image holds tiny-detector" in tested.stdout
    [case] = detecting.case_runs()
    assert case.endswith(":/opt/ml/model:ro mitotic-figure-detector")
    exported = detecting.run("./export.sh")
    assert (exported.returncode, exported.stderr) == (0, "")
    assert sorted(path.name for path in (detecting.root / "dist").iterdir()) == [
        *(f"mitotic-figure-detector-1.2.3.{kind}" for kind in ("cdx.json", "tar.gz")),
        "tiny-detector-model.tar.gz",
    ]
    assert detecting.run("./build.sh", "weights/lite").returncode == 0
    detecting.run("./test.sh", BUNDLE=str(detecting.root / "weights/lite"), OUTPUT=str(LITE_OUTPUT))
    assert detecting.case_runs()[-1].endswith(" atypical-mitosis-classifier")


def test_an_image_with_a_name_of_its_own_is_not_the_next_ones(detecting: Checkout) -> None:
    detecting.run("./build.sh", "detector", IMAGE="mine:1")
    assert "--tag mine:1 " in " ".join(detecting.calls("build")[0]["arguments"])
    detecting.run("./test.sh")
    assert detecting.case_runs()[0].endswith(" atypical-mitosis-classifier")


def test_points_that_break_the_rules_fail(detecting: Checkout) -> None:
    path = Path(detecting.environment["OUTPUT"]) / POINTS
    content = json.loads(path.read_text())
    content["points"][1]["point"] = [600.0, 400.0, 0.0]  # pixels
    path.write_text(json.dumps(content))
    tested = detecting.run("./test.sh")
    assert "these look like pixels" in tested.stdout
    assert tested.stdout.endswith("\nFAIL: fixture: the output is wrong, see above\n")


@pytest.mark.parametrize(
    ("changes", "gpu", "fault"),
    [
        ({"probability": 0.9}, "", ""),
        ({"probability": 0.9002}, "", "another probability"),
        ({"probability": 0.9002}, "yes", ""),
        ({"point": [0.052, 0.1, 0.0]}, "", "no point where one is expected"),
        ({"name": "non-mitotic figure"}, "", "another name"),
    ],
)
def test_points_are_compared_with_the_expected_ones(
    detecting: Checkout, changes: dict[str, object], gpu: str, fault: str
) -> None:
    tested = detecting.run("./test.sh", GPU=gpu, **alter_points(detecting, **changes))
    if fault:
        assert f"wrong: {fault}" in tested.stdout
        assert tested.stdout.endswith("FAIL: fixture: the output is not as expected, see above\n")
    else:
        assert tested.stdout.endswith("\nok\nas expected\nPASS\n")


@pytest.mark.slow
def test_a_detectors_server_is_asked_from_inside_and_stopped(detecting: Checkout) -> None:
    tested = detecting.run("./test.sh", API="invoke")
    assert (tested.returncode, tested.stderr) == (0, "")
    assert tested.stdout.endswith("\nPASS\n")
    said = [line.split(": ")[1:] for line in tested.stdout.splitlines() if "/invoke answered" in line]
    assert [name for name, _ in said] == ["fixture", "glass", "fixture", "bad", "glass"]
    tested = detecting.run("./test.sh", API="invoke", FAULT="stale")
    assert "glass: the output is not as expected" in tested.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        (f"test/expected/interf0/{RESULT}", "there is no expected output"),
        ("test/input/interf0/inputs.json", "there is no test case"),
    ],
)
def test_a_missing_fixture_is_an_error(checkout: Checkout, missing: str, reason: str) -> None:
    (checkout.root / missing).unlink()
    tested = checkout.run("./test.sh")
    assert (tested.returncode, tested.stderr.count("\n")) == (1, 1)
    assert tested.stderr.startswith(f"test.sh: {reason}: got no ")


# export.sh


def test_export_writes_the_tarballs_and_the_sbom_and_the_model_is_reproducible(checkout: Checkout) -> None:
    exported = checkout.run("./export.sh")
    assert (exported.returncode, exported.stderr) == (0, "")
    dist, model = checkout.root / "dist", f"{lite_name(checkout)}-model.tar.gz"
    image, sbom = (f"atypical-mitosis-classifier-1.2.3.{kind}" for kind in ("tar.gz", "cdx.json"))
    assert sorted(path.name for path in dist.iterdir()) == sorted([image, sbom, model])
    subject = json.loads((dist / sbom).read_text())["metadata"]["component"]
    assert (subject["name"], subject["version"]) == ("atypical-mitosis-classifier", "1.2.3")
    assert subject["properties"] == [{"name": "revision", "value": "c0de"}]
    assert checkout.calls("save")[0]["arguments"] == ["save", "atypical-mitosis-classifier:latest"]
    first = (dist / model).read_bytes()
    assert f"{hashlib.sha256(first).hexdigest()}  {dist / model}" in exported.stdout
    with tarfile.open(dist / model) as tarball:
        members = tarball.getmembers()
        tarball.extractall(checkout.root / "unpacked", filter="data")
    assert [member.name for member in members] == sorted(
        path.name for path in (checkout.root / "weights/lite").iterdir()
    )
    assert {(member.uid, member.gid, member.mtime, member.mode) for member in members} == {(0, 0, 0, 0o644)}
    for path in (checkout.root / "weights/lite").iterdir():
        assert (checkout.root / "unpacked" / path.name).read_bytes() == path.read_bytes()
        path.touch()
    checkout.run("./export.sh")
    assert (dist / model).read_bytes() == first


@pytest.mark.slow
def test_the_model_tarball_holds_plain_files_and_depends_on_nothing_but_the_bundle(checkout: Checkout) -> None:
    bundle, model = checkout.root / "weights/lite", checkout.root / f"dist/{lite_name(checkout)}-model.tar.gz"
    (bundle / "copy.md").write_bytes((bundle / "README.md").read_bytes())
    checkout.run("./export.sh")
    first = model.read_bytes()
    (bundle / "copy.md").unlink()
    (bundle / "copy.md").hardlink_to(bundle / "README.md")
    (bundle / "fold0.safetensors").chmod(0o777)  # as on a file system without modes
    (bundle / "manifest.json").chmod(0o600)
    assert checkout.run("./export.sh").returncode == 0
    assert model.read_bytes() == first
    with tarfile.open(model) as tarball:
        members = tarball.getmembers()
    assert len(members) == len(list(bundle.iterdir()))
    assert all(member.isreg() and "/" not in member.name and member.name != ".." for member in members)


def test_export_refuses_a_bundle_with_links(checkout: Checkout) -> None:
    (checkout.root / "weights/lite/fold9.safetensors").symlink_to("/etc/passwd")
    exported = checkout.run("./export.sh")
    assert exported.returncode == 1
    assert exported.stderr.startswith("export.sh: the bundle holds links: got fold9.safetensors ")
    assert not list((checkout.root / "dist").iterdir())


def test_export_refuses_an_image_with_what_is_not_locked(checkout: Checkout) -> None:
    installed = Path(checkout.environment["INSTALLED"])
    lines = installed.read_text().splitlines(keepends=True)
    installed.write_text("".join(line for line in lines if not line.startswith("numpy==")))
    exported = checkout.run("./export.sh")
    assert exported.returncode == 1
    assert exported.stderr.startswith("error: the image holds what is not locked: got numpy ")
    assert exported.stderr.splitlines()[1].startswith("export.sh: the SBOM was not made")
    assert not list((checkout.root / "dist").iterdir())


def test_export_leaves_no_tarball_that_the_platform_would_refuse(checkout: Checkout) -> None:
    stat = Path(checkout.environment["PATH"].split(":")[0]) / "stat"
    stat.write_text("#!/bin/sh\necho 10000000001\n")
    stat.chmod(0o755)
    exported = checkout.run("./export.sh")
    assert exported.returncode == 1
    assert exported.stderr.startswith("export.sh: the image tarball is too large: got 10000000001 bytes")
    assert not list((checkout.root / "dist").iterdir())


# all three


@pytest.mark.parametrize("script", ["build.sh", "test.sh", "export.sh"])
def test_help_is_given_and_nothing_else_done(checkout: Checkout, script: str) -> None:
    helped = checkout.run(f"./{script}", "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert f"./{script}" in helped.stdout
    assert not Path(checkout.environment["RECORD"]).exists()


@pytest.mark.parametrize("script", ["build.sh", "test.sh", "export.sh"])
def test_without_docker_the_error_is_one_line(checkout: Checkout, tmp_path: Path, script: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in TOOLS.split():
        (tools / tool).symlink_to(shutil.which(tool) or "missing")
    ran = checkout.run(f"./{script}", PATH=str(tools))
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"{script}: there is no Docker: got no docker on PATH")
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("script", ["build.sh", "test.sh", "export.sh"])
def test_without_an_engine_the_error_is_one_line(checkout: Checkout, script: str) -> None:
    ran = checkout.run(f"./{script}", ENGINE="down")
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"{script}: Docker's engine does not answer")
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("script", ["test.sh", "export.sh"])
def test_without_an_image_the_error_is_one_line(checkout: Checkout, script: str) -> None:
    ran = checkout.run(f"./{script}", ENGINE="empty", IMAGE="nothing")
    assert ran.returncode == 1
    assert ran.stderr == f"{script}: there is no image: got none named nothing, expected a built one; run ./build.sh\n"
