from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Shard(_message.Message):
    __slots__ = ("keyspace", "number")
    KEYSPACE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    keyspace: str
    number: int
    def __init__(self, keyspace: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...

class PutRequest(_message.Message):
    __slots__ = ("shard", "epoch", "key", "value", "write_id")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    WRITE_ID_FIELD_NUMBER: _ClassVar[int]
    shard: Shard
    epoch: int
    key: str
    value: bytes
    write_id: str
    def __init__(self, shard: _Optional[_Union[Shard, _Mapping]] = ..., epoch: _Optional[int] = ..., key: _Optional[str] = ..., value: _Optional[bytes] = ..., write_id: _Optional[str] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("shard", "epoch", "key", "write_id")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    WRITE_ID_FIELD_NUMBER: _ClassVar[int]
    shard: Shard
    epoch: int
    key: str
    write_id: str
    def __init__(self, shard: _Optional[_Union[Shard, _Mapping]] = ..., epoch: _Optional[int] = ..., key: _Optional[str] = ..., write_id: _Optional[str] = ...) -> None: ...

class Written(_message.Message):
    __slots__ = ("position", "epoch", "duplicate")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    position: int
    epoch: int
    duplicate: bool
    def __init__(self, position: _Optional[int] = ..., epoch: _Optional[int] = ..., duplicate: _Optional[bool] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("shard", "epoch", "key")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    shard: Shard
    epoch: int
    key: str
    def __init__(self, shard: _Optional[_Union[Shard, _Mapping]] = ..., epoch: _Optional[int] = ..., key: _Optional[str] = ...) -> None: ...

class Found(_message.Message):
    __slots__ = ("found", "value", "epoch")
    FOUND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    found: bool
    value: bytes
    epoch: int
    def __init__(self, found: _Optional[bool] = ..., value: _Optional[bytes] = ..., epoch: _Optional[int] = ...) -> None: ...

class ScanRequest(_message.Message):
    __slots__ = ("shard", "epoch", "after", "limit")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    shard: Shard
    epoch: int
    after: str
    limit: int
    def __init__(self, shard: _Optional[_Union[Shard, _Mapping]] = ..., epoch: _Optional[int] = ..., after: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class Pair(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: bytes
    def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class Pairs(_message.Message):
    __slots__ = ("pairs",)
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    pairs: _containers.RepeatedCompositeFieldContainer[Pair]
    def __init__(self, pairs: _Optional[_Iterable[_Union[Pair, _Mapping]]] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("put", "get", "delete")
    PUT_FIELD_NUMBER: _ClassVar[int]
    GET_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    put: PutRequest
    get: GetRequest
    delete: DeleteRequest
    def __init__(self, put: _Optional[_Union[PutRequest, _Mapping]] = ..., get: _Optional[_Union[GetRequest, _Mapping]] = ..., delete: _Optional[_Union[DeleteRequest, _Mapping]] = ...) -> None: ...

class Operations(_message.Message):
    __slots__ = ("operations",)
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    def __init__(self, operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("written", "found", "problem")
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    written: Written
    found: Found
    problem: str
    def __init__(self, written: _Optional[_Union[Written, _Mapping]] = ..., found: _Optional[_Union[Found, _Mapping]] = ..., problem: _Optional[str] = ...) -> None: ...

class Results(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Result]
    def __init__(self, results: _Optional[_Iterable[_Union[Result, _Mapping]]] = ...) -> None: ...

class SnapshotRequest(_message.Message):
    __slots__ = ("shard", "after", "epoch", "first", "part_bytes")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    PART_BYTES_FIELD_NUMBER: _ClassVar[int]
    shard: Shard
    after: str
    epoch: int
    first: int
    part_bytes: int
    def __init__(self, shard: _Optional[_Union[Shard, _Mapping]] = ..., after: _Optional[str] = ..., epoch: _Optional[int] = ..., first: _Optional[int] = ..., part_bytes: _Optional[int] = ...) -> None: ...

class SnapshotPart(_message.Message):
    __slots__ = ("position", "digest", "records", "bytes", "write_ids", "pairs")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    WRITE_IDS_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    position: int
    digest: str
    records: int
    bytes: int
    write_ids: _containers.RepeatedCompositeFieldContainer[WriteId]
    pairs: _containers.RepeatedCompositeFieldContainer[Pair]
    def __init__(self, position: _Optional[int] = ..., digest: _Optional[str] = ..., records: _Optional[int] = ..., bytes: _Optional[int] = ..., write_ids: _Optional[_Iterable[_Union[WriteId, _Mapping]]] = ..., pairs: _Optional[_Iterable[_Union[Pair, _Mapping]]] = ...) -> None: ...

class WriteId(_message.Message):
    __slots__ = ("id", "position")
    ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    id: str
    position: int
    def __init__(self, id: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class TailRequest(_message.Message):
    __slots__ = ("shard", "after", "epoch")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    shard: Shard
    after: int
    epoch: int
    def __init__(self, shard: _Optional[_Union[Shard, _Mapping]] = ..., after: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("position", "key", "value", "write_id", "digest")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    WRITE_ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    position: int
    key: str
    value: bytes
    write_id: str
    digest: str
    def __init__(self, position: _Optional[int] = ..., key: _Optional[str] = ..., value: _Optional[bytes] = ..., write_id: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class Changes(_message.Message):
    __slots__ = ("changes", "head", "fenced", "digest")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    FENCED_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    head: int
    fenced: bool
    digest: str
    def __init__(self, changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., head: _Optional[int] = ..., fenced: _Optional[bool] = ..., digest: _Optional[str] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ("shard",)
    SHARD_FIELD_NUMBER: _ClassVar[int]
    shard: Shard
    def __init__(self, shard: _Optional[_Union[Shard, _Mapping]] = ...) -> None: ...

class ShardDescription(_message.Message):
    __slots__ = ("state", "epoch", "owner", "address", "position", "digest", "records", "bytes")
    STATE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    state: str
    epoch: int
    owner: str
    address: str
    position: int
    digest: str
    records: int
    bytes: int
    def __init__(self, state: _Optional[str] = ..., epoch: _Optional[int] = ..., owner: _Optional[str] = ..., address: _Optional[str] = ..., position: _Optional[int] = ..., digest: _Optional[str] = ..., records: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...
