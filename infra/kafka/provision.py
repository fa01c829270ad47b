"""Creates the topics that are missing, and checks those that exist before anything relies on them.

What would lose or damage history is refused; what only costs something is a warning.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from infra.kafka.topic import PARTITIONS, PREFIX, TOPICS, Topic, topic_name
from muster.wire.error import NotReady

REPLICATION: Final = 3
"""Copies of each record, where the cluster has that many brokers."""


@dataclass(frozen=True, slots=True)
class TopicFinding:
    """A setting that is not as the table wants it. `vital`: muster does not run on it. `remedy`: how to mend it."""

    topic: str
    setting: str
    found: str
    wanted: str
    remedy: str
    vital: bool

    def __str__(self) -> str:
        return f"{self.topic}: {self.setting} is {self.found}, not {self.wanted}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class _Found:
    """A topic as the brokers describe it. `replication` is that of the partition with the fewest copies."""

    partitions: int
    replication: int
    led: bool
    settings: Mapping[str, str]


async def provision(
    bootstrap: str,
    *,
    partitions: int = PARTITIONS,
    prefix: str = PREFIX,
    replication: int | None = None,
    create: bool = True,
    timeout_seconds: float = 30,
    client_options: Mapping[str, object] | None = None,
) -> list[TopicFinding]:
    """Create what is missing, check everything, return the warnings.

    `replication` is by default 3, or the number of brokers if there are fewer. Without `create`, a missing topic is
    refused. Raises NotReady: with topic, setting, found and wanted of the first vital finding, its detail
    names all of them; or when Kafka does not answer within the timeout, which spans everything.
    """
    admin = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap,
        request_timeout_ms=int(timeout_seconds * 1000),
        **(client_options or {}),
    )
    try:
        async with asyncio.timeout(timeout_seconds):
            await admin.start()
            brokers = len((await admin.describe_cluster())["brokers"])
            copies = replication or min(REPLICATION, brokers)
            found = await _found(admin, prefix)
            missing = [topic for topic in TOPICS if topic.name not in found]
            if create and missing:
                await _create(admin, missing, partitions, copies, prefix)
                found = await _led(admin, prefix)
    except (KafkaError, OSError, TimeoutError) as error:
        detail = f"Kafka at {bootstrap} could not be provisioned: {error or 'it does not answer in time'}"
        raise NotReady(detail) from error
    finally:
        await admin.close()
    return _judged(found, partitions, copies, prefix)


async def findings(
    bootstrap: str, partitions: int, prefix: str = PREFIX, timeout_seconds: float = 30
) -> list[TopicFinding]:
    """What is not as it should be with the topics now, vital or not; nothing is created. Raises NotReady when Kafka does not
    answer.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(timeout_seconds * 1000))
    try:
        async with asyncio.timeout(timeout_seconds):
            await admin.start()
            brokers = len((await admin.describe_cluster())["brokers"])
            found = await _found(admin, prefix)
    except (KafkaError, OSError, TimeoutError) as error:
        raise NotReady(f"the topics on Kafka at {bootstrap} could not be examined: {error!r}") from error
    finally:
        await admin.close()
    return _found_wrong(found, partitions, min(REPLICATION, brokers), prefix)


def check(topic: Topic, found: _Found, partitions: int, replication: int, prefix: str) -> list[TopicFinding]:
    """What is not as it should be with the topic. Pure."""
    name = topic_name(topic.name, prefix)
    findings = []
    if found.partitions != partitions:
        remedy = f"run with {found.partitions} partitions" if found.partitions else "create it, or let muster create it"
        findings.append(TopicFinding(name, "partitions", str(found.partitions), str(partitions), remedy, vital=True))
    if not found.partitions:
        return findings
    if found.replication < replication:
        remedy = "move it to more brokers (kafka-reassign-partitions.sh)"
        findings.append(
            TopicFinding(name, "replication.factor", str(found.replication), str(replication), remedy, vital=False)
        )
    for setting, wanted in _wanted(topic, found.replication).items():
        actual = found.settings.get(setting, "absent")
        if _differs(setting, actual, wanted):
            remedy = f"kafka-configs.sh --alter --topic {name} --add-config {setting}={wanted}"
            findings.append(TopicFinding(name, setting, actual, wanted, remedy, vital=setting in topic.vital))
    return findings


