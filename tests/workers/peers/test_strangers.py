"""Controllers with another key: seen, left alone where they reign, and given nothing."""

from muster.wire.controllers import controllers_max
from tests.workers.peers.test_roll_call import met, roll, say
from workers.peers.roll_call import RollCall, StrangeSign, signs_behind_max
from workers.peers.strangers import Strangers, looks_still_max

EVA = StrangeSign("eva", "http://eva")


def strangers(roll_: RollCall | None = None) -> tuple[Strangers, RollCall]:
    own = roll("anna") if roll_ is None else roll_
    return Strangers(own), own


def test_who_reigns_and_goes_on_writing_keeps_its_partitions() -> None:
    found, _ = strangers()
    assert found.hold(0, "eva") is None
    found.heard(EVA)
    for end in range(3 * looks_still_max):
        held = found.hold(0, "eva")
        assert held is not None
        assert "eva" in held
        assert "--cluster-key" in held
        found.looked({0: end})


def test_other_partitions_are_not_kept_for_it() -> None:
    found, _ = strangers()
    found.heard(EVA)
    assert found.hold(0, "") is None
    assert found.hold(0, "dead") is None


def test_forged_signs_do_not_keep_what_nobody_writes() -> None:
    found, _ = strangers()
    for _ in range(looks_still_max + 1):
        found.heard(EVA)
        assert found.hold(0, "eva") is not None
        found.looked({0: "end", 1: "end"})
    found.looked({0: "end", 1: "grown"})
    assert found.hold(0, "eva") is None
    assert found.hold(1, "eva") is not None


def test_forged_signs_in_the_name_of_a_peer_or_of_ourselves_change_nothing() -> None:
    anna, _ = met("anna", "bert")
    found, _ = strangers(anna)
    for name in ("bert", "anna"):
        found.heard(StrangeSign(name, "http://evil"))
        assert found.hold(0, name) is None
    assert (found.live(), found.signs) == ({}, 2)


def test_who_was_a_stranger_and_has_our_key_now_is_none_any_more() -> None:
    found, own = strangers()
    found.heard(EVA)
    eva = roll("eva")
    say(eva, own)
    assert found.hold(0, "eva") is None


def test_who_is_silent_is_forgotten_with_what_was_seen_of_its_logs() -> None:
    found, own = strangers()
    found.heard(EVA)
    for _ in range(looks_still_max + 2):
        found.looked({0: "end"})
    for _ in range(signs_behind_max + 1):
        assert "eva" in found.live()
        say(own)
    assert (dict(found.live()), found.hold(0, "eva")) == ({}, None)
    found.heard(EVA)
    assert found.hold(0, "eva") is not None


def test_a_flood_of_names_takes_no_room_and_hides_nobody_who_reigns() -> None:
    found, _ = strangers()
    found.reigning = lambda: {"eva"}
    for number in range(10_000):
        found.heard(StrangeSign(f"n{number}", "http://n"))
    found.heard(EVA)
    found.heard(StrangeSign("", ""))
    assert len(found.live()) == controllers_max + 1
    assert found.signs == 10_002
    assert found.hold(0, "eva") is not None
