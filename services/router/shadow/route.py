"""What a release says of a pipeline's shadow, ready to run."""

from __future__ import annotations

from dataclasses import dataclass

from services.router.routes.route import Route


@dataclass(frozen=True, slots=True)
class ShadowRoute:
    """A copy of `share` (0 to 1) of the requests runs on `route`, whose name is that of the arm.

    `route` must be made by `Compiler.shadow_route`: its runners have clients of their own, without retries, so that nothing of a
    shadow counts in the breakers and retry budgets of live calls. `salt`: unlike that of any rollout, so that the choice is
    independent. `release`: number of the release that says so; 0: none.
    """

    route: Route
    share: float = 1.0
    salt: str = ""
    release: int = 0
