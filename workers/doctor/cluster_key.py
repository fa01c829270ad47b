"""The cluster's key examined: whether the file is one, and whether the controllers that are there have the same."""

import asyncio
from pathlib import Path
from typing import Final

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from infra.cluster_key import read_key
from infra.kafka.topic import CONTROLLERS, topic_name
from muster.wire.error import NotReady
from workers.doctor.admin import open_admin
from workers.doctor.finding import TIMEOUT_SECONDS, Finding, reason
from workers.peers.cluster_key import ClusterKey
from workers.peers.members import Member
from workers.peers.roll_call import RollCall, StrangeSign
from workers.peers.strangers import REMEDY

LISTEN_SECONDS: Final = 1.0
"""Signs of life come every 0.15 s."""

_SUBJECT: Final = "cluster key"


async def examine_key(file: Path, bootstrap: str | None, prefix: str) -> list[Finding]:
    """The findings about the file, and about the controllers on the topics under this prefix, if there is a Kafka."""
    try:
        secret = read_key(file)
    except NotReady as error:
        return [Finding("fault", _SUBJECT, error.detail, "mend the file")]
    findings = [Finding("ok", _SUBJECT, f"{file}: {len(secret)} bytes, for its owner alone")]
    if bootstrap is not None:
        findings.append(await _controllers(ClusterKey(secret), bootstrap, topic_name(CONTROLLERS, prefix)))
    return findings


async def _controllers(key: ClusterKey, bootstrap: str, topic: str) -> Finding:
    subject = "controllers"
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            signs = await _signs(bootstrap, topic)
    except (KafkaError, OSError, TimeoutError) as error:
        return Finding("fault", subject, f"{topic} cannot be read: {reason(error)}", "start Kafka, or mend the address")
    # Heard by nobody: only whether a sign is made with the key is asked here.
    roll = RollCall(key, topic, Member("", ""))
    found = [(sign, roll.hear(sign)) for sign in signs]
    strange = {heard.name or "(nameless)" for _, heard in found if isinstance(heard, StrangeSign)}
    peers = {orjson.loads(sign)["controller"] for sign, heard in found if not isinstance(heard, StrangeSign)}
    if strange:
        names = ", ".join(sorted(strange)[:5])
        return Finding("fault", subject, f"signs of life of {names} are not made with this key", REMEDY)
    return Finding("ok", subject, f"{len(peers)} alive, with this key" if peers else "none is alive")


async def _signs(bootstrap: str, topic: str) -> list[bytes]:
    """What is said on the topic while we listen."""
    async with open_admin(bootstrap) as admin:
        # To listen to it would create it, where the broker allows that.
        if topic not in await admin.list_topics():
            return []
    signs: list[bytes] = []
    here = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer:
        consumer.assign([here])
        # Old signs say nothing about who is alive now.
        await consumer.seek_to_end(here)
        try:
            async with asyncio.timeout(LISTEN_SECONDS):
                while True:
                    signs.append((await consumer.getone()).value or b"")
        except TimeoutError:
            return signs
