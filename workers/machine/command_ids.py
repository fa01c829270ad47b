"""The newest command ids with their answers: what makes commands idempotent."""

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from domain.catalogue import Answer
from muster.wire.command import Envelope

generation_ids_max: Final = 100_000
# Hash of the content, status, position, version, incarnation; -1 stands for none.
_PACKED: Final = struct.Struct("<8sBqqq")
Piece = Callable[[], Iterable[tuple[str, str]]]
"""Gives ids with their packed answers in hex, oldest first."""

_STATUSES: Final = ("accepted", "unchanged", "refused")


def content_hash(envelope: Envelope) -> str:
    """16 hex digits over what the command asks: type, stream, expected version and data."""
    command = envelope.command
    head = f"{command.type}\n{envelope.stream}\n{envelope.expected_version}\n".encode()
    return sha256(head + command.__pydantic_serializer__.to_json(command)).digest()[:8].hex()


def packed_acceptance(content: str, position: int, version: int, incarnation: int | None) -> bytes:
    """An acceptance as it is kept."""
    return _PACKED.pack(bytes.fromhex(content), 0, position, version, -1 if incarnation is None else incarnation)


class CommandIds:
    """At least the newest `ids_max` ids of a partition (200,000), packed: about 200 bytes each.

    Kept as generations of 100,000: dropping the oldest one is dropping a dictionary. What a snapshot kept is taken in when it is
    asked for, or by `settle`: a reader needs no ids.
    """

    def __init__(self, partition: int, ids_max: int = 200_000) -> None:
        self._partition = partition
        self._generation_max = min(generation_ids_max, max(ids_max // 2, 1))
        # One generation more than `ids_max` needs: the newest one is rarely full, and the others have to suffice
        # without it.
        self._generations: deque[dict[str, bytes]] = deque([{}], maxlen=-(-ids_max // self._generation_max) + 1)
        self._since: deque[datetime | None] = deque([None], maxlen=self._generations.maxlen)
        self._errors: dict[str, dict[str, Any]] = {}
        self._answers = False
        self._owed: deque[Piece] = deque()
        self._restored: list[dict[str, bytes]] = []
        self._restored_since: datetime | None = None

    def remember(self, answers: Iterable[tuple[Answer, str]], at: datetime) -> None:
        """Keep the answers of one group under their ids, each with the content hash of its command."""
        generation, pack = self._newest(at), _PACKED.pack
        self._answers = True
        for answer, content in answers:
            id_, version, incarnation = answer.id, answer.version, answer.incarnation
            self._forget(generation, id_)
            generation[id_] = pack(
                bytes.fromhex(content),
                _STATUSES.index(answer.status),
                answer.position,
                -1 if version is None else version,
                -1 if incarnation is None else incarnation,
            )
            if answer.error is not None:
                self._errors[id_] = answer.error

    def accepted(self, acceptances: Mapping[str, bytes], at: datetime) -> None:
        """Keep what one batch of the log says was accepted, by id, packed, from `at` on. One update of the generation: half
        the time of one by one, which a replay spends on every event.
        """
        generation = self._newest(at)
        if self._answers:
            for id_ in acceptances:
                self._forget(generation, id_)
        generation.update(acceptances)

    def _forget(self, generation: dict[str, bytes], id_: str) -> None:
        """Forget an older answer to the id. Only its writer knows that a command was unchanged or refused, so another writer
        may have accepted a repeat of it; the id then counts as new as that acceptance.
        """
        generation.pop(id_, None)
        if self._errors:
            self._errors.pop(id_, None)

    def _newest(self, at: datetime) -> dict[str, bytes]:
        """The generation that takes ids in; a new one if it is full."""
        generation = self._generations[-1]
        if len(generation) >= self._generation_max:
            if len(self._generations) == self._generations.maxlen:
                # The append below drops the oldest generation. Errors are kept beside it, so they have to be dropped
                # here.
                for old in self._generations[0].keys() & self._errors.keys():
                    del self._errors[old]
            generation = {}
            self._generations.append(generation)
            self._since.append(at)
        elif self._since[-1] is None:
            self._since[-1] = at
        return generation

    def recall(self, id_: str) -> tuple[Answer, str] | None:
        """The answer given to this id, and the content hash of its command; None: not in the window."""
        if self._owed:  # A field and not a call: every command passes here.
            self._settle_all()
        for generation in reversed(self._generations):
            packed = generation.get(id_)
            if packed is not None:
                return self._answer(id_, packed)
        return None

    def since(self) -> datetime | None:
        """The instant from which on every id is remembered."""
        return self._restored_since if self._owed else self._since[0]

    def __len__(self) -> int:
        self._settle_all()
        return sum(map(len, self._generations))

    def recorded(self) -> Iterator[tuple[str, str]]:
        """The accepted ids, oldest first, each with its packed answer in hex: what a snapshot keeps for `restore`."""
        self._settle_all()
        for generation in self._generations:
            for id_, packed in generation.items():
                # Byte 8 is the status, 0 an acceptance. Other answers are not in the log, so a snapshot has none either.
                if packed[8] == 0:
                    yield id_, packed.hex()

    def restore(self, pieces: Iterable[Piece], since: datetime) -> None:
        """Keep what `recorded` gave, in pieces that are read later; all of it counts as remembered from `since` on."""
        self._owed, self._restored_since = deque(pieces), since
        if not self._owed:
            self._newest(since)

    def settle(self) -> Iterator[None]:
        """Take in what was restored, one piece a step; complete when the iterator ends."""
        while self._owed:
            # The piece is owed until it has been taken in: if reading it fails, it is not lost.
            rows = self._owed[0]()
            if not self._restored or len(self._restored[-1]) >= self._generation_max:
                self._restored.append({})
            self._restored[-1].update((id_, bytes.fromhex(packed)) for id_, packed in rows)
            self._owed.popleft()
            if not self._owed:
                self._put_before()
            yield

    def _put_before(self) -> None:
        """What was restored goes before what has come since; one generation joins both, so that none is cut short."""
        older, self._restored = self._restored, []
        older[-1].update(self._generations.popleft())
        self._since.popleft()
        since = [self._restored_since] * len(older)
        self._generations = deque([*older, *self._generations], maxlen=self._generations.maxlen)
        self._since = deque([*since, *self._since], maxlen=self._since.maxlen)

    def _settle_all(self) -> None:
        for _ in self.settle():
            pass

    def _answer(self, id_: str, packed: bytes) -> tuple[Answer, str]:
        content, status, position, version, incarnation = _PACKED.unpack(packed)
        answer = Answer(
            id_,
            _STATUSES[status],
            self._partition,
            position,
            None if version < 0 else version,
            None if incarnation < 0 else incarnation,
            self._errors.get(id_),
        )
        return answer, content.hex()
