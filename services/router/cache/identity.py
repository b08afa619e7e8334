"""What answers: the part of a key that changes when another revision, release or model would answer.

An answer may be served from the cache only if the very same code and weights would compute it now. The document's content hash
names everything but the models. A model stage without a version runs whatever version was loaded last in the replica that gets
the call. The router learns which one that was from the reply, and a hit has no reply: between a load and the next miss every
hit would be an old answer, and asking the executor now and then only makes that time shorter. So the answers of such a route
are not kept at all. A stage with a version (of the document, or put there by the release) always runs that version, and a
signed version is never altered. As a number may be used again after `models remove`, the SHA-256 that the executor last
reported is part of the key, too: nothing is served before the first reply of a route has named it, and a reply with another one
leaves all older answers behind (`CachedRoute.prefix`). Loading and unloading through this router forgets it.

Of a stage of several models (cascade, ensemble) no answer is kept: which of them took part differs from row to row.
"""

from __future__ import annotations

from headrace.pipeline import Plan
from headrace.pipeline.stages.registry import kind_of


def identity_of(tail: Plan, *more: str) -> str:
    """What answers in the stages of `tail`; "": that is not known for sure, so no answer may be kept.

    `more`: what else decides, such as release number and arm, and the settings that an arm gives its stages.
    """
    found = [kind_of(planned.stage).answered_by(planned.stage) for planned in tail.stages]
    known = [name for name in found if name is not None]
    if len(known) < len(found):
        return ""
    return "\n".join((tail.pipeline.revision, *known, *more))
