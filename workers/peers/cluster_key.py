"""Proofs that something was said by a holder of the cluster's key: HMAC-SHA256 (RFC 2104) over all that was said. Pure.

What is proven is named first, so a proof of one thing is none of another; each part stands behind its length, so none can
be moved into its neighbour.
"""

import hmac
from collections.abc import Iterator


class ClusterKey:
    """The key that the controllers of one log share. `secret` are its bytes."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def proof(self, of: str, *parts: str | bytes) -> str:
        """64 hexadecimal digits that only who has the key can say about these parts of an `of`."""
        said = b"".join(_framed((f"muster {of} 1", *parts)))
        return hmac.digest(self._secret, said, "sha256").hex()

    def proves(self, proof: object, of: str, *parts: str | bytes) -> bool:
        """Whether the proof is that of these parts. `proof` may be anything that somebody has sent."""
        if not isinstance(proof, str):
            return False
        # In constant time: how long a comparison takes would tell how much of a guess is right.
        return hmac.compare_digest(proof.encode("utf-8", "replace"), self.proof(of, *parts).encode())


def _framed(parts: tuple[str | bytes, ...]) -> Iterator[bytes]:
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        yield len(raw).to_bytes(8)
        yield raw
