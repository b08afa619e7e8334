from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExchangeRequest(_message.Message):
    __slots__ = ("requests", "cancelled_ids", "sent_us")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_IDS_FIELD_NUMBER: _ClassVar[int]
    SENT_US_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[CarriedRequest]
    cancelled_ids: _containers.RepeatedScalarFieldContainer[int]
    sent_us: int
    def __init__(self, requests: _Optional[_Iterable[_Union[CarriedRequest, _Mapping]]] = ..., cancelled_ids: _Optional[_Iterable[int]] = ..., sent_us: _Optional[int] = ...) -> None: ...

class CarriedRequest(_message.Message):
    __slots__ = ("id", "method", "message", "timeout_us", "metadata", "waited_us")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_US_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    WAITED_US_FIELD_NUMBER: _ClassVar[int]
    id: int
    method: str
    message: bytes
    timeout_us: int
    metadata: _containers.ScalarMap[str, str]
    waited_us: int
    def __init__(self, id: _Optional[int] = ..., method: _Optional[str] = ..., message: _Optional[bytes] = ..., timeout_us: _Optional[int] = ..., metadata: _Optional[_Mapping[str, str]] = ..., waited_us: _Optional[int] = ...) -> None: ...

class ExchangeResponse(_message.Message):
    __slots__ = ("responses", "draining")
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[CarriedResponse]
    draining: bool
    def __init__(self, responses: _Optional[_Iterable[_Union[CarriedResponse, _Mapping]]] = ..., draining: _Optional[bool] = ...) -> None: ...

class CarriedResponse(_message.Message):
    __slots__ = ("id", "message", "status", "trailing")
    class TrailingEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TRAILING_FIELD_NUMBER: _ClassVar[int]
    id: int
    message: bytes
    status: bytes
    trailing: _containers.ScalarMap[str, str]
    def __init__(self, id: _Optional[int] = ..., message: _Optional[bytes] = ..., status: _Optional[bytes] = ..., trailing: _Optional[_Mapping[str, str]] = ...) -> None: ...
