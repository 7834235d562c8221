"""When to ping, when to probe, when to give up; and how fast a peer may talk."""

from __future__ import annotations

from engine.pacing import PING_AFTER_S, PROBE_AFTER_S, SILENCE_S_MAX, Heartbeat, TokenBucket


def test_ping_is_due_after_silence_of_our_own() -> None:
    heartbeat = Heartbeat.starting(100.0)
    assert not heartbeat.is_ping_due(100.0 + PING_AFTER_S - 0.1)
    assert heartbeat.is_ping_due(100.0 + PING_AFTER_S)
    heartbeat.last_sent = 110.0
    assert not heartbeat.is_ping_due(100.0 + PING_AFTER_S)


def test_probe_is_due_after_silence_of_the_peer() -> None:
    heartbeat = Heartbeat.starting(0.0)
    heartbeat.last_sent = PROBE_AFTER_S
    assert heartbeat.is_probe_due(PROBE_AFTER_S)
    heartbeat.last_heard = 5.0
    assert not heartbeat.is_probe_due(PROBE_AFTER_S)


def test_peer_counts_as_dead_after_long_silence() -> None:
    heartbeat = Heartbeat.starting(0.0)
    assert not heartbeat.is_peer_dead(SILENCE_S_MAX - 0.1)
    assert heartbeat.is_peer_dead(SILENCE_S_MAX)


def test_next_due_is_the_first_of_the_three() -> None:
    heartbeat = Heartbeat.starting(0.0)
    assert heartbeat.next_due() == PING_AFTER_S
    heartbeat.last_sent = 29.0
    assert heartbeat.next_due() == PROBE_AFTER_S
    heartbeat.last_probe = heartbeat.last_sent = SILENCE_S_MAX - 1
    assert heartbeat.next_due() == SILENCE_S_MAX


def test_bucket_takes_a_burst_and_then_a_rate() -> None:
    bucket = TokenBucket(per_second=2, burst=5)
    assert [bucket.take(10.0) for _ in range(6)] == [True] * 5 + [False]
    assert [bucket.take(11.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(1000.0) for _ in range(6)] == [True] * 5 + [False]


def test_bucket_survives_a_clock_that_stands_still_or_falls() -> None:
    bucket = TokenBucket(per_second=1000, burst=1)
    assert bucket.take(10.0)
    assert not bucket.take(10.0)
    assert not bucket.take(9.0)
