"""The driver of sagas, between a real writer, real views and participants that answer as they are told to."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from domain.saga import AbortSaga, ResumeSaga
from domain.shards.node import CordonNode, DrainNode, RemoveNode, ReserveSlots, SetMoveLimits
from muster.wire.telemetry.shard_loads import NodeLoads, ToldShard
from tests.workers.sagas.participants import EXTENT, controller


async def test_a_move_runs_to_its_end_when_participants_answer(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2")
        await those.keyspace("users", 4, "n1")
        id_ = await those.move("users", 2, "n2")
        await those.until(lambda: those.saga(id_).ended)
        shard = those.views.keyspaces["users"].shard(2)
        assert those.saga(id_).phase == "completed"
        assert (shard.owner, shard.epoch, shard.status) == ("n2", 2, "active")
        assert not those.views.cluster.held
        assert not those.views.tasks


async def test_a_move_waits_for_its_slots_and_gets_them_when_the_one_before_gives_them_back(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2")
        await those.keyspace("users", 4, "n1")
        those.silent = {"prepare"}
        first, second = await those.move("users", 0, "n2"), await those.move("users", 1, "n2")
        await those.until(lambda: those.task("prepare") is not None)
        assert (those.saga(first).step, those.saga(second).step) == ("prepare", "reserve")
        those.speak()
        await those.until(lambda: those.saga(second).ended)
        assert {those.saga(first).phase, those.saga(second).phase} == {"completed"}


async def test_a_cordoned_target_turns_the_move_back_with_the_clusters_reason(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2")
        await those.keyspace("users", 4, "n1")
        await those.give("cluster", CordonNode(node="n2"))
        id_ = await those.move("users", 0, "n2")
        await those.until(lambda: those.saga(id_).ended)
        assert those.saga(id_).phase == "compensated"
        assert "NodeCordoned" in (those.saga(id_).cause or "")
        assert not those.views.cluster.held
        assert not those.views.cluster.waiting


async def test_a_restarted_controller_wants_what_was_wanted_under_the_same_id(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2")
        await those.keyspace("users", 4, "n1")
        those.silent = {"verify"}
        id_ = await those.move("users", 3, "n2")
        await those.until(lambda: those.task("verify") is not None)
        before = those.task("verify")
    async with controller(tmp_path) as those:
        assert those.task("verify") == before
        those.speak()
        await those.until(lambda: those.saga(id_).ended)
        assert those.saga(id_).phase == "completed"


async def test_a_restarted_controller_asks_again_for_what_was_asked_of_the_cluster(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2")
        await those.keyspace("users", 4, "n1")
        those.silent = {"prepare"}
        await those.move("users", 0, "n2")
        waiting = await those.move("users", 1, "n2")
        await those.until(lambda: waiting in those.views.cluster.waiting)
    async with controller(tmp_path) as those:
        those.speak()
        await those.until(lambda: those.saga(waiting).ended)
        assert those.saga(waiting).phase == "completed"


async def test_a_source_that_falls_silent_is_fenced_by_the_end_of_its_lease(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n2")
        await those.join("n1", lease_seconds=1.0)
        await those.keyspace("users", 4, "n1")
        those.silent = {"fence"}
        id_ = await those.move("users", 0, "n2")
        await those.until(lambda: "fence" in those.saga(id_).results or those.saga(id_).ended)
        assert those.saga(id_).results["fence"] == {"silent": "n1"}
        assert not those.views.cluster.nodes["n1"].alive


async def test_a_source_that_is_alive_is_not_taken_for_silent(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2")
        await those.keyspace("users", 4, "n1")
        those.silent = {"fence"}
        id_ = await those.move("users", 0, "n2")
        await those.until(lambda: those.task("fence") is not None)
        await those.give("cluster", SetMoveLimits(node_moves_max=2, cluster_moves_max=9))
        await those.join("n3")
        assert those.saga(id_).step == "fence"
        assert not those.views.cluster.silences


async def test_the_copy_on_a_node_that_is_removed_is_given_up(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2")
        await those.keyspace("users", 4, "n1")
        those.silent = {"copy", "drop"}
        id_ = await those.move("users", 0, "n2")
        await those.until(lambda: those.task("copy") is not None)
        await those.give("cluster", RemoveNode(node="n2"))
        await those.until(lambda: those.saga(id_).ended and not those.views.keyspaces["users"].cleanups)
        assert those.saga(id_).phase == "compensated"
        assert "n2 has been removed" in (those.saga(id_).cause or "")


async def test_what_an_aborted_move_left_is_cleaned_up_when_its_node_answers_again(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2")
        await those.keyspace("users", 4, "n1")
        those.silent = {"copy"}
        id_ = await those.move("users", 0, "n2")
        await those.until(lambda: those.task("copy") is not None)
        await those.give(id_, AbortSaga(), actor="ops", reason="wrong node")
        await those.until(lambda: those.saga(id_).ended)
        assert those.saga(id_).phase == "compensated"
        assert not those.views.keyspaces["users"].cleanups
        assert those.views.keyspaces["users"].shard(0).owner == "n1"


async def test_a_drained_node_gives_its_shards_to_those_with_the_least(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2", "n3")
        await those.keyspace("users", 9, "n1", "n2", "n3")
        await those.give("cluster", DrainNode(node="n1"))

        def owners() -> dict[str, int]:
            shards = those.views.keyspaces["users"].shards.values()
            return {node: sum(shard.owner == node for shard in shards) for node in ("n1", "n2", "n3")}

        await those.until(lambda: owners() == {"n1": 0, "n2": 5, "n3": 4})
        rows = those.views.migrations.values()
        assert {row.reason for row in rows} == {"n1 is being drained"}


async def test_where_loads_are_known_they_go_to_the_least_load_and_each_move_says_what_was_weighed(
    tmp_path: Path,
) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2", "n3")
        await those.keyspace("users", 6, "n1", "n2", "n3")
        owned = {number: shard.owner for number, shard in those.views.keyspaces["users"].shards.items()}
        asked = {"n1": 10.0, "n2": 500.0, "n3": 1.0}
        items = [ToldShard(number, asked[owner or ""]) for number, owner in sorted(owned.items())]
        those.gateway.loads.shards.hear(NodeLoads(node="any", keyspaces={"users": items}, at=datetime.now(UTC)))
        await those.give("cluster", DrainNode(node="n1"))
        await those.until(lambda: all(s.owner != "n1" for s in those.views.keyspaces["users"].shards.values()))
        sagas = sorted(those.views.sagas.values(), key=lambda saga: int(saga.data["shard"]))
        assert [saga.data["target"] for saga in sagas] == ["n3", "n3"]
        first = {"shard": 11.0, "source": 22.0, "target": 4.0}
        assert [saga.data["weighed"] for saga in sagas] == [first, {**first, "target": 15.0}]
    async with controller(tmp_path) as those:
        # Nothing is known of loads after a restart; what was weighed stands in the log.
        assert those.gateway.loads.shards.weights() == {}
        assert [saga.data["weighed"]["target"] for saga in those.views.sagas.values()] == [4.0, 15.0]


async def test_the_gate_opens_when_its_instant_has_come(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2")
        await those.keyspace("users", 4, "n1")
        opens_at = datetime.now(UTC) + timedelta(seconds=1)
        id_ = await those.move("users", 0, "n2", not_before=opens_at)
        await those.until(lambda: those.saga(id_).step == "gate")
        await those.until(lambda: those.saga(id_).ended)
        fenced = next(step for step in those.views.migrations[id_,].steps if step.step == "close")
        assert fenced.began_at >= opens_at


async def test_a_held_move_goes_on_when_an_operator_resumes_it(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2")
        await those.keyspace("users", 4, "n1")
        id_ = await those.move("users", 0, "n2", hold=True)
        await those.until(lambda: those.saga(id_).step == "gate")
        await those.give(id_, ResumeSaga(), actor="ops")
        await those.until(lambda: those.saga(id_).ended)
        assert those.saga(id_).phase == "completed"
        assert those.saga(id_).results["drain"] == EXTENT


async def test_slots_that_a_late_request_took_for_a_move_that_has_ended_are_given_back(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2")
        await those.keyspace("users", 4, "n1")
        id_ = await those.move("users", 0, "n2")
        await those.until(lambda: those.saga(id_).ended)
        await those.give("cluster", ReserveSlots(saga=id_, source="n1", target="n2"))
        assert id_ in those.views.cluster.held
        await those.until(lambda: not those.views.cluster.held)
        other = await those.move("users", 1, "n2")
        await those.until(lambda: those.saga(other).ended)
        assert those.saga(other).phase == "completed"


async def test_a_drain_goes_on_to_the_next_node_when_one_fails(tmp_path: Path) -> None:
    async with controller(tmp_path) as those:
        await those.join("n1", "n2", "n3")
        await those.keyspace("users", 2, "n1")
        await those.keyspace("ballast", 4, "n3")
        those.refusing = {("prepare", "n2")}
        await those.give("cluster", DrainNode(node="n1"))
        shards = those.views.keyspaces["users"].shards
        await those.until(lambda: {shard.owner for shard in those.views.keyspaces["users"].shards.values()} == {"n3"})
        began = [row.target for row in those.views.migrations.values()]
        assert 1 <= began.count("n2") <= len(shards), "each shard has tried it once at most"
