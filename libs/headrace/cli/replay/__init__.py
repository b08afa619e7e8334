"""Runs stored events against a candidate, and labelled rows on both models of a cascade, by the services' code in this process.

The services are found by their entry points and hosted as in the shape "together": a batch takes the same way through router,
steps and executor as a live one, but reaches nothing that serves. Only the features service is replaced: features have the
values that the events or rows hold. A running system could not do this: it would read today's values, and would have to load
the candidate beside what serves.
"""
