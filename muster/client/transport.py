"""Requests to a controller: retries with the same command id, problems as exceptions, the newest token kept.

A `Transient` problem, a refused connection or a silent controller is tried again, at the next controller if there is another,
with backoff and jitter once all have failed, until `timeout_seconds` are over. A write that may have reached a controller ends
with `Timeout`, which carries its `command_id`: retry with it to learn the outcome. One that has reached none ends with
`Unreachable` or `NotReady`.

What answers without being the controller that is meant (a proxy, a stranger's server, a controller of another cluster) is not
believed, its redirects are not followed, and the next controller is asked.

When the log is another one than the token's (it was lost, or a backup was put in its place), what this client has seen and
written there is gone. It says so in its log, forgets the token, and goes on with what there is.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote

import aiohttp
import orjson

from muster.client.controllers.known import KnownControllers, Misdirected, Way
from muster.client.controllers.learning import keep_learning
from muster.durations import seconds_from
from muster.wire.command import encoded
from muster.wire.controllers import urls_of
from muster.wire.error import InvalidCommand, MusterError, OtherLog, Timeout, Transient, Unreachable
from muster.wire.problem import error_from
from muster.wire.token import format_token, merged, parse_token, without

# Less than a call's whole time (10 s unless given otherwise): after a connection that hangs there is time for another
# one.
ATTEMPT_SECONDS_MAX: Final = 6.0
# A call that was given up after so long has shown that its controller is silent.
SILENT_SECONDS: Final = 0.5
# A host that is lost answers no packet. Two tries of TCP, of which the second comes after a second.
CONNECT_SECONDS_MAX: Final = 2.0
# The controller may wait for its views twice before it begins to answer, each time for at most 5 s.
WATCH_BEGINS_SECONDS_MAX: Final = 12.0
# Three heartbeats of a watch, which the controller sends every 15 s.
IDLE_SECONDS_MAX: Final = 45.0
LOG: Final = logging.getLogger("muster.client")
TOKEN: Final = "Muster-Token"
MISDIRECTED: Final = 421
Consistency = Literal["eventual", "session", "causal", "strong"]


@dataclass(frozen=True, slots=True)
class HttpReply:
    """Body and headers of a successful answer."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A request, as it goes to whichever controller is asked."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    data: bytes | None = None
    command_id: str | None = None


