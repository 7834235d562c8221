"""Pools of workers: real processes, and the guest in this process behind the same face.

This package is where `sandbox` meets trio. `WorkerPool` serves one deployment;
`InProcessPool` is its twin for simulation.
"""

from sandbox.pool.death import DeathKind, PoolFailed, WorkerLost
from sandbox.pool.lease import AnswerSyscall, Worker
from sandbox.pool.rules import Rules
from sandbox.pool.workers import Clock, WorkerPool

__all__ = ["AnswerSyscall", "Clock", "DeathKind", "PoolFailed", "Rules", "Worker", "WorkerLost", "WorkerPool"]
