"""The door, the router and their leaves in one event loop of virtual time: no thread, no connection, no waiting.

`cases.py` draws a case from a seed, `world.py` plays it and says what must hold. `system.py` starts the processes by their own
wiring, `exchange.py` is a request at the door; `network.py` and `virtual_time.py` stand for the machine.
`python -m tests.simulation --cases 100000` searches.
"""
