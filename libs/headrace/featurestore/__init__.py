"""Writes to a Feast store and checks it. Used by the `headrace` command and by the features service's stream consumer.

Importing its modules imports Feast, which takes seconds: import them only where they are needed.
"""
