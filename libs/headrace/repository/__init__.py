"""A model repository: models, their versions and artifacts, metadata and signatures.

```python
repository = Repository("/var/lib/headrace/models", trust=Trust(keys=(Path("models.pub"),)))
artifact = repository.read("flights_light", repository.resolve("flights_light", "champion"))
artifact.content  # the bytes that were verified
```
"""

from headrace.repository.access_log import AccessLog
from headrace.repository.errors import AbsentError, BadNameError, RepositoryError, UntrustedError
from headrace.repository.metadata import Metadata, TensorSpec
from headrace.repository.model_index import ModelIndex
from headrace.repository.names import version_key
from headrace.repository.parity import Tolerance, stated_tolerance
from headrace.repository.publication import publish
from headrace.repository.repository import Artifact, Check, Repository, digest_matches
from headrace.repository.signing.trust import Trust

__all__ = [
    "AbsentError",
    "AccessLog",
    "Artifact",
    "BadNameError",
    "Check",
    "Metadata",
    "ModelIndex",
    "Repository",
    "RepositoryError",
    "TensorSpec",
    "Tolerance",
    "Trust",
    "UntrustedError",
    "digest_matches",
    "publish",
    "stated_tolerance",
    "version_key",
]
