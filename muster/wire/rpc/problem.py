"""How errors travel over gRPC: a status code, and the error itself as JSON in the trailing metadata `muster-problem`."""

import json
from typing import Any, Final, NoReturn

import grpc

from muster.wire import problem as wire
from muster.wire.error import MusterError, ReadFailed, Refused, Transient

METADATA: Final = "muster-problem"
_CODES: Final = {
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    410: grpc.StatusCode.OUT_OF_RANGE,
    412: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


def problem(error: MusterError) -> str:
    """The error's facts as JSON in ASCII, as metadata must be."""
    return json.dumps(wire.facts_of(error))


def error_from(text: str) -> MusterError:
    """The error that `problem` wrote; one with a name that is not known here keeps its family."""
    facts = json.loads(text)
    return wire.error_from(facts, unknown=Refused if int(facts["status"]) < 500 else Transient)


def error_of(failed: grpc.aio.AioRpcError, address: str) -> MusterError:
    """What a failed call says; without a problem of ours it never reached a node that could answer: ReadFailed."""
    for name, text in failed.trailing_metadata() or ():
        if name == METADATA:
            return error_from(text)
    return ReadFailed(f"{address} does not answer: {failed.code().name}, {failed.details()}", address=address)


async def refuse(context: Any, error: MusterError) -> NoReturn:
    """End the call (`grpc.aio.ServicerContext`) with the error."""
    code = _CODES.get(wire.status_of(type(error)), grpc.StatusCode.INTERNAL)
    await context.abort(code, error.detail, trailing_metadata=((METADATA, problem(error)),))
    raise AssertionError("abort raises")
