"""Both distributions built and installed into environments of their own, as their users have them.

    Wheels(client, server)        built offline, without isolation, from this repository
    environment(...)              a new, empty environment with some of them, on any Python that is here

An environment links the packages that a distribution declares, and no others: what is not declared is missing there, as
it is for a user.
"""

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

from tests.project.packages import link, pip, version_of

ROOT = Path(__file__).parents[2]
OURS = ("domain", "infra", "projections", "sagas", "workers")


@dataclass(frozen=True)
class Wheels:
    """The two files."""

    client: Path
    server: Path


@dataclass(frozen=True)
class Environment:
    """An installed environment. Its programs run in a folder where five packages have the names of ours."""

    folder: Path
    work: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin/python")

    @property
    def muster(self) -> str:
        """The console script."""
        return str(self.folder / "bin/muster")

    def run(self, *words: str, status: int = 0, **variables: str) -> str:
        """Run the words in the foreign folder to their end; what they print. `status` is what they must end with."""
        done = subprocess.run(
            words, cwd=self.work, env=clean(**variables), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        """Start the words in the foreign folder; they go on until they are stopped."""
        log = (self.work / f"{words[-1].replace('/', '_')}.log").open("wb")
        with log:
            return subprocess.Popen(words, cwd=self.work, env=clean(), stdout=log, stderr=log)


def clean(**variables: str) -> dict[str, str]:
    """The environment variables without those that lead Python to this repository."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MUSTER_"))}
    return {**inherited, **variables}


def build(into: Path) -> Wheels:
    """Build both wheels."""
    pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(into), str(ROOT / "muster"), str(ROOT))
    [client], [server] = into.glob("muster_client-*.whl"), into.glob("musterd-*.whl")
    return Wheels(client, server)


def environment(folder: Path, python: str, *wheels: Path, extras: str = "") -> Environment:
    """An environment of that Python with these wheels and what they declare, beside foreign packages of our names."""
    subprocess.run([python, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=100)
    made = Environment(folder / "venv", foreign_packages(folder / "work"))
    pip("--python", made.python, "install", "--quiet", "--no-deps", *map(str, wheels))
    declared = [text for wheel in wheels for text in distribution_of(wheel).requires or ()]
    [packages] = (made.folder / "lib").glob("python3.*/site-packages")
    link(declared, {*extras.split(",")}, version_of(python), packages)
    return made


def distribution_of(wheel: Path) -> Distribution:
    """What a wheel says of itself."""
    [about] = [path for path in zipfile.Path(wheel).iterdir() if path.name.endswith(".dist-info")]
    return PathDistribution(about)


def foreign_packages(folder: Path) -> Path:
    """A service's own packages, which have the names of ours."""
    for name in OURS:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text('OWNER = "the service"\n')
    return folder


def interpreter(version: str) -> str:
    """A Python of that minor version on this machine; the test is skipped where there is none."""
    if version == "{}.{}".format(*sys.version_info):
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places = [
        *pyenv.glob(f"{version}.*/bin/python3"),
        Path(f"/usr/bin/python{version}"),
        Path(f"/usr/local/bin/python{version}"),
    ]
    for place in places:
        if place.exists():
            return str(place)
    pytest.skip(f"no Python {version} on this machine")
