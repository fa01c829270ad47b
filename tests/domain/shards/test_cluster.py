"""The cluster's decider: data nodes and their leases, slots for moves, attested silences."""

import pytest
from pydantic import ValidationError

from domain.shards import cluster
from domain.shards.node import (
    AttestSilence,
    CordonNode,
    DrainNode,
    ExpireNode,
    JoinNode,
    MoveLimitsChanged,
    NodeCordonCleared,
    NodeCordonSet,
    NodeDrainEnded,
    NodeDrainStarted,
    NodeJoined,
    NodeLost,
    NodeRejoined,
    NodeRemoved,
    NodeReturned,
    NodeSilenceAttested,
    ReleaseSlots,
    RemoveNode,
    RenewNode,
    ReserveSlots,
    SetMoveLimits,
    SlotsGranted,
    SlotsQueued,
    SlotsReleased,
    UncordonNode,
    UndrainNode,
)
from muster.wire.error import NodeCordoned, NodeNotFound, NodeTaken, StaleIncarnation
from tests.given import given

FACTS = {
    "address": "10.0.0.1:7400",
    "zone": "a",
    "capacity": 2.0,
    "lease_seconds": 5.0,
    "process": "p1",
    "store": "s1",
}
JOIN = JoinNode(node="n1", **FACTS)
JOINED = NodeJoined(node="n1", **FACTS)
LOST = NodeLost(node="n1", incarnation=0, lease_seconds=5.0)
REMOVED = NodeRemoved(node="n1")
NODES = tuple(NodeJoined(node=f"n{number}", **FACTS) for number in range(1, 6))
CORDONED = NodeCordonSet(node="n2")
DRAINING = NodeDrainStarted(node="n2")


def cluster_of(*events):
    return given(*events, decider=cluster)


def reserve(saga, source="n1", target="n2"):
    return ReserveSlots(saga=saga, source=source, target=target)


def queued(saga, source="n1", target="n2"):
    return SlotsQueued(saga=saga, source=source, target=target)


def granted(saga, source="n1", target="n2"):
    return SlotsGranted(saga=saga, source=source, target=target)


class TestJoining:
    def test_a_node_joins_with_the_streams_version_as_its_incarnation(self):
        after = cluster_of(MoveLimitsChanged(node_moves_max=2, cluster_moves_max=4)).when(JOIN).then(JOINED)
        node = after.nodes["n1"]
        assert (node.incarnation, node.address, node.zone, node.capacity) == (1, "10.0.0.1:7400", "a", 2.0)
        assert (node.alive, node.eligible) == (True, True)

    def test_another_process_on_the_same_store_joins_anew(self):
        rejoined = NodeRejoined(node="n1", **{**FACTS, "process": "p2"})
        after = cluster_of(JOINED).when(JOIN.model_copy(update={"process": "p2"})).then(rejoined)
        assert after.nodes["n1"].incarnation == 1

    def test_a_process_that_moved_to_another_address_joins_anew(self):
        moved = {**FACTS, "address": "10.0.0.9:7400"}
        cluster_of(JOINED).when(JoinNode(node="n1", **moved)).then(NodeRejoined(node="n1", **moved))

    def test_the_same_process_joins_anew_when_it_was_lost(self):
        cluster_of(JOINED, LOST).when(JOIN).then(NodeRejoined(node="n1", **FACTS))

    def test_what_operators_said_of_a_node_holds_for_its_next_process(self):
        rejoined = NodeRejoined(node="n1", **{**FACTS, "process": "p2"})
        node = cluster_of(JOINED, NodeCordonSet(node="n1"), NodeDrainStarted(node="n1"), rejoined).state.nodes["n1"]
        assert (node.cordoned, node.draining, node.eligible) == (True, True, False)

    def test_another_store_is_refused(self):
        cluster_of(JOINED).when(JOIN.model_copy(update={"store": "s2"})).refused(NodeTaken, node="n1")

    def test_another_store_is_welcome_once_the_node_was_removed(self):
        other = {**FACTS, "store": "s2"}
        after = cluster_of(JOINED, REMOVED).when(JoinNode(node="n1", **other)).then(NodeJoined(node="n1", **other))
        assert "n1" not in after.removed

    @pytest.mark.parametrize(
        "change",
        [{"address": "nowhere"}, {"address": "a:b"}, {"capacity": 0}, {"lease_seconds": 0.1}, {"process": ""}],
        ids=str,
    )
    def test_facts_that_cannot_be_are_refused(self, change):
        with pytest.raises(ValidationError):
            JoinNode(node="n1", **{**FACTS, **change})


