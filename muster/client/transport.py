"""Requests to a controller: retries with the same command id, problems as exceptions, the newest token kept.

A `Transient` problem, a refused connection or a silent controller is tried again, with backoff and jitter, until
`timeout_seconds` are over. A write that may have reached a controller ends with `Timeout`, which carries its
`command_id`: retry with it to learn the outcome. One that has reached none ends with `Unreachable` or `NotReady`.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote

import aiohttp
import orjson

from muster.wire.backoff import pause_seconds
from muster.wire.error import InvalidCommand, MusterError, Timeout, Transient, Unreachable
from muster.wire.problem import error_from

BACKOFF_FIRST_SECONDS: Final = 0.05
BACKOFF_MAX_SECONDS: Final = 1.0
# Less than a call's whole time (10 s unless given otherwise): after a connection that hangs there is time for another
# one.
ATTEMPT_SECONDS_MAX: Final = 6.0
# Three heartbeats of a watch, which the controller sends every 15 s.
IDLE_SECONDS_MAX: Final = 45.0
TOKEN: Final = "Muster-Token"
Consistency = Literal["eventual", "session", "causal", "strong"]


@dataclass(frozen=True, slots=True)
class HttpReply:
    """Body and headers of a successful answer."""

    body: bytes
    headers: Mapping[str, str]


class Transport:
    """One connection pool to the controller at `url`; `token` is merged from all tokens seen so far."""

    def __init__(self, url: str, *, actor: str | None, timeout_seconds: float) -> None:
        self.url = url.rstrip("/")
        self.timeout_seconds = timeout_seconds
        self.token = ""
        self._actor = actor
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool; nothing is sent yet."""
        headers = {"Muster-Actor": _header("actor", self._actor)} if self._actor else {}
        # No limit on connections: each watch keeps one for as long as it lives, and must not take it from other calls.
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector, headers=headers, trust_env=True)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def observe(self, token: str) -> None:
        """Keep the newest position of each partition."""
        if token and token != self.token:
            self.token = merged(self.token, token)

    async def read(self, path: str, query: Mapping[str, str], consistency: Consistency) -> bytes:
        """GET. With `consistency` session the token is sent along, and the controller waits until its view is as new."""
        query = dict(query)
        headers: dict[str, str] = {}
        if consistency in ("session", "causal"):
            # Without a token there is nothing to wait for: the read is `eventual`, which is what the controller takes
            # when it is told nothing.
            if self.token:
                headers[TOKEN] = self.token
                query["consistency"] = consistency
        elif consistency != "eventual":
            query["consistency"] = consistency
        return (await self._until_answered("GET", path, query, headers, None, None)).body

    async def write(
        self,
        method: str,
        path: str,
        body: object | None,
        *,
        command_id: str,
        reason: str | None = None,
        expected_version: int | None = None,
    ) -> HttpReply:
        """PUT, POST or DELETE, with the same command id at every try."""
        headers = {"Idempotency-Key": _header("command_id", command_id)}
        if reason is not None:
            headers["Muster-Reason"] = _header("reason", reason)
        if expected_version is not None:
            headers["If-Match"] = f'"{expected_version}"'
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else orjson.dumps(body)
        return await self._until_answered(method, path, {}, headers, data, command_id)

    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """The body of a server-sent event stream. Raises a problem, or Unreachable, also when the stream breaks off."""
        headers = {"Accept": "text/event-stream", **headers}
        limits = aiohttp.ClientTimeout(total=None, sock_connect=ATTEMPT_SECONDS_MAX, sock_read=IDLE_SECONDS_MAX)
        try:
            async with self._pool.get(f"{self.url}{path}", params=query, headers=headers, timeout=limits) as response:
                if response.status != 200:
                    raise _problem(response.status, await response.read())
                yield response.content
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{self.url} broke the watch off: {_said(error)}") from error

    async def _until_answered(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        headers: dict[str, str],
        data: bytes | None,
        command_id: str | None,
    ) -> HttpReply:
        ends_at = time.monotonic() + self.timeout_seconds
        maybe_done, tries = False, 0
        while True:
            try:
                return await self._once(method, path, query, headers, data, ends_at - time.monotonic())
            except Transient as error:
                # One try that may have arrived is enough: later refusals of a connection say nothing about it.
                maybe_done = maybe_done or isinstance(error, Timeout)
                pause = backoff_seconds(tries)
                if time.monotonic() + pause >= ends_at:
                    raise _final(error, command_id, maybe_done=maybe_done) from error
            tries += 1
            await asyncio.sleep(pause)

    async def _once(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        headers: dict[str, str],
        data: bytes | None,
        left_seconds: float,
    ) -> HttpReply:
        limits = aiohttp.ClientTimeout(total=max(0.01, min(left_seconds, ATTEMPT_SECONDS_MAX)))
        try:
            async with self._pool.request(
                method, f"{self.url}{path}", params=query, headers=headers, data=data, timeout=limits
            ) as response:
                body = await response.read()
                # Before the status is looked at: a refusal has a token too, of the state that it was judged by.
                self.observe(response.headers.get(TOKEN, ""))
                if response.status >= 400:
                    raise _problem(response.status, body)
                return HttpReply(body, response.headers)
        # There was no connection, so nothing was sent. With any other failure a write may have arrived.
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(f"no controller answers at {self.url}: {_said(error)}", url=self.url) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            detail = f"{self.url} gave no answer to {method} {path}: {_said(error)}"
            raise (Unreachable(detail) if data is None and method == "GET" else Timeout(detail)) from error

    @property
    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is not open: use `async with Client(…)`")
        return self._session


def backoff_seconds(tries: int) -> float:
    """A random pause that doubles with the tries: half to all of 50 ms, 100 ms, … up to 1 s."""
    return pause_seconds(tries, BACKOFF_FIRST_SECONDS, BACKOFF_MAX_SECONDS, random.random())


def path_of(*parts: str) -> str:
    """`/v1/…`, each part quoted."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def parse_token(text: str) -> dict[int, int]:
    """`0:1234,3:17` as positions by partition. Raises InvalidCommand."""
    try:
        return {int(left): int(right) for left, _, right in (pair.partition(":") for pair in text.split(",") if pair)}
    except ValueError:
        raise InvalidCommand(f"{text!r} is no token; it looks like 0:1234,3:17", field="token") from None


def merged(one: str, other: str) -> str:
    """The token that is as new as both."""
    positions = parse_token(one)
    for partition, position in parse_token(other).items():
        positions[partition] = max(position, positions.get(partition, -1))
    return ",".join(f"{partition}:{position}" for partition, position in sorted(positions.items()))


def _header(field: str, value: str) -> str:
    if not value.isprintable():
        raise InvalidCommand(f"{field}: must be one line of printable characters", field=field)
    return value


def _problem(status: int, body: bytes) -> MusterError:
    try:
        problem: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        problem = None
    if isinstance(problem, dict) and str(problem.get("type", "")).startswith("urn:muster:"):
        return error_from(problem)
    what = f"answered {status} without a problem of ours; is there a proxy before it?"
    return Unreachable(f"the controller {what}") if status in (502, 503, 504) else MusterError(f"the controller {what}")


def _final(error: Transient, command_id: str | None, *, maybe_done: bool) -> Transient:
    if command_id is None or not maybe_done:
        return error
    detail = f"the outcome is unknown, retry with the command id {command_id}: {error.detail}"
    return Timeout(detail, **{**error.context, "command_id": command_id})


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
