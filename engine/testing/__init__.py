"""The real engine in the process of a test: virtual time, one seed, faults on demand, and a search for races.

    loop, clock, chance       what a simulation derives from its seed
    workers, passing, disk,   guests in this process, a store that can refuse, and what goes wrong with them
      faults
    server, caller            `TestServer`: a deployment, called directly
    subscription, stepping    results as they change; calls that stop before each transaction
    reader                    `ctx.db` for a test: a snapshot, to read
    blocking, turns, fixture  the same without async; a fixture for pytest
    compiled                  executors that have compiled an app, for the next server

    rules, strategies         what a person says of an app; arguments from validators
    search, schedule          interleavings that break an invariant, and the shortest of them as a test
    explain, repeatable       why an invariant says no; the same draws from a seed in every process

Users find it as `tidewell.testing`. The server never imports it: guests run here without a wall.
"""
