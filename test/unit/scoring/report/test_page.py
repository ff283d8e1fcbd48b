import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from mitoscope.scoring.report.build import report
from mitoscope.scoring.report.detections import SCRIPTS as POINT_SCRIPTS
from mitoscope.scoring.report.page import SCRIPTS, TEMPLATES, encode_data
from mitoscope.slide.report.page import SCRIPTS as SLIDE_SCRIPTS

HOSTILE = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)> \u2028 & ' \" é"


def test_no_text_can_leave_the_data() -> None:
    text = encode_data({"image_id": [HOSTILE]})
    assert "<" not in text
    assert json.loads(text) == {"image_id": [HOSTILE]}


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_data({"p_atypical": [float("nan")]})


def test_every_script_and_style_is_in_use_and_loads_nothing() -> None:
    pages = {
        f"{name}.html.j2"
        for name in ("base", "parts", "crops", "detail", "report", "detections", "review", "slide", "zoom")
    }
    named = {*SCRIPTS, *POINT_SCRIPTS, *SLIDE_SCRIPTS, "review.js", *pages, "histogram.svg.j2", "report.css"}
    assert {path.name for path in TEMPLATES.iterdir()} == named
    for path in TEMPLATES.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?://|@import|\bfetch\(|innerHTML|outerHTML|insertAdjacentHTML|\|\s*safe", text)


def test_the_policy_names_the_one_script(scored_crops: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    report(scored_crops / "predictions.csv", [scored_crops / "crops"], out, weights=tiny_bundle, saliency=False)
    page = out.read_text(encoding="utf-8")
    (script,) = re.findall(r'<script type="module">(.*?)</script>', page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
