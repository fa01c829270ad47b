"""The saga by which an ownership passes on: one builder, for groups and whatever else has one owner at a time.

    take ▸ close ▸ fence ▸ compare ▸ PROMOTE ▸ activate ▸ complete          undone, from the end: reclaim ▸ abandon

`take` takes the thing for this saga, and refuses what has no chance. From `close` to the pivot it has no owner that acknowledges
anything, so that stretch is bounded. `fence` waits for the proof that the epoch has ended, `compare` for how far the candidates'
copies reach, once they cannot grow any more. PROMOTE is a compare-and-set on the epoch, as is `reclaim`: not both can win.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from domain.saga import Facts, Saga
from muster.wire.command import Command
from sagas.engine.definition import Action, Definition, Step

Act = Callable[[Saga], tuple[Action, ...]]

_AGAIN: Final = "how far copies reach is only asked"
_NOTHING: Final = "the undoing of `close` gives the epoch back, if its owner still holds it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Succession:
    """What the steps do, for one kind of thing. `root` is the kind of its stream, `start` the command that begins the saga;
    `number`, `facts` and `begins` are as in `Definition`. `seconds` says how long the thing may be without an owner before it
    turns back.
    """

    name: str
    saga: str
    root: str
    start: type[Command]
    number: Callable[..., int]
    facts: Callable[..., Facts | None]
    begins: Callable[..., Command | None]
    seconds: Callable[[Saga], float]
    take: Act
    abandon: Act
    close: Act
    reclaim: Act
    fence: Act
    compare: Act
    promote: Act
    activate: Act
    complete: Act


def succession(of: Succession) -> Definition:
    """The definition of the saga."""
    return Definition(
        of.name,
        1,
        (
            # Taking it first: whoever has taken it is the only one who may close it, so two failovers cannot cross.
            Step("take", of.take, undo=(Step("abandon", of.abandon),)),
            Step("close", of.close, undo=(Step("reclaim", of.reclaim),), pausable=False),
            Step("fence", of.fence, harmless=_NOTHING, pausable=False, timeout_seconds=None, stalled_seconds=5.0),
            Step("compare", of.compare, harmless=_AGAIN, pausable=False, timeout_seconds=None),
            Step("promote", of.promote, pivot=True, pausable=False),
            Step("activate", of.activate, skippable=True, timeout_seconds=None, stalled_seconds=30.0),
            Step("complete", of.complete),
        ),
        window="close",
        window_seconds=of.seconds,
        saga=of.saga,
        root=of.root,
        start=of.start,
        number=of.number,
        facts=of.facts,
        begins=of.begins,
        verbs=("abort", "skip", "retry", "force-complete"),
    )
