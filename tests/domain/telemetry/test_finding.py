"""Findings as commands: their ids come from the log, and no other finding has them."""

from datetime import UTC, datetime

from domain.registry.silence import ReportSilence
from domain.telemetry.finding import Suspicion, commands, findings_command_max

SILENT = Suspicion("orders", "a", 4, 1_800_000_000_123, silent=True)
HEARD = Suspicion("orders", "b", 2, 1_800_000_000_000, silent=False)


def ids(*findings):
    return [envelope.id for envelope in commands(findings, "telemetry/w")]


def test_one_command_says_all_of_a_service():
    (envelope,) = commands([SILENT, HEARD], "telemetry/w")
    assert (envelope.stream, envelope.actor) == ("service/orders", "telemetry/w")
    assert isinstance(envelope.command, ReportSilence)
    (silent,), (heard,) = envelope.command.silent, envelope.command.present
    assert (silent.instance, silent.incarnation, silent.check) == ("a", 4, None)
    assert silent.since == datetime(2027, 1, 15, 8, 0, 0, 123_000, UTC)
    assert (heard.instance, heard.incarnation) == ("b", 2)


def test_services_have_commands_of_their_own():
    assert len(ids(SILENT, SILENT._replace(service="users"))) == 2


def test_whoever_finds_the_same_says_the_same_in_whatever_order():
    assert ids(SILENT, HEARD) == ids(HEARD, SILENT)


def test_another_finding_has_another_id():
    others = [
        SILENT._replace(instance="c"),
        SILENT._replace(incarnation=5),
        SILENT._replace(at_ms=SILENT.at_ms + 1),
        SILENT._replace(silent=False),
        SILENT._replace(check="ttl"),
    ]
    assert len({ids(one)[0] for one in (SILENT, *others)}) == 1 + len(others)


def test_a_command_has_room_for_so_many_and_the_next_takes_the_rest():
    many = [SILENT._replace(instance=f"a-{number}") for number in range(findings_command_max + 1)]
    assert [len(one.command.silent) for one in commands(many, "w")] == [findings_command_max, 1]
