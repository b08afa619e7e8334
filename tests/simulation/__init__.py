"""hop's real client and server in one event loop of virtual time: no thread, no connection, no waiting.

`cases.py` draws a case from a seed, `world.py` plays it and says what must hold, `network.py` and `virtual_time.py` stand for
the machine. `python -m tests.simulation --cases 10000` searches. Other services join the same loop by a `Process` each.
"""
