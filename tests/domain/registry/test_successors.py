"""Who holds an instance, who comes after whom, and which marks outlive a removal."""

from dataclasses import dataclass, replace
from functools import reduce

import pytest
from hypothesis import given as all_of
from hypothesis import settings
from hypothesis import strategies as st

from domain.registry import service as s
from domain.registry.instance import (
    InstanceDeregistered,
    InstanceDrainEnded,
    InstanceDrainStarted,
    InstanceMaintenanceCleared,
    InstanceMaintenanceSet,
    InstanceWeightChanged,
    LeaseExpired,
)
from domain.registry.status import Mark
from domain.registry.versions import Kept, names_kept_max
from muster.wire.error import InstanceNotFound, ServiceNotFound, StaleIncarnation
from tests.given import given
from tests.sample import NOON, PLAIN, TTL, evolved, registered, spec

A = "a"
MARK = Mark("ann", "because", NOON)
MAINTENANCE = InstanceMaintenanceSet(instance=A)
DRAINING = InstanceDrainStarted(instance=A)


def held(holder, incarnation=0, **changes):
    return replace(registered(A, incarnation=incarnation, **changes), holder=holder)


def register(holder=None, incarnation=None, what=PLAIN):
    return s.RegisterInstance(instance=A, spec=what, holder=holder, incarnation=incarnation)


def gone(cause, incarnation=0, health="healthy", **keeps):
    return InstanceDeregistered(instance=A, incarnation=incarnation, cause=cause, health=health, **keeps)


def expired(**keeps):
    return [LeaseExpired(instance=A, incarnation=0, lease_seconds=5.0), gone("lease_expired", **keeps)]


class TestHolders:
    @pytest.mark.parametrize(("before", "after"), [("h1", "h2"), ("h1", None), (None, "h2")])
    def test_another_holder_begins_a_new_incarnation(self, before, after):
        state = given(held(before)).when(register(after)).then(gone("succeeded"), held(after, incarnation=2))
        assert state.instances[A].incarnation == 2
        assert state.holders.get(A) == after

    def test_the_same_holder_changes_nothing_or_what_it_names(self):
        given(held("h1")).when(register("h1")).nothing()
        given(held("h1")).when(register("h1", what=spec(weight=7))).then(InstanceWeightChanged(instance=A, weight=7))

    def test_a_successor_begins_with_checks_of_its_own(self):
        before = held("h1", checks=(TTL,)), *_healthy()
        after = (
            given(*before)
            .when(register("h2", what=spec(checks=(TTL,))))
            .then(gone("succeeded"), held("h2", incarnation=3, checks=(TTL,)))
        )
        assert after.instances[A].checks["ttl"].status == "unknown"

    @pytest.mark.parametrize(
        "late",
        [
            s.DeregisterInstance(instance=A, incarnation=0),
            s.DeregisterInstance(instance=A, holder="h1"),
            s.Heartbeat(instance=A, incarnation=0),
            s.Heartbeat(instance=A, holder="h1"),
            s.ReportHealth(instance=A, status="unhealthy", incarnation=0),
            s.ReportHealth(instance=A, status="unhealthy", holder="h1"),
        ],
        ids=repr,
    )
    def test_what_a_predecessor_says_late_is_refused(self, late):
        given(held("h1"), gone("succeeded"), held("h2", incarnation=2)).when(late).refused(
            StaleIncarnation, incarnation=2
        )

    def test_a_holder_leaves_without_knowing_its_number(self):
        given(held("h1", incarnation=0)).when(s.DeregisterInstance(instance=A, holder="h1")).then(gone("requested"))

    @pytest.mark.parametrize("holder", ["h1", None])
    def test_who_only_returns_does_not_push_a_successor_out(self, holder):
        given(held(holder), gone("succeeded"), held("h2", incarnation=2)).when(register(holder, 0)).refused(
            StaleIncarnation, incarnation=2
        )

    def test_who_returns_to_what_is_its_own_is_welcome_though_it_missed_an_answer(self):
        given(held("h1"), *expired(), held("h1", incarnation=3)).when(register("h1", 0)).nothing()

    def test_who_returns_to_a_name_that_nobody_has_registers_anew(self):
        given(held("h1"), *expired()).when(register("h1", 0)).then(held("h1", incarnation=3))

    def test_who_names_no_holder_renews_what_was_registered_without_one(self):
        given(registered()).when(register()).nothing()

    def test_an_operator_may_still_remove_what_somebody_holds(self):
        given(held("h1")).when(s.DeregisterInstance(instance=A)).then(gone("requested"))


