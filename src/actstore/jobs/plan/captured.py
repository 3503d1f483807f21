"""Whether a store is what a spec's run captured, and whole, before another job adds to it."""

from __future__ import annotations

from actstore.errors import StoreError
from actstore.jobs.plan.identity import changed_settings, identity_of, other_spec, other_weights
from actstore.jobs.plan.network import Inspected
from actstore.jobs.runner import require_whole
from actstore.spec.spec import Spec
from actstore.store.schema import SCHEMA_VERSION
from actstore.store.store import Store


def require_run(spec: Spec, store: Store, seen: Inspected) -> None:
    """Refuse a store that was captured from another run than ``spec`` describes, or that is not whole.

    Raises
    ------
    StoreError
        saying what differs or is missing.
    """
    if store.layout.version < SCHEMA_VERSION:
        raise StoreError(
            f"{store.path} has schema {store.layout.version}, which takes no further groups: capture it again "
            "at another path"
        )
    reasons = other_weights(store.attributes["fingerprint"]["weights"], seen.weights)
    reasons += other_spec(changed_settings(store.attributes["identity"], identity_of(spec, seen.head)))
    if reasons:
        raise StoreError(
            f"{store.path} belongs to another run: {', '.join(reasons)}; give the spec that it was captured with, or "
            "capture this one"
        )
    require_whole(store.storage, len(store.missing))
