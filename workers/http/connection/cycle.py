"""One request and its answer, whose head leaves together with the first of its body.

uvicorn sends a head alone, as soon as it has it: a system call more for us, and one more for the client, who is woken by a head.
ASGI wants it as it is here: nothing is sent before the application has given a part of the body, though it may be empty. A
stream that has nothing to say yet gives such a part.
"""

from collections.abc import Sequence

from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

from workers.http.asgi import Message


class Cycle(RequestResponseCycle):
    """uvicorn's, but for how it sends."""

    _head = b""

    async def send(self, message: Message) -> None:  # type: ignore[override]  # uvicorn has a class for each message.
        """See ASGI."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.start" and not self.response_started:
            # Until it is sent, another head may take its place: that of the answer that the application has failed.
            self._start(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and (self._head or self.response_started) and not self.response_complete:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind} is out of turn")

    def _start(self, status: int, given: Sequence[tuple[bytes, bytes]]) -> None:
        self.waiting_for_100_continue = False
        headers = [*self.default_headers, *given]
        # One look at all of them: a line's end within a name or a value would begin another header, or another answer.
        if HEADER_RE.search(b"".join([name for name, _ in headers])) or HEADER_VALUE_RE.search(
            b"".join([value for _, value in headers])
        ):
            raise RuntimeError("a header has characters that none may have")
        said = dict(headers)
        if said.get(b"connection") == b"close":
            self.keep_alive = False
        elif not self.keep_alive:
            headers.append((b"connection", b"close"))
        length = said.get(b"content-length")
        self.expected_content_length = 0 if length is None else int(length)
        self.chunked_encoding = length is None and self.scope["method"] != "HEAD" and status not in (204, 304)
        if self.chunked_encoding:
            headers.append((b"transfer-encoding", b"chunked"))
        self._head = b"%b%b\r\n" % (STATUS_LINE[status], b"".join([b"%b: %b\r\n" % header for header in headers]))

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length, body = 0, b""
        elif self.chunked_encoding:
            # A chunk of no bytes would be the end.
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0 or (self.expected_content_length and not more):
                raise RuntimeError("the body has another length than the head says")
        if self._head:
            self.transport.writelines((self._head, body))
            self._head, self.response_started = b"", True
        else:
            self.transport.write(body)
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()
