"""What must hold for any workload. Each checker reads notes and the store, and returns what is wrong.

None of them asks the engine, and none shares code with what it checks, but for
`reexecution` and `snapshots`, which run the guests again: one at a time, on a store of
their own or on the committed one, which is what the engine's concurrency is checked
against.
"""
