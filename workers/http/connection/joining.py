"""A transport over which a response's head leaves together with its body.

uvicorn writes them apart, and uvloop sends at once what is written: a system call more for us, and one more for the client, who
is woken by a head alone.
"""

import asyncio
from typing import Any, Final

_HEAD: Final = b"HTTP/1.1 "


class Joining(asyncio.Transport):
    """What uvicorn asks of a transport, over the one below.

    A head waits for the write that follows it, but only until the loop's next turn: a stream may have nothing to say for
    long. All else leaves at once.
    """

    def __init__(self, below: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._below, self._loop = below, loop
        self._head: bytes | bytearray | memoryview = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See asyncio."""
        if self._head:
            head, self._head = self._head, b""
            self._below.writelines((head, data))
        elif data[: len(_HEAD)] == _HEAD:
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._below.write(data)

    def _flush(self) -> None:
        if self._head and not self._below.is_closing():
            self._below.write(self._head)
        self._head = b""

    def close(self) -> None:
        """See asyncio."""
        # A head that still waits would be lost with the connection.
        self._flush()
        self._below.close()

    def is_closing(self) -> bool:
        """See asyncio."""
        return self._below.is_closing()

    def abort(self) -> None:
        """See asyncio."""
        self._head = b""
        self._below.abort()

    def get_write_buffer_size(self) -> int:
        """See asyncio."""
        return len(self._head) + self._below.get_write_buffer_size()

    def pause_reading(self) -> None:
        """See asyncio."""
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """See asyncio."""
        self._below.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See asyncio."""
        return self._below.get_extra_info(name, default)
