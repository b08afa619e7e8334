"""Writing to a Feast store and checking it: what the `headrace` command and the features service's consumer share.

Importing its modules imports Feast, which takes seconds: do it where it is needed.
"""
