"""Feast's messages. Import them from here: this package has loaded them without Feast; see its `__init__`."""

from __future__ import annotations

from feast.protos.feast.core.FeatureService_pb2 import FeatureService
from feast.protos.feast.core.FeatureView_pb2 import FeatureView
from feast.protos.feast.core.OnDemandFeatureView_pb2 import OnDemandFeatureView
from feast.protos.feast.core.Registry_pb2 import Registry
from feast.protos.feast.core.StreamFeatureView_pb2 import StreamFeatureView
from feast.protos.feast.types.Value_pb2 import Value, ValueType

__all__ = [
    "FeatureService",
    "FeatureView",
    "OnDemandFeatureView",
    "Registry",
    "StreamFeatureView",
    "Value",
    "ValueType",
]
