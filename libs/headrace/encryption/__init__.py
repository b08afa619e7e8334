"""Encryption at rest: data keys that a key management wraps, and what is sealed with them."""

from headrace.encryption.data_keys import DataKeys
from headrace.encryption.envelope import Sealer, is_sealed
from headrace.encryption.errors import DamagedError, KeysAwayError, KeysProblem, LockedError
from headrace.encryption.metrics import EncryptionMetrics
from headrace.encryption.settings import EncryptionSettings, sealer_of
from headrace.encryption.stores import Seen, Store

__all__ = [
    "DamagedError",
    "DataKeys",
    "EncryptionMetrics",
    "EncryptionSettings",
    "KeysAwayError",
    "KeysProblem",
    "LockedError",
    "Sealer",
    "Seen",
    "Store",
    "is_sealed",
    "sealer_of",
]