class Transport:
    """One connection pool to the controllers at `url`: one address, or several (see `muster.wire.controllers.urls_of`).

    `cluster`: the one that is meant; controllers of another one are not asked for anything. `token` is merged from all tokens
    seen so far. Proxies and credentials of the environment (HTTP_PROXY, ~/.netrc) are used with MUSTER_TRUST_ENV=1 alone.
    """

    def __init__(
        self, url: str | Sequence[str], *, actor: str | None, timeout_seconds: float, cluster: str | None = None
    ) -> None:
        self.controllers = KnownControllers(urls_of(url))
        self.timeout_seconds = seconds_from(timeout_seconds, "timeout_seconds")
        self.token = ""
        said = {"Muster-Actor": ("actor", actor), "Muster-Cluster": ("cluster", cluster)}
        self._headers = {name: _header(field, value) for name, (field, value) in said.items() if value}
        self._session: aiohttp.ClientSession | None = None
        self._stale = False
        self._learning: asyncio.Task[None] | None = None
        self._streams: dict[aiohttp.ClientResponse, str] = {}

    @property
    def url(self) -> str:
        """The address of the controller that is asked first."""
        return self.controllers.first

    async def open(self) -> None:
        """Make the pool; nothing is sent yet."""
        # No limit on connections: each watch keeps one for as long as it lives, and must not take it from other calls.
        connector = aiohttp.TCPConnector(limit=0)
        trusted = os.environ.get("MUSTER_TRUST_ENV", "").lower() in ("1", "true", "yes")
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers, trust_env=trusted)

    async def close(self) -> None:
        """Close all connections."""
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.wait([self._learning])
            self._learning = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    def observe(self, token: str) -> None:
        """Keep the newest place of each partition."""
        if token and token != self.token:
            self.token = format_token(merged(parse_token(self.token), parse_token(token)))

    def forget(self, partition: int | None = None) -> None:
        """What the token says of the partition (None: of all) was seen in another log: it counts no more."""
        token = parse_token(self.token)
        left = {} if partition is None else without(token, (partition,))
        if left != token:
            LOG.warning("the log is another one than before: what this client knew of it is forgotten")
            self.token = format_token(left)

    async def read(self, path: str, query: Mapping[str, str], consistency: Consistency) -> bytes:
        """GET. With `consistency` session the token is sent along, and the controller waits until its view is as new.

        Raises OtherLog when that is `causal` and the log is another one than the token's; session goes on with the new one.
        """
        while True:
            sent = self.token
            try:
                return await self._read(path, query, consistency)
            except OtherLog as error:
                # Another call may have begun anew meanwhile: then its token is the one to be tried.
                if self.token == sent:
                    partition = error.context.get("partition")
                    self.forget(None if partition is None else int(partition))
                    if consistency == "causal" or self.token == sent:
                        raise

    async def _read(self, path: str, query: Mapping[str, str], consistency: Consistency) -> bytes:
        query = dict(query)
        headers: dict[str, str] = {}
        if consistency in ("session", "causal"):
            # Without a token there is nothing to wait for: the read is `eventual`, which is what the controller takes
            # when nothing else is asked.
            if self.token:
                headers[TOKEN] = self.token
                query["consistency"] = consistency
        elif consistency != "eventual":
            query["consistency"] = consistency
        asked = _Asked(method="GET", path=path, query=query, headers=headers)
        return (await self._until_answered(asked, self.timeout_seconds)).body

    async def write(
        self,
        method: str,
        path: str,
        body: object | None,
        *,
        command_id: str,
        reason: str | None = None,
        expected_version: int | None = None,
        timeout_seconds: float | None = None,
    ) -> HttpReply:
        """PUT, POST or DELETE, with the same command id at every try. `timeout_seconds`: not those of the transport."""
        headers = {"Idempotency-Key": _header("command_id", command_id)}
        if reason is not None:
            headers["Muster-Reason"] = _header("reason", reason)
        if expected_version is not None:
            headers["If-Match"] = f'"{expected_version}"'
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else encoded(body)
        asked = _Asked(method=method, path=path, query={}, headers=headers, data=data, command_id=command_id)
        return await self._until_answered(asked, self.timeout_seconds if timeout_seconds is None else timeout_seconds)

    @asynccontextmanager
    async def stream(
        self, url: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """The body of a server-sent event stream of the controller at `url`.

        Raises a problem, Misdirected, or Unreachable, also when the stream breaks off.
        """
        headers = {"Accept": "text/event-stream", **headers}
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX, sock_read=IDLE_SECONDS_MAX)
        try:
            # A controller that is stopped still takes connections, and never says a word on them.
            async with asyncio.timeout(WATCH_BEGINS_SECONDS_MAX):
                response = await self._pool.get(
                    f"{url}{path}", params=query, headers=headers, timeout=limits, allow_redirects=False
                )
            async with response:
                if response.status != 200:
                    raise _problem(url, response.status, await response.read())
                self._heard()
                self._streams[response] = url
                try:
                    yield response.content
                finally:
                    del self._streams[response]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{url} broke the watch off: {_said(error)}") from error

    async def _until_answered(self, asked: _Asked, seconds: float) -> HttpReply:
        ends_at = time.monotonic() + seconds
        way, maybe_done = Way(self.controllers), False
        while True:
            url, left = way.url, ends_at - time.monotonic()
            # A silent controller must leave time for the others.
            limit = min(left if way.is_last else left / 2, ATTEMPT_SECONDS_MAX)
            try:
                reply = await self._once(url, asked, limit)
            except (Transient, Misdirected) as error:
                # One try that may have arrived is enough: later refusals of a connection say nothing about it.
                maybe_done = maybe_done or isinstance(error, Timeout)
                pause = way.failed(url, error)
            except asyncio.CancelledError:
                # The caller has waited long enough, for a controller that may be stopped: its next call begins at another.
                if time.monotonic() + left - ends_at >= SILENT_SECONDS:
                    self.controllers.failed(url)
                raise
            else:
                way.answered(url)
                self._heard()
                return reply
            if time.monotonic() + pause >= ends_at:
                raise _final(way.trouble, asked.command_id, maybe_done=maybe_done)
            await asyncio.sleep(pause)

    async def _once(self, url: str, asked: _Asked, seconds: float) -> HttpReply:
        limits = aiohttp.ClientTimeout(total=max(0.01, seconds), sock_connect=CONNECT_SECONDS_MAX)
        try:
            async with self._pool.request(
                asked.method,
                f"{url}{asked.path}",
                params=asked.query,
                headers=asked.headers,
                data=asked.data,
                timeout=limits,
                allow_redirects=False,
            ) as response:
                body = await response.read()
                # Before the status is looked at: a refusal that rests on an old view is no surer than a list.
                self._judge_age(url, response.headers)
                if response.status >= 300:
                    problem = _problem(url, response.status, body)
                    # A refusal has a token too, of the state that it was judged by.
                    self.observe(response.headers.get(TOKEN, ""))
                    if isinstance(problem, Unreachable) and asked.method != "GET":
                        raise Timeout(problem.detail)
                    raise problem
                self.observe(response.headers.get(TOKEN, ""))
                return HttpReply(body, response.headers)
        # There was no connection, so nothing was sent. With any other failure a write may have arrived.
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unreachable(f"no controller answers at {url}: {_said(error)}", url=url) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            detail = f"{url} gave no answer to {asked.method} {asked.path}: {_said(error)}"
            raise (Unreachable(detail) if asked.method == "GET" else Timeout(detail)) from error

    def _judge_age(self, url: str, headers: Mapping[str, str]) -> None:
        """Say in the log when answers begin to rest on what may long have changed, and when they do so no more."""
        if "Muster-Age" not in headers:
            return
        stale = headers.get("Muster-Stale") == "true"
        facts = {"url": url, "age_seconds": headers["Muster-Age"]}
        if stale and not self._stale:
            LOG.warning("answers are stale", extra=facts)
        elif self._stale and not stale:
            LOG.info("answers are current again", extra=facts)
        self._stale = stale

    def _heard(self) -> None:
        """A controller has answered: from now on it is asked which others there are."""
        if self._learning is None and self._session is not None:
            learning = keep_learning(
                self.controllers, self._ask_who, lambda: set(self._streams.values()), self._break_off
            )
            self._learning = asyncio.create_task(learning, name="controllers")

    def _break_off(self, url: str) -> None:
        """Close the streams of a controller that is silent: their readers go on at another one."""
        for response in [response for response, where in self._streams.items() if where == url]:
            response.close()

    async def _ask_who(self, url: str) -> bytes:
        """The live controllers, as the one at `url` names them. Raises MusterError."""
        asked = _Asked(method="GET", path=path_of("controllers"), query={}, headers={})
        try:
            return (await self._once(url, asked, ATTEMPT_SECONDS_MAX)).body
        except Misdirected as stranger:
            raise stranger.error from None

    @property
    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is not open: use `async with Client(…)`")
        return self._session