class TestLeases:
    def test_a_renewal_is_no_event(self):
        cluster_of(JOINED).when(RenewNode(node="n1", incarnation=0)).nothing()

    def test_a_renewal_of_a_lost_lease_is_one(self):
        after = cluster_of(JOINED, LOST).when(RenewNode(node="n1", incarnation=0)).then(NodeReturned(node="n1"))
        assert after.nodes["n1"].alive

    def test_a_process_that_was_succeeded_cannot_renew(self):
        rejoined = NodeRejoined(node="n1", **{**FACTS, "process": "p2"})
        cluster_of(JOINED, rejoined).when(RenewNode(node="n1", incarnation=0)).refused(StaleIncarnation, incarnation=1)

    def test_a_lease_that_ran_out_is_lost(self):
        after = cluster_of(JOINED).when(ExpireNode(node="n1", incarnation=0)).then(LOST)
        assert (after.nodes["n1"].alive, after.nodes["n1"].eligible) == (False, False)

    def test_a_late_word_on_another_incarnation_changes_nothing(self):
        cluster_of(JOINED).when(ExpireNode(node="n1", incarnation=7)).nothing()

    def test_a_late_word_on_a_removed_node_changes_nothing(self):
        cluster_of(JOINED, REMOVED).when(ExpireNode(node="n1", incarnation=0)).nothing()

    def test_a_node_that_is_alive_has_a_timer_that_it_renews(self):
        state = cluster_of(JOINED).state
        [timer] = cluster.timers(state.nodes["n1"])
        assert (timer.seconds, cluster.expire(timer)) == (5.0, ExpireNode(node="n1", incarnation=0))
        for sign_of_life in (RenewNode(node="n1", incarnation=0), JOIN):
            which = cluster.renews(sign_of_life)
            assert which is not None
            assert which(timer)
        assert cluster.renews(CordonNode(node="n1")) is None
        assert list(cluster.DECIDER.parts.items(state)) == ["n1"]

    def test_a_node_that_is_not_has_none(self):
        lost = cluster_of(JOINED, LOST).state
        assert cluster.timers(lost.nodes["n1"]) == ()
        assert cluster.timers(lost) == ()


class TestWhatOperatorsSay:
    @pytest.mark.parametrize(
        ("before", "command", "event"),
        [
            ((), CordonNode(node="n2"), CORDONED),
            ((CORDONED,), UncordonNode(node="n2"), NodeCordonCleared(node="n2")),
            ((), DrainNode(node="n2"), DRAINING),
            ((DRAINING,), UndrainNode(node="n2"), NodeDrainEnded(node="n2")),
            ((), RemoveNode(node="n2"), NodeRemoved(node="n2")),
            (
                (),
                SetMoveLimits(node_moves_max=2, cluster_moves_max=9),
                MoveLimitsChanged(node_moves_max=2, cluster_moves_max=9),
            ),
        ],
        ids=lambda value: type(value).__name__ if hasattr(value, "type") else "",
    )
    def test_it_is_an_event_once(self, before, command, event):
        cluster_of(*NODES, *before).when(command).then(event)

    @pytest.mark.parametrize(
        "command",
        [
            UncordonNode(node="n1"),
            UndrainNode(node="n1"),
            RemoveNode(node="n9"),
            SetMoveLimits(node_moves_max=1, cluster_moves_max=4),
        ],
        ids=lambda command: type(command).__name__,
    )
    def test_what_is_so_already_is_none(self, command):
        cluster_of(*NODES).when(command).nothing()

    @pytest.mark.parametrize(
        "command",
        [
            RenewNode(node="n9", incarnation=0),
            CordonNode(node="n9"),
            UncordonNode(node="n9"),
            DrainNode(node="n9"),
            UndrainNode(node="n9"),
        ],
        ids=lambda command: type(command).__name__,
    )
    def test_an_unknown_node_is_refused(self, command):
        cluster_of(*NODES).when(command).refused(NodeNotFound, node="n9")

    def test_a_removed_node_is_remembered(self):
        assert cluster_of(*NODES, REMOVED).state.removed == {"n1"}


