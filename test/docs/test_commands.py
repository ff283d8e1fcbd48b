"""The commands and the code of README and the guides: run where that needs minutes at most, else parsed."""

import doctest
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from PIL import Image, ImageSequence

import mitoscope
from mitoscope.bundle.manifest import Bundle
from mitoscope.bundle.read import read_bundle
from mitoscope.cli import build_parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
LANGUAGES = ("sh", "python", "json", "")
NEEDS = re.compile(r"# needs \S")  # the first line of a block that is only parsed
STACK = next((ROOT / "test/input/interf0/images").glob("*/*.tiff"))


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    language: str
    text: str

    @property
    def is_run(self) -> bool:
        return self.language == "python" or (self.language == "sh" and not NEEDS.match(self.text))


def read_blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [Block(page, language, text) for language, text in found]


BLOCKS = [block for page in PAGES for block in read_blocks(page)]
COMMANDS = [
    (block.page.name, words)
    for block in BLOCKS
    if block.language == "sh"
    for line in block.text.replace("\\\n", " ").splitlines()
    if (words := shlex.split(line, comments=True))
]
INLINE = sorted(
    {
        (page.name, text)
        for page in PAGES
        for text in re.findall(r"`((?:mitoscope|make|python -m) [^`\n]+)`", page.read_text(encoding="utf-8"))
    }
)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def list_subcommands() -> set[str]:
    """Such as "classify" and "train fit"."""

    def walk(parser: object, path: str) -> set[str]:
        actions = [action for action in parser._actions if hasattr(action, "_name_parser_map")]  # type: ignore[attr-defined]
        found = {path} if path else set()
        for action in actions:
            for name, below in action.choices.items():
                found |= walk(below, f"{path} {name}".strip())
        return found

    return walk(build_parser(with_training=True), "")


SUBCOMMANDS = list_subcommands()


def test_every_block_has_a_known_language() -> None:
    assert {block.language for block in BLOCKS} <= set(LANGUAGES)
    assert sum(block.is_run for block in BLOCKS) >= 9


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: value if isinstance(value, str) else value[0])
def test_a_command_exists_and_takes_its_arguments(page: str, words: list[str]) -> None:
    program, *arguments = words
    if program == "mitoscope":
        build_parser(with_training=arguments[0] == "train").parse_args(arguments)
    elif program == "make":
        assert {word for word in arguments if "=" not in word} <= TARGETS
    elif program.startswith("./"):
        help_text = subprocess.run([ROOT / program, "--help"], capture_output=True, text=True, check=True).stdout
        assert {word for word in arguments if word.startswith("--")} <= set(re.findall(r"--[a-z]+", help_text))
    elif program == "python":
        help_text = subprocess.run(
            [sys.executable, ROOT / arguments[0], "--help"], capture_output=True, text=True, check=True
        ).stdout
        assert {word for word in arguments if word.startswith("--")} <= set(re.findall(r"--[a-z]+", help_text))
    else:
        assert program in {"pip", ".venv/bin/pip", "docker", "git", "hf", "source"} or program.startswith("BASE_IMAGE=")


@pytest.mark.parametrize(("page", "text"), INLINE)
def test_a_command_in_the_text_exists(page: str, text: str) -> None:
    if text.startswith("make "):
        assert text.split()[1] in TARGETS
    elif text.startswith("python -m "):
        assert importlib.util.find_spec(text.split()[2])
    else:
        words = re.match(r"mitoscope((?: [a-z][a-z-]*)*)", text)
        assert words and (not words[1] or words[1].strip() in SUBCOMMANDS), text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a clone holds, drawn crops in crops/Atypical and crops/Normal, a drawn stack, and a detector's tables."""
    (tmp_path / "test").mkdir()
    for name in ("mitoscope", "model", "weights", "inference.py", "serve.py", "test/input"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "stack.tiff").write_bytes(STACK.read_bytes())
    with Image.open(STACK) as stack:
        for number, page in enumerate(ImageSequence.Iterator(stack), start=1):
            path = tmp_path / "crops" / ("Normal" if number <= 8 else "Atypical") / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            page.convert("RGB").save(path)
    head, rows = "image,x_um,y_um,x_px,y_px,p_mitosis\n", "a.tif,25,25,100,100,{}\nb.tif,50,25,200,100,{}\n"
    (tmp_path / "detections.csv").write_text(head + rows.format(0.9, 0.7))
    (tmp_path / "other.csv").write_text(head + rows.format(0.8, 0.1))
    figures = "a.tif,101,99,mitotic figure\nb.tif,200,100,mitotic figure\nb.tif,9,9,hard negative\n"
    (tmp_path / "truth.csv").write_text(f"image,x_px,y_px,label\n{figures}")
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, command in {"python": "", "mitoscope": " -m mitoscope"}.items():
        (commands / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{command} "$@"\n')
        (commands / name).chmod(0o755)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [page for page in PAGES if any(block.is_run for block in read_blocks(page))],
                         ids=lambda page: page.name)  # fmt: skip
def test_the_blocks_of_a_page_run_one_after_another(page: Path, folder: Path) -> None:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    for block in read_blocks(page):
        if block.is_run:
            shell = ["bash", "-euo", "pipefail", "-c"] if block.language == "sh" else [sys.executable, "-c"]
            done = subprocess.run(
                [*shell, block.text], cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, block.text + done.stdout + done.stderr


def test_the_example_in_the_package_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    failed, tried = doctest.testmod(mitoscope)
    assert failed == 0
    assert tried >= 5


def test_the_manifest_in_the_guide_is_read(tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if block.language == "json"]
    (tmp_path / "manifest.json").write_text(re.sub(r',\s*"checksum": "…"', "", block.text), encoding="utf-8")
    for member in range(2):
        (tmp_path / f"fold{member}.safetensors").touch()
    bundle = read_bundle(tmp_path)
    assert [member.fold for member in bundle.members] == [0, 1]
    shown = set(re.findall(r'^  "(\w+)"', block.text, re.MULTILINE))
    assert shown == {field.name for field in fields(Bundle)} - {"folder"} | {"format", "checksum"}
