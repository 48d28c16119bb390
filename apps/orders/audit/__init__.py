"""The audit: does what the databases hold agree with the invariants? It knows all apps, so it lives here.

`registry.CHECKS` is the list of checks, `runner` runs them and tells the lasting from what is in flight, and
`manage.py audit` prints. A check reads tables by their names, in few statements that aggregate in the server.
"""
