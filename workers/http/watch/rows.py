"""Watches of rows: a change is encoded once, and sent to all who watch it.

Deltas are not kept: a watcher that resumes from an older token gets a snapshot. The watch of instances
(`workers.http.registry.watch`) keeps them, and tells only the fields that changed, since those are many and change often.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from workers.http.watch.frames import NOTHING_MISSED, Resumed, reason_of, rows, snapshot
from workers.http.watch.subscribers import Audience, Subscriber, Topic
from workers.views.views import Views

K = TypeVar("K")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowKind(Generic[K]):
    """Rows that are watched, by their keys.

    `topics`: those whose watchers are sent the row; `encoded`: the row as JSON, None when it is gone; `named`: what
    watchers call a row that is gone (None: rows of this kind stay).
    """

    topics: Callable[[K], Sequence[Topic]]
    encoded: Callable[[K], bytes | None]
    named: Callable[[K], str] | None = None


class RowWatches:
    """The watchers of rows, and what is sent to them."""

    def __init__(self, views: Views, audience: Audience) -> None:
        self._views = views
        self._audience = audience

    def join(
        self, topic: Topic, after: Resumed, items: Iterator[bytes], head: bytes = b""
    ) -> tuple[Subscriber, Iterator[bytes]]:
        """A watcher of the topic and its first frames. `after`: where it resumes; `head`: members of the snapshot before its
        items. Raises NotReady when there are too many watchers, or no more wanted.
        """
        token = self._views.token()
        # Admitted before the first row is read: whatever changes from now on is sent too, however slowly the
        # snapshot is taken.
        subscriber = self._audience.admit(topic, token)
        # Deltas are not kept, so only who stands right here has missed nothing.
        if after == self._views.positions():
            return subscriber, iter([NOTHING_MISSED])
        return subscriber, snapshot(head, token, items, reason_of(after))

    def tell(self, kind: RowKind[K], changed: Iterable[K]) -> None:
        """Tell those who watch the rows of these keys how they are now."""
        of_topic: dict[Topic, tuple[list[bytes], list[str]]] = {}
        for key in changed:
            watched = [topic for topic in kind.topics(key) if topic in self._audience]
            # Most rows are watched by nobody, and are not encoded for nobody.
            item = kind.encoded(key) if watched else None
            for topic in watched:
                items, gone = of_topic.setdefault(topic, ([], []))
                if item is not None:
                    items.append(item)
                elif kind.named is not None:
                    gone.append(kind.named(key))
        token = self._views.token()
        for topic, (items, gone) in of_topic.items():
            self._audience.tell(topic, rows(token, items, None if kind.named is None else gone), token)
