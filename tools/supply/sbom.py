"""The image's software bill of materials, as CycloneDX 1.6.

export.sh runs this file alone in the image, on its standard input: the list is of what is in the image, not of what
was meant to, and nobody needs more than Docker for it. Hence the standard library only. The same image gives the same
bytes: there is neither a time nor a random serial number in it.
"""

import hashlib
import json
import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageMetadata, distributions
from pathlib import Path
from typing import Any

DPKG = Path("/var/lib/dpkg/status")
LICENCE_LENGTH = 60  # characters; what is longer in the License field is the licence's text, not its name

Component = dict[str, Any]


def make_sbom(image: str, version: str, revision: str, weights: Path, installed: Path, dpkg: Path) -> dict[str, Any]:
    """Describe the image that this runs in.

    Args:
        image: The image's name.
        version: Its version.
        revision: The commit that it was built from.
        weights: The bundle's folder.
        installed: The lines ``name==version --hash=sha256:…`` of the wheels that were installed.
        dpkg: Debian's list of packages; without it none are listed.

    Raises:
        SystemExit: A Python distribution is not in that list, or of another version.
    """
    wheels = read_wheels(installed)
    found = sorted((describe_distribution(each, wheels) for each in distributions()), key=lambda one: str(one["name"]))
    interpreter = {
        "type": "platform",
        "bom-ref": f"pkg:generic/python@{platform.python_version()}",
        "name": "python",
        "version": platform.python_version(),
        "purl": f"pkg:generic/python@{platform.python_version()}",
    }
    components = [describe_bundle(weights), interpreter, *found, *read_debian(dpkg)]
    subject = {"type": "container", "bom-ref": "image", "name": image, "version": version}
    properties = [{"name": "revision", "value": revision}]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": subject | {"properties": properties}},
        "components": components,
    }


def read_wheels(installed: Path) -> dict[str, tuple[str, str]]:
    """Normalised name → (version, SHA-256 of the wheel) of each line ``name==version --hash=sha256:…``."""
    lines = re.findall(r"^(\S+)==(\S+) --hash=sha256:(\w+)$", installed.read_text(encoding="utf-8"), re.MULTILINE)
    return {normalise(name): (version, digest) for name, version, digest in lines}


def normalise(name: str) -> str:
    """A distribution's name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def describe_distribution(distribution: Distribution, wheels: dict[str, tuple[str, str]]) -> Component:
    """One Python distribution, with the hash of the wheel that it was installed from."""
    name, version = normalise(distribution.metadata["Name"]), distribution.version
    locked, digest = wheels.get(name, ("", ""))
    if locked.partition("+")[0] != version.partition("+")[0]:
        raise SystemExit(
            f"error: the image holds what is not locked: got {name} {version}, expected {locked or 'no such package'}; "
            "build the image again with ./build.sh"
        )
    purl = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "licenses": [{"license": {"name": read_licence(distribution.metadata)}}],
        "purl": purl,
    }


def read_licence(metadata: PackageMetadata) -> str:
    """The licence as a distribution names it: its expression, its short License field, or its classifiers."""
    fields: dict[str, Any] = metadata.json
    text = str(fields.get("license", "")).strip()
    if fields.get("license_expression"):
        return str(fields["license_expression"])
    if text and "\n" not in text and len(text) <= LICENCE_LENGTH:
        return text
    classifiers = [each.split(" :: ")[-1] for each in fields.get("classifier", []) if each.startswith("License ::")]
    return " AND ".join(classifiers) or "unknown"


def describe_bundle(weights: Path) -> Component:
    """The weights: each file with its hash."""
    files = sorted(path for path in weights.rglob("*") if path.is_file())
    manifest = json.loads((weights / "manifest.json").read_text(encoding="utf-8"))
    return {
        "type": "machine-learning-model",
        "bom-ref": "weights",
        "name": manifest["name"],
        "hashes": [{"alg": "SHA-256", "content": hash_file(weights / "manifest.json")}],
        "components": [
            {
                "type": "file",
                "name": path.relative_to(weights).as_posix(),
                "hashes": [{"alg": "SHA-256", "content": hash_file(path)}],
            }
            for path in files
        ],
    }


def hash_file(path: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_debian(dpkg: Path) -> Iterator[Component]:
    """Debian's packages. Their licences stand in the image as texts without a name, under /usr/share/doc."""
    paragraphs = dpkg.read_text(encoding="utf-8").split("\n\n") if dpkg.exists() else []
    for paragraph in paragraphs:
        fields = dict(re.findall(r"^(Package|Status|Version|Architecture): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status") == "install ok installed":
            purl = "pkg:deb/debian/{Package}@{Version}?arch={Architecture}".format_map(fields).replace("+", "%2B")
            yield {
                "type": "library",
                "bom-ref": purl,
                "name": fields["Package"],
                "version": fields["Version"],
                "purl": purl,
            }


if __name__ == "__main__":
    image, version, revision, weights, installed = sys.argv[1:]
    json.dump(make_sbom(image, version, revision, Path(weights), Path(installed), DPKG), sys.stdout, indent=1)
    print()
