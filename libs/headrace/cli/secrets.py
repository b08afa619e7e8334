"""The secrets of an installation: certificates, the pepper that keys are hashed with, and the demo tenant's key."""

from __future__ import annotations

import secrets
from datetime import datetime

from headrace.cli import certificates
from headrace.cli.layout import Layout
from headrace.state import atomic, tenants

DEMO = "demo"
# Finite, and beyond what a machine of this kind can do: the demo is what load is tested with.
DEMO_LIMITS = tenants.QuotaSpec(
    rows_per_s=200_000,
    rows_burst=400_000,
    bytes_per_s=1024**3,
    bytes_burst=2 * 1024**3,
    concurrency=4_096,
    max_rows=4_096,
)


def ensure(layout: Layout, now: datetime) -> list[str]:
    """Makes what is not there yet; returns what was made, for a person. Raises ConfigError for unusable files."""
    layout.make_home()
    made = []
    if certificates.ensure(layout.tls, now):
        made.append("certificates")
    # Two that begin at once must not hash with two peppers.
    with tenants.locked(layout.tenants):
        if not layout.pepper.exists():
            atomic.write(layout.pepper, secrets.token_hex(32).encode() + b"\n", mode=0o600)
            made.append("pepper")
    if _ensure_demo(layout, now):
        made.append("demo key")
    return made


def _ensure_demo(layout: Layout, now: datetime) -> bool:
    """A tenant that may use every pipeline, and its key in a file that only this user can read."""
    pepper = tenants.read_pepper(layout.pepper)
    key = demo_key(layout)
    if key is not None and layout.tenants.exists():
        known = tenants.load(layout.tenants).tenants.get(DEMO, tenants.TenantSpec()).keys
        if tenants.hash_key(key, pepper) in {k.hash for k in known}:
            return False
    text, kept = tenants.new_key(pepper, created=now)
    # The file that is read by the door comes last: a key it knows is one that we have.
    atomic.write(layout.demo_key, text.encode() + b"\n", mode=0o600)

    def with_demo(file: tenants.TenantsFile) -> tenants.TenantsFile:
        tenant = file.tenants.get(DEMO, tenants.TenantSpec(pipelines=(tenants.ANY,), limits=DEMO_LIMITS))
        return file.with_tenant(DEMO, tenant).with_key(DEMO, kept)

    tenants.change(layout.tenants, with_demo)
    return True


def demo_key(layout: Layout) -> str | None:
    """The demo tenant's key, if it was made."""
    try:
        return layout.demo_key.read_text().strip()
    except FileNotFoundError:
        return None
