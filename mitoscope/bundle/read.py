"""Read and verify a bundle's manifest and bytes.

Everything that belongs to the weights (architecture, input, threshold, hashes) is written once, in the manifest. A
broken bundle is an error, never a reason to look for another one.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mitoscope.bundle.checks import fault
from mitoscope.bundle.formats import FORMATS, from_json
from mitoscope.bundle.manifest import Base, Bundle, Member
from mitoscope.errors import WeightsError
from mitoscope.files import read_file, read_json

MANIFEST = "manifest.json"
CHECKSUM = "checksum"  # of the manifest itself; optional
MANIFEST_BYTES = 1 << 20
MEMBER_BYTES = 32 << 30  # the largest foundation model in fp32, DINOv3-7B, has 27 GB


def read_bundle(folder: Path) -> Bundle:
    """Read and check a manifest. The members' bytes are checked when they are read, by `read_content`.

    Raises:
        WeightsError: The manifest is missing, malformed, of another format, or lists other files than the folder holds.
    """
    try:
        manifest = read_json(folder / MANIFEST, MANIFEST_BYTES)
    except (OSError, ValueError) as error:
        raise fault(f"{folder / MANIFEST} cannot be read", got=error, expected="UTF-8 JSON") from error
    if not isinstance(manifest, dict) or manifest.get("format") not in FORMATS:
        got = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise fault(f"{folder / MANIFEST} has an unknown format", got=got, expected="format 1 or 2")
    if CHECKSUM in manifest and manifest[CHECKSUM] != (found := hash_manifest(manifest)):
        raise WeightsError(
            f"{folder / MANIFEST} was altered",
            got=f"{CHECKSUM} {found}",
            expected=str(manifest[CHECKSUM]),
            remedy=f"restore it, or delete its {CHECKSUM} if you changed the rest on purpose",
        )
    try:
        bundle = from_json(manifest, folder)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:  # the last: a 400-digit integer
        expected = f"the fields of format {manifest['format']}"
        raise fault(f"{folder / MANIFEST} is malformed", got=repr(error), expected=expected) from error
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    if files != sorted(bundle.files):
        raise fault(f"{folder} holds other members", got=files, expected=str(sorted(bundle.files)))
    return bundle


def hash_manifest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's content, independent of layout and of its own checksum."""
    content = {key: value for key, value in manifest.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_content(bundle: Bundle, member: Member) -> bytes:
    """Read one member's file and check its hash; the bytes that were checked are the bytes that are used.

    Raises:
        WeightsError: The file cannot be read, or its SHA-256 is not the manifest's.
    """
    return _read(bundle.folder / member.file, member.sha256)


def read_base(bundle: Bundle, base: Path | None = None) -> bytes | None:
    """Read and check the base that a bundle's adapters share.

    Args:
        bundle: The manifest.
        base: The base's file or a folder that holds it; needed if the bundle does not hold it.

    Returns:
        The file's bytes; None if the members are full.

    Raises:
        WeightsError: The file is missing, or its SHA-256 is not the manifest's; or a base is given that the bundle
            does not need.
    """
    if base is not None and (bundle.base is None or bundle.base.file is not None):
        raise WeightsError(
            f"the bundle {bundle.name!r} takes no base",
            got=f"--base {base}",
            expected="no --base: its members are whole networks, or it holds their base",
            remedy="leave --base out",
        )
    if bundle.base is None:
        return None
    if bundle.base.file is not None:
        return _read(bundle.folder / bundle.base.file, bundle.base.sha256)
    return _read_given_base(bundle.base, bundle.architecture, base)


def _read_given_base(wanted: Base, architecture: str, given: Path | None) -> bytes:
    """Read the user's own copy of a base that the bundle does not hold."""
    for path in sorted(given.glob("*.safetensors")) if given and given.is_dir() else [given] if given else []:
        try:
            content, digest = _read_and_hash(path)
        except OSError as error:
            raise WeightsError(
                f"the base {path} cannot be read", got=error, expected="a readable file", remedy="correct --base"
            ) from error
        if digest == wanted.sha256:
            return content
    raise WeightsError(
        f"the bundle lacks its base {wanted.name or 'network'} (licence {wanted.licence})",
        got=f"no file with its hash in {str(given)!r}" if given else "no --base",
        expected=f"a .safetensors file with sha256 {wanted.sha256}",
        remedy="name the file that its members were trained on, or its folder, with --base; published weights are "
        f"written by mitoscope train base {architecture} --out BASE.safetensors",
    )


def _read(path: Path, sha256: str) -> bytes:
    """Read a file and check its hash."""
    try:
        content, digest = _read_and_hash(path)
    except OSError as error:
        raise fault(f"{path} cannot be read", got=error, expected="a readable file") from error
    if digest != sha256:
        raise fault(f"{path} was altered or swapped", got=f"sha256 {digest}", expected=f"sha256 {sha256}")
    return content


def _read_and_hash(path: Path) -> tuple[bytes, str]:
    """A file's bytes, and their SHA-256."""
    content = read_file(path, MEMBER_BYTES)
    return content, hashlib.sha256(content).hexdigest()


def read_ahead(bundle: Bundle) -> Iterator[bytes]:
    """Start reading all members in a thread.

    Returns:
        The results of `read_content` in the members' order; each is freed when it has been taken.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="weights")
    reading: deque[Future[bytes]] = deque(pool.submit(read_content, bundle, member) for member in bundle.members)
    pool.shutdown(wait=False)
    return (reading.popleft().result() for _ in bundle.members)
