"""Any sequence of commands to a keyspace and to the cluster: folds never refuse them, snapshots hold them, limits hold."""

from collections import Counter

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.message import to_plain
from domain.shards import cluster as c
from domain.shards import keyspace as k
from domain.shards import node as n
from domain.shards.node import SlotsGranted, SlotsQueued
from domain.shards.shard import KeyspaceCreated, ShardMoved, ShardReclaimed, ShardsAssigned
from infra.log.codec import event_from
from muster.wire.error import Refused
from tests.given import after
from workers.views.stored_state import dumped, loaded

shards = st.integers(0, 2)
nodes = st.sampled_from(["n1", "n2", "n3", "n4"])
sagas = st.sampled_from([f"keyspace/users/migration/{number}" for number in range(1, 6)])
epochs = st.integers(1, 4)
move = {"shard": shards, "migration": sagas, "epoch": epochs}

keyspace_commands = st.one_of(
    st.builds(k.AssignShards, nodes=st.lists(nodes, min_size=1, unique=True).map(tuple)),
    st.builds(k.PinShard, shard=shards),
    st.builds(k.UnpinShard, shard=shards),
    st.builds(k.ReportOpened, shard=shards, node=nodes, epoch=epochs),
    st.builds(k.ReportDropped, shard=shards, node=nodes, migration=sagas),
    st.builds(k.StartMove, **move, target=nodes),
    st.builds(k.IntendCleanup, **move, node=nodes),
    st.builds(k.FenceShard, **move),
    st.builds(k.CommitMove, **move, target=nodes),
    st.builds(k.ReclaimShard, **move),
    st.builds(k.EndMove, **move, outcome=st.sampled_from(["completed", "aborted"]), cleaned=st.booleans()),
    st.builds(k.AbandonCleanup, shard=shards, node=nodes),
)
facts = {
    "address": st.just("h:1"),
    "process": st.sampled_from(["p1", "p2"]),
    "store": st.sampled_from(["s1", "s1", "s2"]),
}
incarnations = st.integers(0, 8)
slots = st.integers(1, 3)
cluster_commands = st.one_of(
    st.builds(n.JoinNode, node=nodes, **facts),
    st.builds(n.RenewNode, node=nodes, incarnation=incarnations),
    st.builds(n.RemoveNode, node=nodes),
    st.builds(n.CordonNode, node=nodes),
    st.builds(n.UncordonNode, node=nodes),
    st.builds(n.DrainNode, node=nodes),
    st.builds(n.UndrainNode, node=nodes),
    st.builds(n.SetMoveLimits, node_moves_max=slots, cluster_moves_max=slots),
    st.builds(n.ReserveSlots, saga=sagas, source=nodes, target=nodes),
    st.builds(n.ReleaseSlots, saga=sagas),
    st.builds(n.AttestSilence, node=nodes, saga=sagas),
    st.builds(n.ExpireNode, node=nodes, incarnation=incarnations),
)
OPEN = (
    KeyspaceCreated(shards=3, value_bytes_max=1, shard_bytes_max=1),
    ShardsAssigned(node="n1", shards=(0, 1, 2)),
)
JOINED = tuple(
    n.NodeJoined(node=f"n{i}", address="h:1", zone="", capacity=1, lease_seconds=5, process="p1", store="s1")
    for i in (1, 2, 3, 4)
)


def decided(decider, command, state):
    """The events, or the refusal's class."""
    try:
        return decider.decide(command, state)
    except Refused as refusal:
        return type(refusal)


def restored(decider, state):
    """The state out of a snapshot of it."""
    stream = {"keyspace": "keyspace/users", "cluster": "cluster"}[decider.DECIDER.stream]
    return loaded(stream, orjson.loads(orjson.dumps(dumped(stream, state))))


