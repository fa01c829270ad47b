"""Which topic it is: the id that Kafka gives a topic when it is created (KIP-516). One that was deleted and created again has
another one under its old name.

aiokafka asks for metadata in versions that do not tell it. Built on its client and protocol modules, as `infra.kafka.fetches` is.
"""

from base64 import urlsafe_b64encode
from io import BytesIO
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

_METADATA: Final = 3
_TELLS_IDS: Final = 10
"""The version of the metadata request from which on the answer has ids: Kafka 2.8."""

_NO_ID: Final = bytes(16)


class _Uuid(AbstractType[bytes]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = _METADATA
    API_VERSION = _TELLS_IDS
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequestStruct(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = _METADATA
    API_VERSION = _TELLS_IDS
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequestStruct]):  # type: ignore[misc]
    API_KEY = _METADATA

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_MetadataRequestStruct]) -> _MetadataRequestStruct:
        return request_struct_class([(_NO_ID, self._topic, {})], False, False, False, {})


async def topic_id(bootstrap: str, topic: str) -> str | None:
    """The topic's id, as Kafka's tools show it; None: the broker is older than ids are. Raises KafkaError."""
    client: Any = AIOKafkaClient(bootstrap_servers=bootstrap)
    try:
        await client.bootstrap()
        answer = await client.send(client.get_random_node(), _MetadataRequest(topic))
    except (NotImplementedError, IncompatibleBrokerVersion):
        return None
    finally:
        await client.close()
    (found,) = answer.to_object()["topics"]
    if found["error_code"]:
        raise for_code(found["error_code"])(f"the id of {topic} cannot be had")
    id_: bytes = found["topic_id"]
    if id_ == _NO_ID:
        raise KafkaError(f"{topic} has no id")
    return urlsafe_b64encode(id_).rstrip(b"=").decode()
