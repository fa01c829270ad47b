"""Topics are created as the table says, and muster does not run on those that would lose history."""

import asyncio
import secrets
from collections.abc import Mapping

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.kafka.provision import TopicFinding, check, provision
from infra.kafka.provision import _Found as Found
from infra.kafka.topic import EVENTS, TOPICS, Topic, topic_name
from muster.wire.error import NotReady
from tests.servers import SharedKafka

[EVENTS_TOPIC] = [topic for topic in TOPICS if topic.name == EVENTS]
GOOD = {topic.name: {**topic.settings, "min.insync.replicas": "2"} for topic in TOPICS}


def found(settings: Mapping[str, str], *, topic: Topic = EVENTS_TOPIC, partitions: int = 8, copies: int = 3) -> Found:
    return Found(partitions, copies, led=True, settings={**GOOD[topic.name], **settings})


def findings(topic_found: Found, topic: Topic = EVENTS_TOPIC) -> list[TopicFinding]:
    return check(topic, topic_found, partitions=8, replication=3, prefix="muster")


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_topic_as_the_table_says_passes(topic: Topic) -> None:
    assert findings(found({}, topic=topic), topic) == []


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("retention.ms", "604800000"),
        ("retention.bytes", "1073741824"),
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
        ("max.message.bytes", "1048588"),
        ("unclean.leader.election.enable", "true"),
    ],
)
def test_what_would_lose_history_is_vital(setting: str, value: str) -> None:
    [finding] = findings(found({setting: value}))

    assert (finding.setting, finding.found, finding.vital) == (setting, value, True)
    assert f"--topic muster.events --add-config {setting}=" in finding.remedy


@pytest.mark.parametrize(("setting", "value"), [("min.insync.replicas", "1"), ("message.timestamp.type", "CreateTime")])
def test_what_only_costs_something_is_a_warning(setting: str, value: str) -> None:
    [finding] = findings(found({setting: value}))

    assert (finding.setting, finding.vital) == (setting, False)


@pytest.mark.parametrize(("setting", "value"), [("max.message.bytes", "16777216"), ("min.insync.replicas", "3")])
def test_more_than_wanted_is_welcome(setting: str, value: str) -> None:
    assert findings(found({setting: value})) == []


def test_another_number_of_partitions_is_vital() -> None:
    [finding] = findings(found({}, partitions=6))

    assert (finding.setting, finding.found, finding.wanted, finding.vital) == ("partitions", "6", "8", True)


def test_too_few_copies_are_a_warning() -> None:
    assert [(finding.setting, finding.vital) for finding in findings(found({}, copies=2))] == [
        ("replication.factor", False)
    ]


@pytest.mark.kafka
async def test_missing_topics_are_created_and_pass_the_check_afterwards(kafka: SharedKafka) -> None:
    prefix = f"provision-{secrets.token_hex(4)}"

    assert await provision(kafka.bootstrap, prefix=prefix, partitions=2) == []
    assert await provision(kafka.bootstrap, prefix=prefix, partitions=2, create=False) == []


@pytest.mark.kafka
async def test_controllers_that_start_together_may_all_provision(kafka: SharedKafka) -> None:
    prefix = f"provision-{secrets.token_hex(4)}"

    outcomes = await asyncio.gather(*(provision(kafka.bootstrap, prefix=prefix, partitions=2) for _ in range(3)))

    assert outcomes == [[], [], []]


@pytest.mark.kafka
async def test_without_permission_to_create_missing_topics_are_named(kafka: SharedKafka) -> None:
    with pytest.raises(NotReady, match=r"nowhere\.events: partitions is 0, not 8; create it"):
        await provision(kafka.bootstrap, prefix="nowhere", create=False)


@pytest.mark.kafka
async def test_an_event_topic_with_a_retention_is_refused_by_name(kafka: SharedKafka) -> None:
    prefix = f"provision-{secrets.token_hex(4)}"
    events = topic_name(EVENTS, prefix)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(events, 2, 1, topic_configs={"retention.ms": "3600000"})])
    await admin.close()

    with pytest.raises(NotReady) as refused:
        await provision(kafka.bootstrap, prefix=prefix, partitions=2)

    assert f"{events}: retention.ms is 3600000, not -1" in refused.value.detail
    assert refused.value.context["topic"] == events


async def test_without_a_broker_it_says_so() -> None:
    with pytest.raises(NotReady, match=r"Kafka at 127\.0\.0\.1:1 could not be provisioned"):
        await provision("127.0.0.1:1", timeout_seconds=2)