def history(decider, begin, commands):
    """Each (state, command, events) of the history; the sequence is checked on the way."""
    state = after(decider, decider.INITIAL, *begin)
    folded = [*begin]
    for command in commands:
        events = decided(decider, command, state)
        assert decided(decider, command, state) == events, "deciding twice gives the same"
        if not isinstance(events, list):
            continue
        yield state, command, events
        folded += events
        state = after(decider, state, *events)
        again = decided(decider, command, state)
        assert again == [] or isinstance(again, type), "a command repeated after its own events records nothing"
        assert restored(decider, state) == state
    assert state.version == len(folded)
    wired = [event_from(event.type, to_plain(event)) for event in folded]
    assert after(decider, decider.INITIAL, *wired) == state


@settings(max_examples=150, deadline=None)
@given(st.lists(keyspace_commands, max_size=40))
def test_the_epochs_of_a_shard_grow_by_one_and_each_has_one_owner(commands):
    owners = {(number, 1): "n1" for number in range(3)}
    for state, _, events in history(k, OPEN, commands):
        for event in events:
            if isinstance(event, ShardMoved | ShardReclaimed):
                assert event.epoch == state.shard(event.shard).epoch + 1
                assert (event.shard, event.epoch) not in owners
                owners[event.shard, event.epoch] = event.owner


@settings(max_examples=150, deadline=None)
@given(st.lists(keyspace_commands, max_size=40))
def test_what_a_move_leaves_behind_has_an_intent(commands):
    for state, command, events in history(k, OPEN, commands):
        then = after(k, state, *events)
        for event in events:
            if isinstance(event, ShardMoved):
                assert (event.shard, event.was) in then.cleanups
                assert (event.shard, event.owner) not in then.cleanups, "an owner would be cleaned"
        gone = set(state.cleanups) - set(then.cleanups)
        assert not gone or isinstance(command, k.ReportDropped | k.AbandonCleanup | k.EndMove | k.CommitMove)


@settings(max_examples=150, deadline=None)
@given(st.lists(cluster_commands, max_size=60))
def test_slots_stay_within_the_limits(commands):
    for state, _, events in history(c, JOINED, commands):
        for event in events:
            state = after(c, state, event)
            if isinstance(event, SlotsGranted):
                used = Counter(node for slots in state.held.values() for node in slots.nodes)
                assert max(used[node] for node in (event.source, event.target)) <= state.node_moves_max
                assert len(state.held) <= state.cluster_moves_max
        assert not set(state.held) & set(state.waiting)
        assert sorted(state.queue) == sorted(state.waiting)


@settings(max_examples=150, deadline=None)
@given(st.lists(cluster_commands, max_size=60))
def test_the_queue_is_fair(commands):
    """Nobody gets a slot that somebody who asked before waits for."""
    for state, _, events in history(c, JOINED, commands):
        for event in events:
            if isinstance(event, SlotsGranted):
                before = state.queue[: state.queue.index(event.saga)]
                wanted = {node for saga in before for node in state.waiting[saga].nodes}
                assert not wanted & state.waiting[event.saga].nodes, f"{event.saga} overtook {before}"
            state = after(c, state, event)


@settings(max_examples=100, deadline=None)
@given(st.lists(cluster_commands, max_size=40))
def test_who_waits_comes_to_its_turn(commands):
    state = after(c, c.INITIAL, *JOINED)
    for before, _, events in history(c, JOINED, commands):
        state = after(c, before, *events)
    queue = list(state.queue)
    for _ in range(len(queue) + len(state.held)):
        for saga in list(state.held):
            state = after(c, state, *c.decide(n.ReleaseSlots(saga=saga), state))
    assert not state.held
    assert not state.waiting, f"of {queue} somebody waits for ever"


def test_a_queue_survives_its_snapshot_in_order():
    events = [SlotsQueued(saga=f"m{number}", source="n1", target="n2") for number in (3, 1, 2)]
    state = after(c, c.INITIAL, *events)
    assert restored(c, state).queue == ("m3", "m1", "m2")