class TestSlots:
    def test_a_move_that_fits_gets_its_slots_at_once(self):
        after = cluster_of(*NODES).when(reserve("m1")).then(queued("m1"), granted("m1"))
        assert (set(after.held), after.queue) == ({"m1"}, ())

    def test_a_node_takes_part_in_one_move_at_a_time_as_source_or_as_target(self):
        held = (*NODES, queued("m1"), granted("m1"))
        cluster_of(*held).when(reserve("m2", "n1", "n3")).then(queued("m2", "n1", "n3"))
        cluster_of(*held).when(reserve("m2", "n3", "n1")).then(queued("m2", "n3", "n1"))
        cluster_of(*held).when(reserve("m2", "n3", "n4")).then(queued("m2", "n3", "n4"), granted("m2", "n3", "n4"))

    def test_the_cluster_has_its_own_limit(self):
        one = MoveLimitsChanged(node_moves_max=1, cluster_moves_max=1)
        cluster_of(*NODES, one, queued("m1"), granted("m1")).when(reserve("m2", "n3", "n4")).then(
            queued("m2", "n3", "n4")
        )

    def test_slots_that_are_given_back_go_to_who_asked_first(self):
        waiting = (queued("m1"), granted("m1"), queued("m2", "n1", "n3"), queued("m3", "n1", "n4"))
        cluster_of(*NODES, *waiting).when(ReleaseSlots(saga="m1")).then(
            SlotsReleased(saga="m1"), granted("m2", "n1", "n3")
        )

    def test_who_needs_other_nodes_overtakes(self):
        waiting = (queued("m1"), granted("m1"), queued("m2", "n1", "n3"))
        cluster_of(*NODES, *waiting).when(reserve("m3", "n4", "n5")).then(
            queued("m3", "n4", "n5"), granted("m3", "n4", "n5")
        )

    def test_who_needs_a_node_that_another_one_waits_for_does_not_overtake(self):
        waiting = (queued("m1"), granted("m1"), queued("m2", "n1", "n3"))
        cluster_of(*NODES, *waiting).when(reserve("m3", "n3", "n4")).then(queued("m3", "n3", "n4"))

    def test_who_waits_can_give_up(self):
        waiting = (queued("m1"), granted("m1"), queued("m2", "n1", "n3"), queued("m3", "n3", "n4"))
        after = (
            cluster_of(*NODES, *waiting)
            .when(ReleaseSlots(saga="m2"))
            .then(SlotsReleased(saga="m2"), granted("m3", "n3", "n4"))
        )
        assert after.queue == ()

    def test_giving_back_what_one_does_not_hold_changes_nothing(self):
        cluster_of(*NODES).when(ReleaseSlots(saga="m1")).nothing()

    def test_higher_limits_let_in_who_waits(self):
        waiting = (queued("m1"), granted("m1"), queued("m2", "n1", "n3"))
        cluster_of(*NODES, *waiting).when(SetMoveLimits(node_moves_max=2, cluster_moves_max=4)).then(
            MoveLimitsChanged(node_moves_max=2, cluster_moves_max=4), granted("m2", "n1", "n3")
        )

    def test_lower_limits_take_nothing_away(self):
        two = (queued("m1"), granted("m1"), queued("m2", "n3", "n4"), granted("m2", "n3", "n4"))
        lower = SetMoveLimits(node_moves_max=1, cluster_moves_max=1)
        after = cluster_of(*NODES, *two).when(lower).then(MoveLimitsChanged(node_moves_max=1, cluster_moves_max=1))
        assert set(after.held) == {"m1", "m2"}

    @pytest.mark.parametrize("event", [CORDONED, DRAINING], ids=lambda event: type(event).__name__)
    def test_a_target_that_takes_no_new_shards_is_refused(self, event):
        cluster_of(*NODES, event).when(reserve("m1")).refused(NodeCordoned, node="n2")

    @pytest.mark.parametrize("event", [CORDONED, DRAINING], ids=lambda event: type(event).__name__)
    def test_a_source_that_takes_no_new_shards_gives_its_own_away(self, event):
        cluster_of(*NODES, event).when(reserve("m1", "n2", "n3")).then(
            queued("m1", "n2", "n3"), granted("m1", "n2", "n3")
        )

    @pytest.mark.parametrize(("source", "target"), [("n9", "n2"), ("n1", "n9")])
    def test_an_unknown_node_is_refused(self, source, target):
        cluster_of(*NODES).when(reserve("m1", source, target)).refused(NodeNotFound, node="n9")