def _judged(found: Mapping[str, _Found], partitions: int, replication: int, prefix: str) -> list[TopicFinding]:
    wrong = _found_wrong(found, partitions, replication, prefix)
    vital = [finding for finding in wrong if finding.vital]
    if vital:
        first = vital[0]
        raise NotReady(
            "muster does not run on these topics. " + ". ".join(map(str, vital)),
            topic=first.topic,
            setting=first.setting,
            found=first.found,
            wanted=first.wanted,
        )
    return wrong


def _found_wrong(found: Mapping[str, _Found], partitions: int, replication: int, prefix: str) -> list[TopicFinding]:
    absent = _Found(0, 0, led=False, settings={})
    return [
        finding
        for topic in TOPICS
        for finding in check(topic, found.get(topic.name, absent), partitions, replication, prefix)
    ]


def _wanted(topic: Topic, replication: int) -> Mapping[str, str]:
    """The topic's settings. An acknowledged record must survive the loss of one broker, where there is another one."""
    return {**topic.settings, "min.insync.replicas": str(max(1, replication - 1))}


def _differs(setting: str, actual: str, wanted: str) -> bool:
    """Whether the setting is worse than wanted; more room, more copies and longer keeping are welcome."""
    if actual == wanted:
        return False
    if setting == "segment.ms":
        return False  # a matter of disk space, which the operator may see differently
    if not (actual.lstrip("-").isdecimal() and wanted.lstrip("-").isdecimal()):
        return True
    if setting.startswith("retention."):
        return actual != "-1" and (wanted == "-1" or int(actual) < int(wanted))
    return int(actual) < int(wanted)


async def _create(
    admin: AIOKafkaAdminClient, topics: Sequence[Topic], partitions: int, replication: int, prefix: str
) -> None:
    wanted = [
        NewTopic(
            name=topic_name(topic.name, prefix),
            num_partitions=partitions,
            replication_factor=replication,
            topic_configs=dict(_wanted(topic, replication)),
        )
        for topic in topics
    ]
    for name, code, message, *_ in (await admin.create_topics(wanted)).topic_errors:
        # Another controller may be creating it at this moment; the check comes after.
        if code not in (0, TopicAlreadyExistsError.errno):
            raise for_code(code)(f"{name} could not be created: {message}")


async def _led(admin: AIOKafkaAdminClient, prefix: str) -> Mapping[str, _Found]:
    """The topics once each partition of them has a leader; the caller bounds the wait."""
    while True:
        found = await _found(admin, prefix)
        if len(found) == len(TOPICS) and all(topic.led for topic in found.values()):
            return found
        await asyncio.sleep(0.05)


async def _found(admin: AIOKafkaAdminClient, prefix: str) -> Mapping[str, _Found]:
    """Our topics that exist, by their name in the table."""
    names = {topic_name(topic.name, prefix): topic.name for topic in TOPICS}
    # All topics are listed, because to ask for one by name creates it where brokers do so automatically.
    described = {
        topic["topic"]: topic["partitions"]
        for topic in await admin.describe_topics()
        if topic["topic"] in names and not topic["error_code"]
    }
    settings = await _settings(admin, list(described))
    return {
        names[name]: _Found(
            partitions=len(parts),
            replication=min((len(part["replicas"]) for part in parts), default=0),
            led=all(part["leader"] >= 0 for part in parts),
            settings=settings[name],
        )
        for name, parts in described.items()
    }


async def _settings(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    if not topics:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]
    settings: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(resources):
        for code, message, _, name, entries in response.resources:
            if code:
                raise for_code(code)(f"the settings of {name} could not be read: {message}")
            settings[name] = {entry[0]: str(entry[1]) for entry in entries}
    return settings
