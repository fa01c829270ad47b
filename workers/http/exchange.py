"""One request and its reply, on plain ASGI."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from muster.wire.error import InvalidCommand, MusterError, TooLarge
from muster.wire.problem import facts_of, field_chars_max, problem_from
from workers.http.asgi import Receive, Scope, Send
from workers.writer.published import check_name, check_nul, parsed_json

Headers = list[tuple[bytes, bytes]]
Level = Literal["eventual", "session", "causal", "strong"]

body_bytes_max: Final = 1_048_576
slice_bytes_max: Final = 65_536
JSON_OPTIONS: Final = orjson.OPT_UTC_Z
_JSON: Final = (b"content-type", b"application/json")
_PROBLEM: Final = (b"content-type", b"application/problem+json")


class Reading(BaseModel):
    """How current an answer has to be, and how long to wait for that."""

    model_config = ConfigDict(extra="forbid")
    consistency: Level = "eventual"
    timeout_seconds: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 5.0


EVENTUAL: Final = Reading()
NO_NAMES: Final[Mapping[str, int]] = {}
Asked = TypeVar("Asked", bound=BaseModel)


class Request:
    """A request under way. `parts` are those of its path, and `names` says by what they name where the names are among them."""

    __slots__ = ("_headers", "_names", "_parts", "receive", "scope", "send")

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, parts: Sequence[str] = (), names: Mapping[str, int] = NO_NAMES
    ) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self._parts, self._names = parts, names
        self._headers: dict[bytes, bytes] | None = None

    @property
    def host(self) -> str:
        """The address that the request comes from, without the port; empty where the transport has none."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    def header(self, name: bytes) -> str | None:
        """The header's text (`name` in lower case): UTF-8, or Latin-1 as HTTP once had it."""
        if self._headers is None:
            # Of a header that was sent more than once, the last one counts.
            self._headers = dict(self.scope["headers"])
        value = self._headers.get(name)
        if value is None:
            return None
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode("latin-1")

    def query(self) -> dict[str, str]:
        """The query's parameters. Raises InvalidCommand for one that is given twice: nobody can know which is meant."""
        # Latin-1 takes any byte. What follows percent signs is read as UTF-8 by parse_qsl.
        pairs = parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            name = next(name for name in names if names.count(name) > 1)[:field_chars_max]
            raise InvalidCommand(f"{name}: it stands in the query more than once", field=name)
        return found

    def reading(self) -> Reading:
        """The reading that the query asks for. Raises InvalidCommand, also for unknown parameters."""
        return reading_from(self.query()) if self.scope["query_string"] else EVENTUAL

    def asked(self, model: type[Asked]) -> Asked:
        """The query's parameters as this model. Raises InvalidCommand, also for unknown parameters."""
        return query_from(self.query(), model)

    def name(self, what: str) -> str:
        """The name in the path. Raises InvalidCommand when it is none."""
        name = self._parts[self._names[what]]
        check_name(what, name)
        return name

    def number(self, what: str) -> int:
        """The number in the path. Raises InvalidCommand when it is none."""
        text = self._parts[self._names[what]]
        # `isdigit` alone takes superscripts too, on which `int` fails; 18 digits fit into 64 bits.
        if not (text.isascii() and text.isdecimal() and len(text) <= 18):
            raise InvalidCommand(f"{what}: {text[:40]!r} is no number", field=what)
        return int(text)

    async def body(self, bytes_max: int = body_bytes_max) -> bytes:
        """The whole body. Raises TooLarge as soon as it is known to be, and InvalidCommand when it breaks off."""
        message = await self.receive()
        parts, size = [message.get("body", b"")], len(message.get("body", b""))
        while message.get("more_body") and size <= bytes_max:
            message = await self.receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        if message["type"] == "http.disconnect" and (
            self.header(b"content-length") or self.header(b"transfer-encoding")
        ):
            # What has come may be a whole document by chance, or none, which is one too: it is not what was meant.
            raise InvalidCommand("the body broke off before its end", field="body")
        if size > bytes_max:
            raise TooLarge(f"a body may have {bytes_max} bytes here", bytes_max=bytes_max)
        return b"".join(parts)

    async def fields(self, *, unjudged: str | None = None) -> dict[str, Any]:
        """The body's JSON object; no body is an empty one. `unjudged` names the list whose entries the caller judges one by
        one, for NULs too. Raises InvalidCommand or TooLarge.
        """
        body = await self.body()
        found, escaped = parsed_json(body) if body else ({}, False)
        if escaped:
            check_nul(
                {name: value for name, value in found.items() if name != unjudged} if isinstance(found, dict) else found
            )
        if not isinstance(found, dict):
            raise InvalidCommand("the body must be a JSON object", field="body")
        return found


def reading_from(query: dict[str, str]) -> Reading:
    """The reading that the parameters ask for. Raises InvalidCommand."""
    return query_from(query, Reading)


def query_from(query: dict[str, str], model: type[Asked]) -> Asked:
    """The parameters as this model. Raises InvalidCommand."""
    try:
        return model.model_validate(query)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = str(first["loc"][0])
        raise InvalidCommand(f"{name}: {first['msg']}", field=name) from None


@dataclass(frozen=True, slots=True)
class Items:
    """Encoded items of one JSON array, in groups that are joined only while they are sent; `size` is that of all, with commas.

    Answers share the items: a thousand clients that do not read hold them once.
    """

    groups: Sequence[Sequence[bytes]]
    size: int

    @classmethod
    def of(cls, items: Iterable[bytes]) -> "Items":
        """These items."""
        groups: list[list[bytes]] = []
        size = left = 0
        for item in items:
            if left <= 0:
                group: list[bytes] = []
                groups.append(group)
                left = slice_bytes_max
            group.append(item)
            left -= len(item)
            size += len(item) + 1
        if len(groups) == 1:
            # What is sent at once anyway is joined once.
            return cls(((b",".join(groups[0]),),), size - 1)
        return cls(groups, max(0, size - 1))


NO_ITEMS: Final = Items((), 0)


@dataclass(slots=True)
class Reply:
    """An answer, whole: the body, or a list's: the body up to its items, these, and the `end` behind them."""

    body: bytes
    status: int = 200
    headers: Headers = field(default_factory=list)
    media: tuple[bytes, bytes] = _JSON
    items: Items = NO_ITEMS
    end: bytes = b""

    async def send(self, send: Send) -> None:
        """Send it; a long one in slices, each of them once the client has read most of those before."""
        size = len(self.body) + self.items.size + len(self.end)
        headers = [self.media, (b"content-length", b"%d" % size), *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if size <= slice_bytes_max:
            body = b"".join((self.body, *map(b",".join, self.items.groups), self.end))
            await send({"type": "http.response.body", "body": body})
            return
        for piece in self._slices():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": self.end})

    def _slices(self) -> Iterator[bytes]:
        for first in range(0, len(self.body), slice_bytes_max):
            yield self.body[first : first + slice_bytes_max]
        between = b""
        for group in self.items.groups:
            yield between + b",".join(group)
            between = b","


def problem(error: dict[str, Any], headers: Headers | None = None) -> Reply:
    """An RFC 9457 problem from `{name, detail, status, …}`; what else the error says stands beside them."""
    status, headers = error["status"], headers or []
    # Both may pass by themselves, so the answer says when to try again.
    if status in (503, 504):
        headers = [*headers, (b"retry-after", b"1")]
    return Reply(orjson.dumps(problem_from(error)), status, headers, _PROBLEM)


def problem_of(error: MusterError) -> Reply:
    """An error of ours as a problem."""
    return problem(facts_of(error))
