"""The second opinion of clients while checks fail together: whom it takes out at once, and whom it only speaks for."""

import pytest

from domain.registry import service as decider
from domain.registry.doubt.event import InstanceChecksBelieved, InstanceSeenAnswering
from domain.registry.doubt.opinion import WeighClients
from domain.registry.timers import timers
from domain.registry.versions import Service
from muster.wire.telemetry.loads import ClientsWord
from projections.registry.instances import item
from tests.domain.registry.test_doubt import after, falling, fleet, flip, serving, suspects
from tests.given import Given


@pytest.fixture
def doubted() -> Service:
    """Four instances of which the checks of the first three have failed together."""
    return falling(fleet(4), "i0", "i1", "i2")


def word(state: Service, name: str, clients: int, failing: int = 0, answering: int = 0) -> ClientsWord:
    incarnation = state.instances[name].incarnation
    return ClientsWord(instance=name, incarnation=incarnation, clients=clients, failing=failing, answering=answering)


def told(state: Service, clients: int, failing: int = 0, answering: int = 0) -> WeighClients:
    """What clients say of the first."""
    return WeighClients(words=(word(state, "i0", clients, failing, answering),))


def believed(name: str, clients: int, failing: int) -> InstanceChecksBelieved:
    return InstanceChecksBelieved(instance=name, because="observed", clients=clients, failing=failing)


def answers(name: str, clients: int, answering: int) -> InstanceSeenAnswering:
    return InstanceSeenAnswering(instance=name, clients=clients, answering=answering)


class TestWhoIsBelievedToBeIll:
    @pytest.mark.parametrize(
        ("clients", "failing", "enough"),
        [
            (1, 1, False),  # one host alone, whatever it says
            (2, 1, False),
            (2, 2, True),  # where two call it, both
            (3, 2, False),
            (3, 3, True),
            (4, 2, False),
            (4, 3, True),  # three
            (6, 3, True),
            (7, 3, False),  # half of those that call it
            (7, 4, True),
            (40, 19, False),
            (40, 20, True),
        ],
    )
    def test_it_takes_three_hosts_and_half_of_those_that_call_it(self, doubted, clients, failing, enough):
        when = Given(doubted, decider).when(told(doubted, clients, failing))
        if not enough:
            when.nothing()
            return
        over = when.then(believed("i0", clients, failing))
        assert serving(over) == {"i1", "i2", "i3"}

    def test_where_as_many_see_it_answer_it_is_not_believed(self, doubted):
        Given(doubted, decider).when(told(doubted, 6, failing=3, answering=3)).then(answers("i0", 6, 3))

    def test_the_word_is_about_each_suspect_by_itself(self, doubted):
        words = (word(doubted, "i0", 3, failing=3), word(doubted, "i1", 3, answering=3), word(doubted, "i2", 3))
        over = Given(doubted, decider).when(WeighClients(words=words)).then(believed("i0", 3, 3), answers("i1", 3, 3))
        assert suspects(over) == {"i1", "i2"}

    def test_who_is_named_twice_is_decided_once(self, doubted):
        twice = (word(doubted, "i0", 3, failing=3),) * 2
        Given(doubted, decider).when(WeighClients(words=twice)).then(believed("i0", 3, 3))

    def test_no_word_takes_out_whose_checks_are_not_in_doubt(self, doubted):
        Given(doubted, decider).when(WeighClients(words=(word(doubted, "i3", 9, failing=9),))).nothing()

    def test_a_word_about_another_incarnation_or_nobody_is_late(self, doubted):
        late = ClientsWord(instance="i0", incarnation=99, clients=3, failing=3, answering=0)
        gone = ClientsWord(instance="x", incarnation=0, clients=3, failing=3, answering=0)
        Given(doubted, decider).when(WeighClients(words=(late, gone))).nothing()


class TestWhoIsSeenToAnswer:
    def test_it_goes_on_serving_and_the_text_says_so(self, doubted):
        over = Given(doubted, decider).when(told(doubted, 4, answering=3)).then(answers("i0", 4, 3))
        assert serving(over) == {"i0", "i1", "i2", "i3"}
        said = [item(over.instances[name])["suspect"] for name in ("i0", "i1", "i3")]
        assert said == [
            "checks fail together; clients on 3 of 4 hosts see it answer",
            "checks fail together",
            None,
        ]

    def test_it_is_not_kept_for_longer(self, doubted):
        before = timers(doubted.instances["i0"])
        over = Given(doubted, decider).when(told(doubted, 40, answering=40)).then(answers("i0", 40, 40))
        # The same timer, so the writer lets it run on: no word of clients gives it its length again.
        assert timers(over.instances["i0"]) == before

    def test_it_is_said_once(self, doubted):
        state = after(doubted, answers("i0", 4, 3))
        Given(state, decider).when(told(state, 5, answering=5)).nothing()

    def test_it_is_believed_to_be_ill_once_they_see_it_fail(self, doubted):
        state = after(doubted, answers("i0", 4, 3))
        Given(state, decider).when(told(state, 4, failing=3)).then(believed("i0", 4, 3))

    def test_one_host_alone_speaks_for_nobody(self, doubted):
        Given(doubted, decider).when(told(doubted, 1, answering=1)).nothing()

    def test_it_is_forgotten_with_the_doubt(self, doubted):
        state = after(doubted, answers("i0", 4, 3), flip("i0", "unhealthy", "healthy"))
        assert state.instances["i0"].suspect is None
