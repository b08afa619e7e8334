"""A model repository: models, their versions and artifacts, metadata and signatures.

```python
repository = Repository("/var/lib/headrace/models", trust=Trust(keys=(Path("models.pub"),)))
artifact = repository.read("flights_light", repository.resolve("flights_light", "champion"))
artifact.content  # the bytes that were verified
```
"""

from headrace.repository.access_log import AccessLog
from headrace.repository.changes import label, remove, resign, unlabel
from headrace.repository.errors import AbsentError, BadNameError, RepositoryError, UntrustedError
from headrace.repository.metadata import Metadata, TensorSpec
from headrace.repository.names import version_key
from headrace.repository.parity import Tolerance, stated_tolerance
from headrace.repository.publication import publish
from headrace.repository.repository import Artifact, Check, Repository, digest_matches
from headrace.repository.signing.trust import Trust
from headrace.repository.version_list import VersionList

__all__ = [
    "AbsentError",
    "AccessLog",
    "Artifact",
    "BadNameError",
    "Check",
    "Metadata",
    "Repository",
    "RepositoryError",
    "TensorSpec",
    "Tolerance",
    "Trust",
    "UntrustedError",
    "VersionList",
    "digest_matches",
    "label",
    "publish",
    "remove",
    "resign",
    "stated_tolerance",
    "unlabel",
    "version_key",
]
