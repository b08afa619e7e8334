"""Runs stored events against a candidate in this process, with the services' own code, and compares the answers.

The services are found by their entry points and hosted as in the shape "together": a batch takes the same way through router,
steps and executor as a live one, but reaches nothing that serves. Only the features service is replaced, by one that answers
with the values that the events got. A running system could not do this: it would read today's values, and would have to load
the candidate beside what serves.
"""
