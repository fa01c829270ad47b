"""A Kafka cluster examined: versions, brokers, settings, and muster's topics if there are any; then it is tried out."""

import asyncio
from collections.abc import Mapping
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from infra.kafka.provision import provision
from infra.kafka.topic import TOPICS, topic_name
from muster.wire.error import NotReady
from workers.doctor.admin import open_admin
from workers.doctor.finding import TIMEOUT_SECONDS, Finding, reason
from workers.doctor.trial import try_out

KAFKA_VERSION_MIN: Final = 3
DAY_MS: Final = 86_400_000


async def examine_kafka(bootstrap: str, partitions: int, prefix: str) -> list[Finding]:
    """The findings about the brokers at this address, and about the topics under this prefix."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS), open_admin(bootstrap) as admin:
            brokers = sorted(node["node_id"] for node in (await admin.describe_cluster())["brokers"])
            settings = await _broker_settings(admin, brokers[0])
    except (KafkaError, OSError, TimeoutError) as error:
        return [
            Finding("fault", "kafka", f"{bootstrap} does not answer: {reason(error)}", "start it, or mend the address")
        ]
    findings = [_protocol(settings), _brokers(brokers, settings), *_broker_findings(settings, len(brokers))]
    findings += await _topics(bootstrap, partitions, prefix)
    return findings + await try_out(bootstrap)


def _protocol(settings: Mapping[str, str]) -> Finding:
    version = settings.get("inter.broker.protocol.version")
    if version is None:  # Version 4 has no such setting any more.
        return Finding("ok", "kafka version", "4 or newer")
    if int(version.partition(".")[0]) >= KAFKA_VERSION_MIN:
        return Finding("ok", "kafka version", version)
    return Finding("warning", "kafka version", version, f"Apache Kafka {KAFKA_VERSION_MIN} or newer")


def _brokers(brokers: list[int], settings: Mapping[str, str]) -> Finding:
    if len(brokers) >= 3:
        return Finding("ok", "kafka brokers", str(len(brokers)))
    if settings.get("log.flush.interval.messages") == "1":
        return Finding("ok", "kafka brokers", f"{len(brokers)}, each record flushed to disk (slow)")
    return Finding(
        "warning",
        "kafka brokers",
        f"{len(brokers)}: an acknowledged record survives a killed process, but not a power failure",
        "run three brokers with min.insync.replicas=2; or log.flush.interval.messages=1, which is slow",
    )


def _broker_findings(settings: Mapping[str, str], brokers: int) -> list[Finding]:
    findings = []
    for name, least in (("transactional.id.expiration.ms", DAY_MS), ("producer.id.expiration.ms", DAY_MS // 2)):
        value = settings.get(name)
        if value is not None and int(value) < least:
            found = f"{value}: the broker forgets its fence soon; the log's own rule still holds"
            findings.append(Finding("warning", f"kafka {name}", found, f"at least {least}"))
    state = settings.get("transaction.state.log.replication.factor")
    if brokers >= 3 and state is not None and int(state) < 3:
        found = f"{state}: the fence is lost with one broker"
        findings.append(Finding("warning", "kafka transaction.state.log.replication.factor", found, "3"))
    if settings.get("auto.create.topics.enable") == "true":
        found = "true: a client that misspells a topic creates it"
        findings.append(Finding("warning", "kafka auto.create.topics.enable", found, "false"))
    return findings


async def _topics(bootstrap: str, partitions: int, prefix: str) -> list[Finding]:
    """Whether muster's topics are as it wants them. None at all is fine: muster creates them when it starts."""
    async with open_admin(bootstrap) as admin:
        present = set(await admin.list_topics())
    names = {topic_name(topic.name, prefix) for topic in TOPICS}
    if not names & present:
        return [Finding("ok", f"topics {prefix}.*", "not there yet; muster creates them when it starts")]
    try:
        # Nothing is created: the doctor changes nothing of muster's own, and tells what is missing.
        warnings = await provision(bootstrap, partitions=partitions, prefix=prefix, create=False)
    except NotReady as error:
        return [Finding("fault", f"topics {prefix}.*", error.detail, "as it says")]
    if not warnings:
        return [Finding("ok", f"topics {prefix}.*", f"as they should be, {partitions} partitions each")]
    return [
        Finding("warning", f"{one.topic} {one.setting}", f"{one.found}, not {one.wanted}", one.remedy)
        for one in warnings
    ]


async def _broker_settings(admin: AIOKafkaAdminClient, broker: int) -> dict[str, str]:
    resource = ConfigResource(ConfigResourceType.BROKER, str(broker))
    return {
        entry[0]: str(entry[1])
        for response in await admin.describe_configs([resource])
        for *_, entries in response.resources
        for entry in entries
        if entry[1] is not None
    }
