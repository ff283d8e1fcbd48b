"""One HTML file that needs no other: style, script, data and pictures are put into it, and it may load nothing."""

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

TEMPLATES = Path(__file__).resolve().parent / "templates"
WEBP = {"quality": 88, "method": 2}  # 5,000 crops of AMi-Br or AtNorM-Br are 32 MB of base64
# In the order they need each other.
SCRIPTS = ("elements.js", "rows.js", "filters.js", "looks.js", "pages.js", "cards.js", "detail.js", "main.js")


def render(
    data: Mapping[str, Any],
    words: Mapping[str, Any],
    template: str = "report.html.j2",
    scripts: Sequence[str] = SCRIPTS,
    library: str = "",
) -> str:
    """Make the page.

    Args:
        data: For the page's script; numbers, texts, lists and dicts.
        words: For the template. Text in it is always escaped.
        template: Of the page.
        scripts: Its scripts, in the order they need each other.
        library: A script that comes before them, in an element of its own.

    Returns:
        HTML; the same input gives the same bytes.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = "\n".join(_read(name) for name in scripts)
    return environment.get_template(template).render(
        **words,
        style=Markup(_read("report.css")),  # our own files, and data that `encode_data` made harmless
        script=Markup(script),
        script_hash=_source_hash(script),
        library=Markup(library),
        library_hash=_source_hash(library),
        data=Markup(encode_data(data)),
    )


def encode_image(crop: np.ndarray) -> str:
    """Base64 of a WebP: uint8 (128, 128, 3) → text; the same crop gives the same text."""
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, "WEBP", **WEBP)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def encode_data(data: Mapping[str, Any]) -> str:
    """JSON that may stand in a script element: without ``<``, no text in it can end the element or open a comment."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _source_hash(script: str) -> str:
    """What the content security policy knows the one allowed script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _read(name: str) -> str:
    """A file that goes into the page."""
    return (TEMPLATES / name).read_text(encoding="utf-8")
