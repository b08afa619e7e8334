"""Settings of encryption at rest."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Self

from pydantic import Field, PositiveFloat, model_validator

from headrace.encryption.data_keys import DataKeys, KeyMeter
from headrace.encryption.envelope import Sealer
from headrace.encryption.kms import KeyManagement
from headrace.encryption.kms.file_kms import FileKms
from headrace.hop import config


class Pkcs11Settings(config.Settings):
    """A token of PKCS#11, such as an HSM or SoftHSM. Needs the package python-pkcs11."""

    # The library of its maker, such as /usr/lib/softhsm/libsofthsm2.so.
    module: Path
    # Label of the token.
    token: str = Field(min_length=1)
    # File with the user's PIN; nobody else may read it.
    pin_file: Path
    # Label of the key; its versions are NAME/1, NAME/2 …
    key: str = Field(default="headrace", min_length=1, max_length=64)


class EncryptionSettings(config.Settings):
    """Where the key-encryption keys are: `file` or `pkcs11`."""

    # A file of keys (`headrace encryption`).
    file: Path | None = None
    # The name of the keys in it, which `headrace up --encrypt` writes: a file of others is refused. Absent: any are taken.
    name: str | None = Field(default=None, min_length=1, max_length=64)
    pkcs11: Pkcs11Settings | None = None
    # A data key is used for so long; then a new one is wrapped by the current version.
    renew_s: PositiveFloat = 300.0
    # While the keys are away, the data key is used on for so long. After that, what can't be sealed is not written.
    max_age_s: PositiveFloat = 86_400.0

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.pkcs11 is None):
            raise ValueError("it takes `file` or `pkcs11`")
        if self.name is not None and self.file is None:
            raise ValueError("`name` goes with `file`; a token's keys are named by `pkcs11.key`")
        if self.max_age_s < self.renew_s:
            raise ValueError("max_age_s must be at least renew_s")
        return self


def kms_of(settings: EncryptionSettings) -> KeyManagement:
    """The key management; it is reached when it is used. Raises ConfigError: the package for it is missing."""
    if settings.pkcs11 is None:
        assert settings.file is not None, "the settings have one of them"
        return FileKms(settings.file, settings.name)
    # An optional package, so it is imported only where it is used.
    try:
        from headrace.encryption.kms.pkcs11_kms import Pkcs11Kms
    except ImportError as error:
        raise config.ConfigError(
            "encryption.pkcs11 needs the package python-pkcs11: pip install 'headrace[pkcs11]'"
        ) from error
    return Pkcs11Kms(settings.pkcs11)


def sealer_of(settings: EncryptionSettings | None, meter: KeyMeter | None = None) -> Sealer | None:
    """What seals and opens; None: nothing is sealed here. Raises ConfigError."""
    if settings is None:
        return None
    return Sealer(DataKeys(kms_of(settings), settings.renew_s, settings.max_age_s, time.monotonic, meter))