class TestSilence:
    ATTEST = AttestSilence(node="n1", saga="m1")
    SILENT = NodeSilenceAttested(node="n1", saga="m1")
    HELD = (*NODES, queued("m1"), granted("m1"))

    def test_it_is_not_attested_while_the_lease_may_hold(self):
        cluster_of(*self.HELD).when(self.ATTEST).nothing()

    def test_it_is_attested_once_the_lease_is_over(self):
        after = cluster_of(*self.HELD, LOST).when(self.ATTEST).then(self.SILENT)
        assert after.silences["m1"] == "n1"

    def test_it_is_attested_of_a_node_that_was_removed(self):
        cluster_of(*self.HELD, REMOVED).when(self.ATTEST).then(self.SILENT)

    def test_it_is_not_attested_of_a_node_that_has_returned(self):
        cluster_of(*self.HELD, LOST, NodeReturned(node="n1")).when(self.ATTEST).nothing()

    def test_it_is_not_attested_of_a_node_whose_next_process_is_here(self):
        rejoined = NodeRejoined(node="n1", **{**FACTS, "process": "p2"})
        cluster_of(*self.HELD, LOST, rejoined).when(self.ATTEST).nothing()

    def test_giving_back_the_slots_forgets_it(self):
        assert not cluster_of(*self.HELD, LOST, self.SILENT, SlotsReleased(saga="m1")).state.silences

    def test_it_is_not_attested_to_a_move_that_has_given_them_back(self):
        cluster_of(*self.HELD, LOST, SlotsReleased(saga="m1")).when(self.ATTEST).nothing()


@pytest.mark.parametrize(
    ("history", "impossible", "reason"),
    [
        ((JOINED,), JOINED, "at the wrong time"),
        ((), NodeRejoined(node="n1", **FACTS), "at the wrong time"),
        ((), REMOVED, "never joined"),
        ((), CORDONED, "which is not here"),
        ((JOINED, LOST), LOST, "lost twice"),
        ((*NODES, queued("m1")), queued("m1"), "queued twice"),
        ((*NODES, queued("m1"), granted("m1")), granted("m1"), "granted slots twice"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible_history_is_not_folded(history, impossible, reason):
    with pytest.raises(AssertionError, match=reason):
        cluster_of(*history, impossible)
