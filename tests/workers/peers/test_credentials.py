"""What one controller proves to another with a request and with its answer."""

import pytest

from tests.workers.peers.test_roll_call import KEY, OTHER_KEY, met, say
from workers.peers.cluster_key import ClusterKey
from workers.peers.credentials import Credentials, signs_back_max

EXECUTE, BODY = "/v1/peer/execute", b'{"id": "c1"}'


def both() -> tuple[Credentials, Credentials]:
    """Those of anna and bert, who have heard each other."""
    anna, bert = met("anna", "bert")
    return Credentials(KEY, anna), Credentials(KEY, bert)


def admits(who: Credentials, header: str | None, method: str = "POST", path: str = EXECUTE, body: bytes = BODY) -> bool:
    judge = who.admitted(header, method, path)
    return judge is not None and judge(body)


def test_a_request_of_a_peer_is_admitted() -> None:
    anna, bert = both()
    assert admits(bert, anna.request("bert", "POST", EXECUTE, BODY))


def test_a_recorded_request_is_worthless_for_another_process_path_method_or_body() -> None:
    anna, bert = both()
    header = anna.request("bert", "POST", EXECUTE, BODY)
    assert not admits(anna, header)
    assert not admits(bert, header, method="PUT")
    assert not admits(bert, header, path="/v1/peer/prove/0")
    assert not admits(bert, header, body=b'{"id": "c2"}')


def test_a_recorded_request_is_soon_worthless_for_the_same_process() -> None:
    anna, bert = both()
    header = anna.request("bert", "POST", EXECUTE, BODY)
    for _ in range(signs_back_max):
        bert.roll.sign("ready")
    assert admits(bert, header)
    bert.roll.sign("ready")
    assert not admits(bert, header)
    say(bert.roll, anna.roll)
    assert admits(bert, anna.request("bert", "POST", EXECUTE, BODY))


@pytest.mark.parametrize("header", [None, "", " ", "1", "1 2", "1 2 3", "1 2 3 4", "x" * 9_000, "1 2 é"])
def test_what_is_no_proof_is_none(header: str | None) -> None:
    assert not admits(both()[1], header)


def test_another_key_proves_nothing() -> None:
    anna, bert = both()
    assert not admits(bert, Credentials(OTHER_KEY, anna.roll).request("bert", "POST", EXECUTE, BODY))


def test_an_answer_is_of_its_request_alone() -> None:
    anna, bert = both()
    header = anna.request("bert", "POST", EXECUTE, BODY)
    proof = bert.answer(header, 200, b"{}")
    assert anna.is_answer(proof, header, 200, b"{}")
    assert not anna.is_answer(proof, header, 409, b"{}")
    assert not anna.is_answer(proof, header, 200, b'{"position": 9}')
    assert not anna.is_answer(proof, anna.request("bert", "POST", EXECUTE, b"other"), 200, b"{}")
    assert not anna.is_answer(None, header, 200, b"{}")


def test_what_is_proven_and_where_its_parts_end_is_part_of_the_proof() -> None:
    key = ClusterKey(b"k" * 32)
    proof = key.proof("sign", "ab", "c")
    assert key.proves(proof, "sign", b"ab", "c")
    assert not key.proves(proof, "request", "ab", "c")
    assert not key.proves(proof, "sign", "a", "bc")
    assert not key.proves(proof, "sign", "ab", "c", "")
    assert not key.proves(proof.encode(), "sign", "ab", "c")
