"""How much to measure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Samples are taken in rounds: each peer in turn, ``times`` samples at a time, and again.

    The interval of a ratio becomes narrow with the number of rounds, not with that of the samples.
    """

    delays_ms: tuple[float, ...]
    """Added to each round trip; 0 is the server itself, with nothing in between."""
    latency_rounds: int
    latency_times: int
    first_times: int
    """First transactions in a round: they take much longer than warm ones."""
    cpu_rounds: int
    cpu_times: int
    cold_starts: int
    batch_rounds: int
    copy_rounds: int
    further_rounds: int
    """Of the CPU on other releases and under TLS, ``cpu_times`` samples each."""
    throughput_rounds: int
    throughput_s: int
    """Of each side in a round."""
    once_keys: int
    once_duplicates: int
    """Of each key, and as many callers at a time."""
    cold_warm_ups: int = 1
    """Starts that are not measured: they read the files for the first time."""
    warm_up: int = 12
    """Not measured. psycopg prepares a statement at its sixth execution."""


# About ten minutes on two cores, all sections together.
FULL = Plan(
    delays_ms=(0, 1),
    latency_rounds=16,
    latency_times=4,
    first_times=1,
    cpu_rounds=40,
    cpu_times=30,
    cold_starts=7,
    batch_rounds=12,
    copy_rounds=16,
    further_rounds=24,
    throughput_rounds=8,
    throughput_s=2,
    once_keys=200,
    once_duplicates=50,
)
# Shows that everything still runs; its figures are worth nothing.
QUICK = Plan(
    delays_ms=(1,),
    latency_rounds=2,
    latency_times=3,
    first_times=1,
    cpu_rounds=2,
    cpu_times=10,
    cold_starts=1,
    batch_rounds=1,
    copy_rounds=1,
    further_rounds=2,
    throughput_rounds=1,
    throughput_s=1,
    once_keys=10,
    once_duplicates=10,
    cold_warm_ups=0,
)
