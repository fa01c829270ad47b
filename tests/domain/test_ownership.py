"""Who owns, and how that passes on: what is refused, and what can never have happened."""

import pytest

from domain.ownership import Ownership, change_set, check_current, check_set_change, end, fence, pass_on
from muster.wire.error import StaleEpoch, VersionConflict

OWNED = Ownership(epoch=3, owner="a", in_sync=("a", "b"), version=7)


def refused(ownership, epoch=3):
    with pytest.raises(StaleEpoch) as caught:
        check_current(ownership, epoch)
    return caught.value


def test_an_owner_holds_its_epoch_until_it_has_ended():
    assert (Ownership().holder, OWNED.holder, fence(OWNED).holder, end(OWNED, "said").holder) == (None, "a", "a", None)


@pytest.mark.parametrize("epoch", [2, 4])
def test_another_epoch_is_refused_with_the_current_one(epoch):
    refusal = refused(OWNED, epoch)
    assert refusal.context == {"epoch": 3, "owner": "a"}
    assert refusal.detail == f"epoch {epoch} is over; the epoch is 3"


def test_a_fenced_epoch_is_refused_and_so_is_one_that_has_ended():
    assert refused(fence(OWNED)).detail == "epoch 3 is fenced; the epoch is 3"
    assert refused(end(fence(OWNED), "lease")).context == {"epoch": 3}
    check_current(OWNED, 3)


def test_a_set_changes_at_the_version_that_its_owner_knows():
    check_set_change(OWNED, 3, 7)
    with pytest.raises(VersionConflict) as caught:
        check_set_change(OWNED, 3, 6)
    assert caught.value.context == {"actual": 7}
    with pytest.raises(StaleEpoch):
        check_set_change(fence(OWNED), 3, 7)


def test_each_change_of_the_set_has_a_version_of_its_own_also_over_epochs():
    changed = change_set(OWNED, ("a",))
    assert (changed.in_sync, changed.version) == (("a",), 8)
    then = pass_on(end(fence(changed), "said"), 4, "b", ("b",))
    assert then == Ownership(4, "b", in_sync=("b",), version=9)


@pytest.mark.parametrize(
    ("impossible", "why"),
    [
        (lambda: fence(fence(OWNED)), "fenced twice"),
        (lambda: end(end(OWNED, "said"), "seen"), "ended twice"),
        (lambda: end(Ownership(), "seen"), "nobody owned it"),
        (lambda: pass_on(OWNED, 5, "b", ()), "epoch gap"),
        (lambda: pass_on(OWNED, 3, "b", ()), "epoch gap"),
    ],
    ids=["fenced twice", "ended twice", "ended by nobody", "a gap", "the same epoch"],
)
def test_what_can_never_have_happened_is_noticed(impossible, why):
    with pytest.raises(AssertionError, match=why):
        impossible()
