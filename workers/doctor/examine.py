"""The doctor: examines a broker and a database for what muster needs, and says what to change.

Nothing of muster's own is touched: what must be tried is tried on topics of the doctor's own, which are deleted again.
"""

from pathlib import Path

from infra.kafka.topic import PARTITIONS, PREFIX
from workers.doctor.cluster_key import examine_key
from workers.doctor.finding import Finding
from workers.doctor.kafka import examine_kafka
from workers.doctor.postgres import examine_postgres
from workers.doctor.telemetry import examine_telemetry


async def examine(
    kafka: str | None,
    postgres: str | None,
    *,
    partitions: int | None = None,
    prefix: str = PREFIX,
    cluster_key: Path | None = None,
) -> list[Finding]:
    """All findings, in the order of the examinations. A server that does not answer is a fault, not an error."""
    findings: list[Finding] = []
    if kafka is not None:
        findings += await examine_kafka(kafka, partitions or PARTITIONS, prefix)
        if not any(finding.subject == "kafka" for finding in findings):  # It answers.
            findings += await examine_telemetry(kafka, partitions or PARTITIONS, prefix)
    if cluster_key is not None:
        findings += await examine_key(cluster_key, kafka, prefix)
    if postgres is not None:
        findings += await examine_postgres(postgres)
    return findings
