"""Stand-in engines: real schedulers over measured step times, in virtual time or behind HTTP.

The core is pure: time is an argument, randomness is handed in, and two runs with the same seed
give the same bits. Only `server.py` touches sockets and clocks.
"""