def path_of(*parts: str) -> str:
    """`/v1/…`, each part quoted; what is no Unicode becomes `?`, which is in no name. Raises InvalidCommand."""
    # They would change the path, and something else would be asked for: with "" all of them in place of one.
    if wrong := [part for part in parts if part in ("", ".", "..")]:
        raise InvalidCommand(f"{wrong[0]!r} is no name: 1 to 128 letters, digits, . _ -")
    return "/v1/" + "/".join(quote(part, safe="", errors="replace") for part in parts)


def _header(field: str, value: str) -> str:
    if not value.isprintable():
        raise InvalidCommand(f"{field}: must be one line of printable characters", field=field)
    return value


def _problem(url: str, status: int, body: bytes) -> MusterError:
    """The problem that a controller has answered with. Raises Misdirected when whoever answers is not the one that is meant."""
    try:
        problem: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        problem = None
    if isinstance(problem, dict) and str(problem.get("type", "")).startswith("urn:muster:"):
        error = error_from(problem)
        # By this status a controller says so itself: it is of another cluster, or does not go by this name.
        if status == MISDIRECTED:
            raise Misdirected(error)
        return error
    detail = f"{url} answered {status} without a problem of ours; is there a proxy before it?"
    # A proxy has lost what it was to pass on, or the answer.
    if status in (502, 503, 504):
        return Unreachable(detail)
    if 300 <= status < 400:
        detail = f"{url} sends to another address ({status}), which is not followed; name the controller itself"
    raise Misdirected(MusterError(detail))


def _final(error: MusterError, command_id: str | None, *, maybe_done: bool) -> MusterError:
    if command_id is None or not maybe_done:
        return error
    detail = f"the outcome is unknown, retry with the command id {command_id}: {error.detail}"
    return Timeout(detail, **{**error.context, "command_id": command_id})


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
