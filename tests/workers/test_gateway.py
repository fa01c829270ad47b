"""What a controller does with lists of commands: each partition's go to its writer together, and come back in order."""

from dataclasses import replace

from eventsourcing.popo import POPOApplicationRecorder

from domain.registry.service import Heartbeat
from domain.shards.keyspace import CreateKeyspace, ReportOpened
from domain.shards.node import JoinNode, RemoveNode
from infra.log.recorder import RecorderLog
from muster.wire.command import Envelope
from muster.wire.error import NotReady, VerbNotAllowed
from muster.wire.route import partition_of
from tests.machine import statuses
from tests.sample import register
from tests.workers.writer.test_writer import running
from workers.gateway import Gateway
from workers.views.views import Views
from workers.writer.request import AnswerOrError
from workers.writer.writer import Writer


def gateway(partitions: int, *writers: Writer) -> Gateway:
    executors = {writer.number: writer for writer in writers}
    return Gateway("c", "c", partitions, Views(range(partitions)), executors, {}, dict, lambda stream, instance: {})


def known(told: list[AnswerOrError]) -> list[str]:
    return ["NotReady" if isinstance(one, NotReady) else statuses([one])[0] for one in told]


def spread(service: str, number: int) -> Envelope:
    """A registration; its id says which instance of which service."""
    asked = register(f"i{number}", f"{service}-{number}")
    return Envelope(asked.id, f"service/{service}", asked.command)


async def test_answers_come_in_the_order_of_the_list_whichever_partition_they_are_from():
    recorder = POPOApplicationRecorder()
    async with (
        running(RecorderLog(recorder, 0), partitions=2) as one,
        running(RecorderLog(recorder, 1), partitions=2) as other,
    ):
        asked = [spread(f"s{number % 5}", number) for number in range(20)]
        assert {partition_of(envelope.stream, 2) for envelope in asked} == {0, 1}

        told = await gateway(2, one.writer, other.writer).execute_all(asked)
        assert [answer.id for answer in told] == [envelope.id for envelope in asked]
        assert len(one.log.appends) == len(other.log.appends) == 1


async def test_a_partition_that_is_not_written_here_stops_no_other():
    async with running(RecorderLog(POPOApplicationRecorder(), 0)) as one:
        asked = [spread(f"s{number}", number) for number in range(8)]
        expected = ["NotReady" if partition_of(envelope.stream, 2) else "accepted" for envelope in asked]
        assert set(expected) == {"NotReady", "accepted"}
        assert known(await gateway(2, one.writer).execute_all(asked)) == expected


async def test_a_list_is_decided_in_its_order():
    async with running(RecorderLog(POPOApplicationRecorder(), 0)) as one:
        early = Envelope("early", "service/s", Heartbeat(instance="i0"))
        late = Envelope("late", "service/s", Heartbeat(instance="i0"))
        told = await gateway(1, one.writer).execute_all([early, spread("s", 0), late])
        assert statuses(told) == ["ServiceNotFound", "accepted", "unchanged"]


async def test_a_command_asked_again_has_its_answer_though_a_new_one_would_be_refused():
    removal = RemoveNode(node="n1")
    join = JoinNode(node="n1", address="h:1", lease_seconds=60, process="p", store="s")
    async with running(RecorderLog(POPOApplicationRecorder(), 0)) as one:
        asked = replace(gateway(1, one.writer), views=one.views)
        before = [
            Envelope("join", "cluster", join),
            Envelope("removal", "cluster", removal),
            Envelope("joins again", "cluster", join),
            Envelope("create", "keyspace/k", CreateKeyspace(shards=2, nodes=("n1",))),
            Envelope("opened", "keyspace/k", ReportOpened(shard=0, node="n1", epoch=1)),
        ]
        assert statuses(await asked.execute_all(before)) == ["accepted"] * 5

        again, new = Envelope("removal", "cluster", removal), Envelope("another", "cluster", removal)
        refused, *answered = await asked.execute_all([new, again])
        assert isinstance(refused, VerbNotAllowed)
        assert statuses([*answered, await asked.execute(again)]) == ["accepted again"] * 2
