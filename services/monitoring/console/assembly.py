"""What the console is made of. The service builds it only if it is set, so its packages are imported only then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from headrace.audit.access import Access
from headrace.hop.config import ConfigError
from headrace.slo.servers import AlertmanagerApi
from services.monitoring.console.access import secret
from services.monitoring.console.access.attempts import Attempts
from services.monitoring.console.access.ended_sessions import EndedSessions
from services.monitoring.console.access.operators import Operators
from services.monitoring.console.access.security_events import SecurityEvents
from services.monitoring.console.access.sessions import Sessions
from services.monitoring.console.actions import Actions
from services.monitoring.console.audit_log import AuditLog
from services.monitoring.console.facts.live import SAMPLE_S, Live
from services.monitoring.console.facts.models import ModelFacts
from services.monitoring.console.incidents.page import Incidents
from services.monitoring.console.incidents.runbooks import Runbooks
from services.monitoring.console.known import KnownReleases
from services.monitoring.console.pages import Pages
from services.monitoring.console.ports import Sources
from services.monitoring.console.reach import Reach
from services.monitoring.console.requests.page import Requests
from services.monitoring.console.requests.views import Views
from services.monitoring.console.settings import ConsoleSettings
from services.monitoring.console.web.application import Application
from services.monitoring.console.web.connections import Connections
from services.monitoring.console.web.guard import Guard
from services.monitoring.console.web.render import Renderer
from services.monitoring.console.web.server import serve
from services.monitoring.console.web.views import Parts
from services.monitoring.ports import Log

_REFRESH_S = 1.0
_FLUSH_S = 0.5


@asynccontextmanager
async def console(
    settings: ConsoleSettings,
    sources: Sources,
    log: Log,
    wall: Callable[[], float],
    monotonic: Callable[[], float],
) -> AsyncIterator[Live]:
    """Serves the console meanwhile, with the counts that it has seen. Raises ConfigError: secret or certificate can't be used."""
    _check_certificate(settings)
    signing = await asyncio.to_thread(secret.ensure, settings.secret)
    reach, live = Reach(log, wall), Live()
    operators = Operators(sources.store.records, wall)
    events = SecurityEvents(settings.security, wall, log)
    await asyncio.to_thread(operators.refresh)
    ended = EndedSessions((settings.security or settings.secret).with_name("console.ended"), wall)
    await asyncio.to_thread(ended.load)
    tls, port, connections = settings.certificate is not None, settings.address[1], Connections()
    attempts, sessions = Attempts(monotonic), Sessions(signing, wall, ended)
    guard = Guard(operators, sessions, attempts, events, port, connections, tls=tls)
    renderer = await asyncio.to_thread(Renderer, reach.now)
    application = Application(_pages(settings, sources, live, reach), guard, renderer, log)

    async def sample() -> None:
        live.sample(sources.ticks.by_router(), wall())

    def on_thread(call: Callable[[], None]) -> Callable[[], Awaitable[None]]:
        return lambda: reach.run(call)

    work = [
        serve(application.asgi(tls=tls), connections, settings, log),
        _every(SAMPLE_S, "counts of routers", sample, reach),
        _every(_REFRESH_S, "keys of operators", on_thread(operators.refresh), reach),
        _every(_REFRESH_S, "ended sessions", on_thread(ended.load), reach),
        _every(_FLUSH_S, "the security log", on_thread(events.flush), reach),
    ]
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield live
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        reach.close()
        await asyncio.to_thread(events.flush, closing=True)


def _pages(settings: ConsoleSettings, sources: Sources, live: Live, reach: Reach) -> Parts:
    views, others, models = Views(sources.store), sources.others, None
    if settings.models is not None:
        models = ModelFacts(settings.models, settings.model_keys, settings.executor_state, sources.store)
    known = KnownReleases(sources.store, sources.slow_s, reach, models.known if models else None)
    actions = Actions(known, reach)
    alertmanager = AlertmanagerApi(settings.alertmanager) if settings.alertmanager else others.alerts
    readings = Access(settings.readings) if settings.readings else None
    return Parts(
        Pages(sources, others.panels, known, actions, live, models, settings.model_audit, reach),
        actions,
        Requests(others, settings.traces, views, reach),
        Incidents(alertmanager, Runbooks(settings.runbooks), reach),
        AuditLog(sources.store.records, readings, reach),
        sources,
    )


async def _every(seconds: float, what: str, action: Callable[[], Awaitable[object]], reach: Reach) -> None:
    """Runs `action` again and again; the next round may do better, and the console goes on."""
    while True:
        await reach.attempt(what, action(), None, [], errors=(Exception,))
        await asyncio.sleep(seconds)


def _check_certificate(settings: ConsoleSettings) -> None:
    for name, path in (("certificate", settings.certificate), ("key", settings.key)):
        if path is not None and not path.is_file():
            raise ConfigError(f"console.{name}: there is no file {path}")
