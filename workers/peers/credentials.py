"""What controllers prove to each other over HTTP, in the header `Muster-Peer`. Pure.

A request's is `NUMBER DIGEST PROOF`. The proof is over its method, its path, the name of the process that it is for, the number
of the newest sign of life of that process, and the digest (SHA-256) of its body. So a recorded request is worthless for any
other process, also for the next one at the same address, and soon for the same one; and who has no key is refused before its
body is read. An answer's is a proof over the request's header, the status and the body.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from workers.peers.cluster_key import ClusterKey
from workers.peers.roll_call import RollCall

PROOF_HEADER: Final = "muster-peer"
signs_back_max: Final = 200
"""So many signs of life, 30 s, may have been sent since the one that a request names: longer than a request may take."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The proofs of one controller."""

    key: ClusterKey
    roll: RollCall

    def request(self, to: str, method: str, path: str, body: bytes) -> str:
        """The header of a request to the controller of that name."""
        number, digest = str(self.roll.newest(to)), sha256(body).hexdigest()
        return f"{number} {digest} {self.key.proof('request', method, path, to, number, digest)}"

    def admitted(self, header: str | None, method: str, path: str) -> Callable[[bytes], bool] | None:
        """What judges the body of a request to us with this header; None: it is not by a peer, or not for us, or not of now."""
        number, _, rest = (header or "").partition(" ")
        digest, _, proof = rest.partition(" ")
        if not self.key.proves(proof, "request", method, path, self.roll.self_.name, number, digest):
            return None
        # A peer has made it, so the number is one.
        if self.roll.sent - int(number) > signs_back_max:
            return None
        return lambda body: sha256(body).hexdigest() == digest

    def answer(self, request: str, status: int, body: bytes) -> str:
        """The header of the answer to the request with that header."""
        return self.key.proof("answer", request, str(status), body)

    def is_answer(self, proof: str | None, request: str, status: int, body: bytes) -> bool:
        """Whether a peer has given this answer to our request."""
        return self.key.proves(proof, "answer", request, str(status), body)
