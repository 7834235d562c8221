"""The real engine in the process of a test: virtual time, one seed, faults on demand, and a search for races.

    order, clock, chance      what a simulation derives from its seed
    workers, disk, faults     guests in this process, a store that can refuse, and what goes wrong with them
    server                    `TestServer`: a deployment, called directly
    subscription, stepping    results as they change; calls that stop before each transaction
    reader                    `ctx.db` for a test: a snapshot, to read
    blocking, fixture         the same without async; a fixture for pytest

Users find it as `tidewell.testing`. The server never imports it: guests run here without a wall.
"""
