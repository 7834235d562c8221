"""The whole engine from one seed, and checkers that do not trust it.

simulation.py     runs a seed, a range of seeds, a swarm
world.py          the engine with everything below it simulated; crashes and restarts
network, disk, workers, faults     what is simulated, and how it fails; the rest is in engine/testing
client.py         what an official client does, and a note of all it saw
history.py        those notes, and the trace whose digest names a run
workloads/        what the clients do, and what must hold in the end
checkers/         what must hold for any workload, by reading the notes alone
outsiders/        bytes of strangers, made wrong, for every parser that takes them
canaries.py       planted bugs, each of which has to be found
ci.py             a short swarm and all canaries; `make fuzz` has it run for as long as it is told
"""
