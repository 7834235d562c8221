"""Pools of workers: real processes, and the guest in this process behind the same face.

This package is where `sandbox` meets trio. `WorkerPool` serves one deployment;
`InProcessPool` is its twin for simulation.
"""

from sandbox.pool.death import DeathKind, PoolFailed, WorkerLost
from sandbox.pool.exchange import Request
from sandbox.pool.face import AnswerSyscall, LeasedWorker, Pool, Terms
from sandbox.pool.in_process import InProcessPool
from sandbox.pool.lease import Worker
from sandbox.pool.rules import Rules
from sandbox.pool.workers import Clock, WorkerPool

__all__ = [
    "AnswerSyscall",
    "Clock",
    "DeathKind",
    "InProcessPool",
    "LeasedWorker",
    "Pool",
    "PoolFailed",
    "Request",
    "Rules",
    "Terms",
    "Worker",
    "WorkerLost",
    "WorkerPool",
]