def _healthy():
    return s.decide(s.Heartbeat(instance=A), given(held("h1", checks=(TTL,))).state)


@dataclass
class Holder:
    """A process: how it names itself, where it answers, and the incarnation that it believes to be its own."""

    id: str | None
    port: int
    incarnation: int | None = None


ACTIONS = ("register", "return", "heartbeat", "report", "leave", "check", "lease")


def command(holder, action, of):
    told = {"instance": A, "incarnation": of}
    match action:
        case "register":
            return register(holder.id, what=spec(port=holder.port, lease_seconds=5.0, checks=(TTL,)))
        case "return":
            return register(holder.id, of, spec(port=holder.port, lease_seconds=5.0, checks=(TTL,)))
        case "heartbeat":
            return s.Heartbeat(**told, holder=holder.id)
        case "report":
            return s.ReportHealth(**told, status="unhealthy", holder=holder.id)
        case "leave":
            return s.DeregisterInstance(**told, holder=holder.id)
        case "check":
            return s.ObserveCheck(**told, check="ttl", status="unhealthy")
        case "lease":
            return s.ExpireLease(**told)


@settings(max_examples=500, deadline=None)
@all_of(
    # The SDK names itself; plain HTTP may, and else knows its incarnation from its answer.
    st.sampled_from([("sdk", None), ("sdk", "sdk-2"), ("sdk", "http"), (None, "http")]),
    # Who acts, what, and of which of its incarnations it speaks: its newest, or any that it ever had.
    st.lists(st.tuples(st.integers(0, 1), st.sampled_from(ACTIONS), st.integers(0, 3)), max_size=25),
)
def test_whoever_registered_last_and_is_alive_stays(ids, steps):
    holders = [Holder(ids[0], 81), Holder(ids[1], 82)]
    had: list[list[int]] = [[], []]
    state, present = s.INITIAL, None
    for who, action, age in steps:
        holder = holders[who]
        if not had[who] and action not in ("register", "return"):
            continue
        of = had[who][-1 - age % len(had[who])] if had[who] else None
        try:
            events = s.decide(command(holder, action, of), state)
        except (StaleIncarnation, InstanceNotFound, ServiceNotFound):
            events = None
        before, state = state, reduce(evolved, events or [], state)
        if action == "register" or (action == "return" and events is not None):
            assert events is not None, "nobody is kept from registering"
            present = who
            had[who].append(state.instances[A].incarnation)
        elif action == "return":
            # Without an id a holder is told by its number alone, and by an old one not at all.
            assert present == 1 - who or holder.id is None, "only a successor keeps somebody from returning"
            assert present is not None
        elif A in before.instances and A not in state.instances:
            assert present == who, "nobody but the one who holds it, or its own lease, takes it out"
            present = None
        # Whatever was said late: the one who registered last is there, as it registered, and is as well as it said itself.
        assert (present is None) == (A not in state.instances)
        if present is not None:
            found = state.instances[A]
            assert (found.spec.port, found.incarnation) == (holders[present].port, had[present][-1])
            assert who == present or events is None or A not in before.instances or found == before.instances[A]


