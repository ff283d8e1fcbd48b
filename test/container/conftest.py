"""The two images, built by build.sh with weights/lite. They stay, since their layers take minutes to build."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build(tag: str, api: str) -> str:
    image = f"atypical-mitosis-classifier:{tag}"
    command = ["env", f"IMAGE={image}", ROOT / "build.sh", "--api", api, ROOT / "weights/lite"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr
    return image


@pytest.fixture(scope="session")
def engine() -> None:
    asked = shutil.which("docker") and subprocess.run(["docker", "version"], capture_output=True, check=False)
    if not asked or asked.returncode:
        pytest.skip("lacks a running Docker engine")


@pytest.fixture(scope="session")
def image(engine: None) -> str:
    return build("test", "exec")


@pytest.fixture(scope="session")
def invoke_image(engine: None) -> str:
    return build("test-invoke", "invoke")
