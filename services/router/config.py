"""Settings of the router."""

from __future__ import annotations

from typing import Any

from pydantic import PositiveFloat, create_model

from headrace.hop import config
from headrace.resources import ResourceSettings
from services.router.cache.clients import CacheSettings
from services.router.events.settings import EventsSettings
from services.router.explanations.settings import ExplanationSettings
from services.router.shadow.settings import ShadowSettings
from services.router.stages.registry import RUNNER_KINDS, callees

_DOC = "Settings of the router."


class RouterSettings(config.Settings):
    """The router's own settings. Its settings class has those of every service and of the kinds of stages, too."""

    # What is live, as control says it: releases and their documents.
    resources: ResourceSettings
    # Client of control. Absent: what the artifacts of `resources` have is followed.
    control: config.CalleeSettings | None = None
    shadow: ShadowSettings = ShadowSettings()
    explanations: ExplanationSettings = ExplanationSettings()
    # Client of the service that gathers what each arm answered. Absent: it is counted, but nobody is told.
    monitoring: config.CalleeSettings | None = None
    # How often it is told.
    tick_s: PositiveFloat = 1.0
    # What it is told of each prediction, and the journal of regulated ones.
    events: EventsSettings = EventsSettings()
    # Where several routers keep answers together; each pipeline's document says whether its answers are kept at all.
    cache: CacheSettings = CacheSettings()

    def client(self, callee: str) -> config.ClientSettings | None:
        """Settings of the client of a service that stages call; None: no pipeline here needs it."""
        found: config.ClientSettings | None = getattr(self, callee)
        return found


def router_config() -> type[Any]:
    """The settings class: one key per callee of the registered kinds of stages, and their further settings."""
    further = dict.fromkeys(kind.settings for kind in RUNNER_KINDS.values() if kind.settings)
    bases: Any = (config.ServiceSettings, RouterSettings, *further)
    clients: dict[str, Any] = dict.fromkeys(callees(), (config.ClientSettings | None, None))
    made: type[Any] = create_model("RouterConfig", __base__=bases, __doc__=_DOC, **clients)
    return made


RouterConfig = router_config()
