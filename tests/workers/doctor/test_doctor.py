"""The doctor, on a real broker and a real database."""

import json
import secrets
from pathlib import Path

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from click.testing import CliRunner

from infra.kafka.provision import provision
from infra.local.kafka import LocalKafka
from muster.cli import main
from tests.servers import SharedKafka
from workers.doctor.examine import examine
from workers.doctor.finding import Finding


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


@pytest.mark.kafka
async def test_a_sound_broker_fences_and_its_single_copy_is_warned_of(kafka: SharedKafka):
    found = by_subject(await examine(kafka.bootstrap, None, prefix="doctor-none"))
    assert (found["kafka fence"].verdict, found["kafka brokers"].verdict) == ("ok", "warning")
    assert "power failure" in found["kafka brokers"].found
    assert found["kafka round trip"].found.startswith("append ")
    assert "muster creates them" in found["topics doctor-none.*"].found
    assert not any(finding.verdict == "fault" for finding in found.values())
    assert not [name for name in await _topics(kafka.bootstrap) if name.startswith("muster-doctor-")]


@pytest.mark.kafka
async def test_topics_that_muster_would_not_run_on_are_a_fault(kafka: SharedKafka):
    await provision(kafka.bootstrap, partitions=2, prefix="doctor-two")
    fine = by_subject(await examine(kafka.bootstrap, None, partitions=2, prefix="doctor-two"))
    assert fine["topics doctor-two.*"].verdict == "ok"
    wrong = by_subject(await examine(kafka.bootstrap, None, partitions=4, prefix="doctor-two"))
    assert wrong["topics doctor-two.*"].verdict == "fault"
    assert "partitions is 2, not 4" in wrong["topics doctor-two.*"].found


@pytest.mark.kafka
@pytest.mark.process
async def test_a_broker_that_flushes_each_record_is_not_warned_of_and_one_that_creates_topics_is(tmp_path: Path):
    config = {"log.flush.interval.messages": "1", "auto.create.topics.enable": "true"}
    async with LocalKafka(tmp_path / "kafka", config=config) as broker:
        found = by_subject(await examine(broker.bootstrap, None))
    assert found["kafka brokers"].verdict == "ok"
    assert found["kafka auto.create.topics.enable"].verdict == "warning"


@pytest.mark.postgres
async def test_a_sound_database_has_nothing_to_change(database: str):
    found = await examine(None, database)
    assert {finding.verdict for finding in found} == {"ok"}
    assert by_subject(found)["postgres round trip"].found.startswith("query ")


@pytest.mark.postgres
async def test_a_database_in_which_nothing_may_be_created_is_a_fault(database: str):
    role, word = f"guest_{secrets.token_hex(4)}", secrets.token_hex(8)
    owner = await asyncpg.connect(database)
    try:
        await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{word}'")
        found = by_subject(await examine(None, f"postgresql://{role}:{word}@{database.rpartition('@')[2]}"))
        await owner.execute(f"DROP ROLE {role}")
    finally:
        await owner.close()
    assert found["postgres privileges"].verdict == "fault"
    assert found["postgres privileges"].remedy.startswith("GRANT")


async def test_servers_that_do_not_answer_are_faults_not_errors():
    found = by_subject(await examine("127.0.0.1:1", "postgresql://nobody@127.0.0.1:1/none"))
    assert {finding.verdict for finding in found.values()} == {"fault"}


@pytest.mark.postgres
def test_the_command_ends_with_1_if_there_is_a_fault(database: str):
    sound = CliRunner().invoke(main, ["doctor", "--postgres", database, "--json"])
    assert sound.exit_code == 0
    assert json.loads(sound.stdout)["ok"] is True
    ill = CliRunner().invoke(main, ["doctor", "--postgres", database, "--kafka", "127.0.0.1:1"])
    assert ill.exit_code == 1
    assert "fault" in ill.stdout


async def _topics(bootstrap: str) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        return list(await admin.list_topics())
    finally:
        await admin.close()