class TestMarksThatAreKept:
    @pytest.mark.parametrize(
        ("mark", "keeps", "field"),
        [(MAINTENANCE, "keeps_maintenance", "maintenance"), (DRAINING, "keeps_drain", "draining")],
    )
    def test_a_mark_outlives_the_lease_and_holds_for_the_next_registration(self, mark, keeps, field):
        marked = given(registered(lease_seconds=5.0), mark)
        left = marked.when(s.ExpireLease(instance=A, incarnation=0)).then(*expired(**{keeps: True}))
        assert A not in left.instances
        told = replace(registered(incarnation=4), **{field: MARK})
        back = given(registered(lease_seconds=5.0), mark, *expired(**{keeps: True})).when(register()).then(told)
        assert getattr(back.instances[A], field) == MARK, "by whom, why and since when it was set first"
        assert not back.instances[A].discoverable
        assert not back.kept

    def test_marks_go_over_to_a_successor(self):
        told = replace(held("h2", incarnation=4), maintenance=MARK, draining=MARK)
        given(held("h1"), MAINTENANCE, DRAINING).when(register("h2")).then(
            gone("succeeded", keeps_maintenance=True, keeps_drain=True), told
        )

    def test_who_leaves_on_request_is_drained_but_stays_in_maintenance(self):
        after = (
            given(registered(), MAINTENANCE, DRAINING)
            .when(s.DeregisterInstance(instance=A))
            .then(gone("requested", keeps_maintenance=True))
        )
        assert after.kept[A] == Kept(MARK, None, 3)

    def test_a_removal_without_marks_keeps_nothing(self):
        assert not given(registered(), gone("requested")).state.kept

    def test_history_of_before_marks_were_kept_keeps_none(self):
        assert given(registered(), MAINTENANCE, gone("lease_expired")).when(register()).then(registered(incarnation=3))

    @pytest.mark.parametrize(
        ("command", "event"),
        [
            (s.ClearMaintenance(instance=A), InstanceMaintenanceCleared(instance=A)),
            (s.UndrainInstance(instance=A), InstanceDrainEnded(instance=A)),
        ],
    )
    def test_a_kept_mark_can_be_taken_off_while_nobody_has_the_name(self, command, event):
        both = gone("lease_expired", keeps_maintenance=True, keeps_drain=True)
        state = given(registered(), MAINTENANCE, DRAINING, both).state
        assert s.decide(command, state) == [event]
        after = evolved(state, event)
        with pytest.raises(ServiceNotFound):
            s.decide(command, after)
        assert [told.maintenance or told.draining for told in after.kept.values()] == [MARK]

    def test_the_last_mark_that_is_taken_off_leaves_nothing(self):
        history = registered(), MAINTENANCE, gone("requested", keeps_maintenance=True)
        assert not given(*history, InstanceMaintenanceCleared(instance=A)).state.kept

    @pytest.mark.parametrize(
        "event", [InstanceMaintenanceCleared(instance=A), InstanceDrainEnded(instance=A)], ids=repr
    )
    def test_a_mark_that_nobody_kept_cannot_have_been_taken_off(self, event):
        with pytest.raises(AssertionError, match="none is kept"):
            given(registered("b"), event)

    def test_of_names_that_never_come_back_only_the_newest_are_kept(self):
        state = s.INITIAL
        for number in range(names_kept_max + 2):
            name = f"i{number}"
            state = reduce(
                evolved,
                [
                    registered(name, incarnation=state.version),
                    InstanceMaintenanceSet(instance=name),
                    replace(gone("requested", state.version, keeps_maintenance=True), instance=name),
                ],
                state,
            )
        assert len(state.kept) == names_kept_max
        assert {"i2", f"i{names_kept_max + 1}"} <= set(state.kept)
        assert "i1" not in state.kept


def test_an_older_version_keeps_its_holders_and_marks():
    before = given(held("h1"), MAINTENANCE).state
    after = reduce(evolved, s.decide(register("h2"), before), before)
    assert (before.holders[A], after.holders[A]) == ("h1", "h2")
    assert before.instances[A].incarnation == 0
