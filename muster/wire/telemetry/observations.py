"""What a client has seen of the instances that it calls, in one message: what a balancer tells every few seconds.

The body of `POST /v1/observations` is made of these, and they stand in `<prefix>.heartbeats` under the same key as heartbeats:

    {"observer": "web-5f3a", "host": "web-1", "service": "users", "seconds": 5.0, "observed": [["users-1", 4, 310, 2, 0, 0.021]]}

An item is `[instance, incarnation, attempts, failures, failing, latency]`: the calls that ended in these seconds and how many of
them failed, how many have failed in a row up to now, and the mean seconds to an answer (left out, or null: none was timed).

It is no sign of life, and has no member of one: who takes it for a heartbeat refuses it. `host` tells observers of one machine
from those of others. Over HTTP nobody says it: a controller takes the address that it sees.
"""

from typing import Final, NamedTuple, cast

import orjson

from muster.wire.error import InvalidCommand
from muster.wire.telemetry.heartbeats import Heartbeats, name_from, of_document, refusal

observed_max: Final = 1_000
"""Of how many instances one message may tell."""

count_max: Final = 1_000_000_000
REPORT_SECONDS_MIN: Final = 0.1
"""The shortest: of calls in next to no time the rate would be a number that JSON cannot tell."""
report_seconds_max: Final = 10.0
"""The longest time that one message may be about: what is older is no evidence of now."""

host_chars_max: Final = 256
OBSERVED: Final = frozenset(("observer", "service", "seconds", "observed"))
"""The members of a message; `host` stands beside them where it does not come over HTTP."""

_FIELDS: Final = ("instance", "incarnation", "attempts", "failures", "failing", "latency")


class Observation(NamedTuple):
    """One instance as a client has seen it since its last report. `failing`: so many calls have failed in a row up to now."""

    instance: str
    incarnation: int
    attempts: int
    failures: int
    failing: int
    latency_seconds: float | None = None


class Observations(NamedTuple):
    """One message: who has seen it, of which service, in the last so many `seconds`. `host` is where the observer is."""

    observer: str
    service: str
    seconds: float
    observed: list[Observation]
    host: str = ""


def document_of(message: Observations) -> dict[str, object]:
    """The message as plain JSON values."""
    document: dict[str, object] = {**message._asdict(), "observed": [list(one) for one in message.observed]}
    # Over HTTP it is not for the observer to say.
    if not message.host:
        del document["host"]
    return document


def encode(message: Observations) -> bytes:
    """The message as it stands in the topic. Raises InvalidCommand as a reader would, so that nothing wrong leaves."""
    document = document_of(message)
    observations_of(document)
    return orjson.dumps(document)


def decoded(value: bytes) -> Heartbeats | Observations:
    """The message of a record of the topic, of either kind. Raises InvalidCommand with the first field that is wrong."""
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise InvalidCommand(f"heartbeats: not JSON: {error}", field="heartbeats") from None
    # By this member and not by the key, which is that of heartbeats: both are to be in the partition of the service.
    if isinstance(document, dict) and "observed" in document:
        return observations_of(document)
    return of_document(document)


def observations_of(document: object) -> Observations:
    """The message of these plain JSON values. Raises InvalidCommand with the first field that is wrong."""
    if not isinstance(document, dict) or document.keys() - {"host"} != OBSERVED:
        raise InvalidCommand(
            "observations: an object with observer, service, seconds and observed, and nothing else",
            field="observations",
        )
    # All of it or nothing: of a message that is wrong somewhere nobody knows what else is.
    observer, service = name_from(document["observer"], "observer"), name_from(document["service"], "service")
    seconds, host, items = document["seconds"], document.get("host", ""), document["observed"]
    if type(seconds) not in (int, float) or not REPORT_SECONDS_MIN <= seconds <= report_seconds_max:
        raise refusal("seconds", f"a number from {REPORT_SECONDS_MIN:g} to {report_seconds_max:g}")
    if not isinstance(host, str) or len(host) > host_chars_max:
        raise refusal("host", f"a text of up to {host_chars_max} characters")
    if not isinstance(items, list) or not 1 <= len(items) <= observed_max:
        raise refusal("observed", f"a list of 1 to {observed_max:,} items")
    observed = [_observation(item, f"observed.{number}") for number, item in enumerate(items)]
    return Observations(observer, service, float(seconds), observed, host)


def _observation(item: object, path: str) -> Observation:
    if not isinstance(item, list) or len(item) not in (5, 6):
        raise refusal(path, f"a list of 5 or 6 members: {', '.join(_FIELDS)}")
    instance = name_from(item[0], f"{path}.instance")
    for place in range(1, 5):
        # A truth value is an int to Python, and no number to JSON.
        if type(item[place]) is not int or not 0 <= item[place] <= count_max:
            raise refusal(f"{path}.{_FIELDS[place]}", f"a whole number from 0 to {count_max:.0e}")
    incarnation, attempts, failures, failing = cast(list[int], item[1:5])
    # What was not called was not seen: such an item would pass for a client that calls the instance.
    if attempts < 1 or failures > attempts:
        raise refusal(f"{path}.attempts", "1 or more, and as many as the failures or more")
    latency = item[5] if len(item) == 6 else None
    if latency is not None and (type(latency) not in (int, float) or not 0 <= latency <= count_max):
        raise refusal(f"{path}.latency", "a number of seconds, or null")
    return Observation(instance, incarnation, attempts, failures, failing, latency)
