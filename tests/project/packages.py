"""The packages that a distribution needs, for a Python that is here: this one's are installed already, another one's come
from the package index, once, into a folder that later runs find again.
"""

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
CACHE = Path.home() / ".cache/muster"
UNREACHABLE = re.compile(
    r"NewConnectionError|ConnectTimeout|Max retries|No matching distribution|ReadTimeout|ProxyError"
)


def link(declared: Sequence[str], extras: set[str], version: str, into: Path) -> None:
    """Link what is declared, with all that it needs in turn, into a folder of packages."""
    here = "{}.{}".format(*sys.version_info)
    places = sys.path if version == here else [str(_fetched(version))]
    for top, place in {one for found in _closure(declared, extras, version, places) for one in _tops(found)}:
        if not (into / top).exists():
            (into / top).symlink_to(place)


def pip(*words: str) -> None:
    """Run this Python's pip. The test is skipped where a package index is needed and none can be reached."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    if done.returncode and UNREACHABLE.search(done.stderr):
        pytest.skip(f"no package index: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, f"pip {words}: {done.stderr}"


def version_of(python: str) -> str:
    """Its minor version, as `3.12`."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def declared_here() -> list[str]:
    """What both distributions declare, without what only developers and `--kafka local` need."""
    client = tomllib.loads((ROOT / "muster/pyproject.toml").read_text())["project"]
    server = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = [text for texts in client["optional-dependencies"].values() for text in texts]
    declared = [*client["dependencies"], *optional, *server["dependencies"]]
    return [text for text in declared if Requirement(text).name != "muster-client"]


def _fetched(version: str) -> Path:
    """The folder of all packages for another Python; whoever asks first fetches them, others wait."""
    declared = declared_here()
    folder = CACHE / f"packages-{version}-{hashlib.sha256(repr(declared).encode()).hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as fetching:
        fcntl.flock(fetching, fcntl.LOCK_EX)
        if not folder.exists():
            aside = CACHE / f"{folder.name}.aside"
            shutil.rmtree(aside, ignore_errors=True)
            wanted = ("--python-version", version, "--only-binary", ":all:", "--target", str(aside))
            pip("install", "--quiet", "--no-compile", *wanted, *declared)
            aside.rename(folder)
    return folder


def _closure(declared: Sequence[str], extras: set[str], version: str, places: list[str]) -> list[Distribution]:
    found: dict[str, Distribution] = {}
    wanted = list(_applicable(declared, extras, version))
    while wanted:
        need = wanted.pop()
        if need.name != "muster-client" and need.name not in found:
            found[need.name] = next(iter(Distribution.discover(name=need.name, path=places)))
            wanted += _applicable(found[need.name].requires or (), need.extras, version)
    return list(found.values())


def _applicable(requires: Sequence[str], extras: set[str], version: str) -> Iterator[Requirement]:
    """What applies with these extras on that Python."""
    python = {"python_version": version, "python_full_version": f"{version}.0"}
    for need in map(Requirement, requires):
        if need.marker is None or any(need.marker.evaluate({**python, "extra": extra}) for extra in {*extras, ""}):
            yield need


def _tops(found: Distribution) -> Iterator[tuple[str, Path]]:
    """The topmost files and folders of a distribution, and where they stand."""
    for file in found.files or ():
        top = file.parts[0]
        if top not in ("..", "__pycache__") and not top.endswith(".pth"):
            yield top, Path(str(found.locate_file(top)))
