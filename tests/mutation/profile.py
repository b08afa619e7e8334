"""A plugin for a mutant's tests: properties are tried the same way each time, and a counterexample is not made smaller."""

from hypothesis import HealthCheck, Phase, settings


def pytest_sessionstart() -> None:
    """Before a test is imported."""
    settings.register_profile(
        "mutants",
        deadline=None,
        max_examples=50,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutants")
