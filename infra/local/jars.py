"""The jars of Apache Kafka: named and pinned by hash in `kafka_jars.lock`, fetched from Maven Central by jgo.

The lock has one line per jar, `<sha256>  <path in a Maven repository>`, so `sha256sum -c` can read it too.
Nothing is resolved when a broker starts: exactly the lock's jars are looked up in the usual Maven cache
(`M2_REPO`, else `~/.m2/repository`), and only what is missing there is fetched.

A new Kafka: change RELEASE and the versions beside it, run `python -m infra.local.jars > lock` and compare what
was chosen with what Maven chooses (`mvn dependency:tree` of kafka_2.13) before it becomes the lock.
"""

import hashlib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from infra.folder_lock import hold
from infra.local.failure import LocalServerFailed, LocalServerUnavailable

LOCK: Final = Path(__file__).with_name("kafka_jars.lock")
RELEASE: Final = "4.1.1"
# jgo lets the versions that one dependency manages overrule another's own: left alone it takes an old
# kafka-clients, jackson, snappy and zstd, and a newer commons-logging. So these are named. The last one is our
# addition: without it Kafka's log goes nowhere.
ROOTS: Final = (
    f"org.apache.kafka:kafka_2.13:{RELEASE}",
    f"org.apache.kafka:kafka-clients:{RELEASE}",
    "com.fasterxml.jackson.core:jackson-annotations:2.19.0",
    "com.fasterxml.jackson.core:jackson-core:2.19.0",
    "com.fasterxml.jackson.core:jackson-databind:2.19.0",
    "com.fasterxml.jackson.dataformat:jackson-dataformat-csv:2.19.0",
    "com.fasterxml.jackson.dataformat:jackson-dataformat-yaml:2.19.0",
    "com.fasterxml.jackson.datatype:jackson-datatype-jdk8:2.19.0",
    "com.github.luben:zstd-jni:1.5.6-10",
    "commons-logging:commons-logging:1.3.2",
    "org.xerial.snappy:snappy-java:1.1.10.7",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",
)
_DOWNLOADS_MAX: Final = 4
_TIMEOUT_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock: `path` is `group/as/folders/artifact/version/artifact-version.jar`."""

    sha256: str
    path: str

    @property
    def coordinate(self) -> str:
        """`group:artifact:version`, as Maven and jgo write it."""
        *group, artifact, version, _ = self.path.split("/")
        return f"{'.'.join(group)}:{artifact}:{version}"


def classpath(lock: Path = LOCK, repository: Path | None = None) -> list[Path]:
    """The lock's jars in the Maven cache `repository`, each checked; any number of processes may ask at once.

    Raises LocalServerUnavailable when jars are missing and cannot be fetched, LocalServerFailed naming the jar
    when one is not what the lock says. Blocks: 0.1 s with a filled cache, else as long as 42 MB take.
    """
    repository = repository or _maven_cache()
    jars = [Jar(*line.split()) for line in lock.read_text().splitlines()]
    if not all((repository / jar.path).exists() for jar in jars):
        with _alone(repository):
            _fetch([jar for jar in jars if not (repository / jar.path).exists()], repository)
    for jar in jars:
        _check(jar, repository)
    return [repository / jar.path for jar in jars]


def _fetch(jars: Sequence[Jar], repository: Path) -> None:
    """Fetch into a folder aside, check, and only then move: an interrupted download leaves no half jar."""
    try:
        from jgo.maven import MavenContext
    except ImportError as error:
        raise LocalServerUnavailable("a local Kafka needs the package jgo: pip install 'musterd[local]'") from error

    with TemporaryDirectory(dir=repository, prefix=".muster-") as aside:
        maven = MavenContext(repo_cache=Path(aside), timeout=_TIMEOUT_SECONDS)

        def fetch(jar: Jar) -> None:
            maven.create_dependency(jar.coordinate).artifact.resolve()
            _check(jar, Path(aside))
            (repository / jar.path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(aside, jar.path), repository / jar.path)

        try:
            with ThreadPoolExecutor(_DOWNLOADS_MAX) as pool:
                list(pool.map(fetch, jars))
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors, jgo's own RuntimeErrors
            raise LocalServerUnavailable(f"Kafka's jars cannot be fetched from Maven Central: {error}") from error


def _check(jar: Jar, repository: Path) -> None:
    with (repository / jar.path).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != jar.sha256:
        raise LocalServerFailed(
            f"{repository / jar.path} is not the jar that was pinned: its sha256 is {found}, the lock says "
            f"{jar.sha256}. If the file is damaged, delete it and start again."
        )


def _maven_cache() -> Path:
    return Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository")


@contextmanager
def _alone(repository: Path) -> Iterator[None]:
    """Let one process at a time fetch into `repository`; the others then find the jars there."""
    repository.mkdir(parents=True, exist_ok=True)
    lock = hold(repository / ".muster.lock", wait_seconds=math.inf)
    try:
        yield
    finally:
        os.close(lock)


def _resolve() -> list[Jar]:
    """What ROOTS need, by jgo's transitive resolution; used to write the lock, never to start a broker."""
    from jgo.maven import MavenContext

    maven = MavenContext(repo_cache=_maven_cache(), timeout=_TIMEOUT_SECONDS)
    roots, others = maven.resolver.resolve([maven.create_dependency(root) for root in ROOTS])
    paths = sorted({dependency.artifact.resolve() for dependency in [*roots, *others]})
    return [
        Jar(hashlib.sha256(path.read_bytes()).hexdigest(), path.relative_to(_maven_cache()).as_posix())
        for path in paths
    ]


if __name__ == "__main__":
    sys.stdout.writelines(f"{jar.sha256}  {jar.path}\n" for jar in _resolve())
