import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReadCostRequest(_message.Message):
    __slots__ = ("since",)
    SINCE_FIELD_NUMBER: _ClassVar[int]
    since: _timestamp_pb2.Timestamp
    def __init__(self, since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ReadCostResponse(_message.Message):
    __slots__ = ("accounts",)
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    accounts: _containers.RepeatedCompositeFieldContainer[CostAccount]
    def __init__(self, accounts: _Optional[_Iterable[_Union[CostAccount, _Mapping]]] = ...) -> None: ...

class CostAccount(_message.Message):
    __slots__ = ("currency", "since", "until", "watched", "charges", "bills", "counts", "memory_gb")
    class MemoryGbEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    WATCHED_FIELD_NUMBER: _ClassVar[int]
    CHARGES_FIELD_NUMBER: _ClassVar[int]
    BILLS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_GB_FIELD_NUMBER: _ClassVar[int]
    currency: str
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    watched: _duration_pb2.Duration
    charges: _containers.RepeatedCompositeFieldContainer[CostCharge]
    bills: _containers.RepeatedCompositeFieldContainer[CostBill]
    counts: _containers.RepeatedCompositeFieldContainer[CostCount]
    memory_gb: _containers.ScalarMap[str, float]
    def __init__(self, currency: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., watched: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., charges: _Optional[_Iterable[_Union[CostCharge, _Mapping]]] = ..., bills: _Optional[_Iterable[_Union[CostBill, _Mapping]]] = ..., counts: _Optional[_Iterable[_Union[CostCount, _Mapping]]] = ..., memory_gb: _Optional[_Mapping[str, float]] = ...) -> None: ...

class CostKey(_message.Message):
    __slots__ = ("tenant", "pipeline", "version", "traffic")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    pipeline: str
    version: str
    traffic: str
    def __init__(self, tenant: _Optional[str] = ..., pipeline: _Optional[str] = ..., version: _Optional[str] = ..., traffic: _Optional[str] = ...) -> None: ...

class CostCharge(_message.Message):
    __slots__ = ("key", "service", "resource", "quantity", "amount")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    key: CostKey
    service: str
    resource: str
    quantity: float
    amount: float
    def __init__(self, key: _Optional[_Union[CostKey, _Mapping]] = ..., service: _Optional[str] = ..., resource: _Optional[str] = ..., quantity: _Optional[float] = ..., amount: _Optional[float] = ...) -> None: ...

class CostBill(_message.Message):
    __slots__ = ("resource", "quantity", "amount")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    resource: str
    quantity: float
    amount: float
    def __init__(self, resource: _Optional[str] = ..., quantity: _Optional[float] = ..., amount: _Optional[float] = ...) -> None: ...

class CostCount(_message.Message):
    __slots__ = ("key", "row_count", "request_count")
    KEY_FIELD_NUMBER: _ClassVar[int]
    ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    key: CostKey
    row_count: int
    request_count: int
    def __init__(self, key: _Optional[_Union[CostKey, _Mapping]] = ..., row_count: _Optional[int] = ..., request_count: _Optional[int] = ...) -> None: ...
