"""A pause between a commit and the next Kafka transaction, as short as the broker allows.

Behind a commit the broker writes markers into every partition of the transaction. Until it has, it answers the next
transaction's first request with CONCURRENT_TRANSACTIONS, and librdkafka asks again after 20 ms, whatever is left of the
wait by then. A transaction that begins a little later needs no second question. How much later depends on the broker
and its load, so it is learnt: quickly longer when a question was asked twice, slowly shorter otherwise. Pure.
"""

from __future__ import annotations

_ASKED_TWICE_S = 0.018
"""A small transaction that took so long to be delivered had to ask again (source: librdkafka, rdkafka_txnmgr.c)."""
_SMALL_S = 0.005
"""One that was open for longer tells nothing: its first request was answered while rows still came."""
_LONGER_S, _SHORTER_S, _LONGEST_S = 0.001, 0.0003, 0.005


class MarkerPause:
    """Learns how long to wait."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """How long to wait after the next commit."""

    def delivered(self, open_s: float, flush_s: float) -> None:
        """The records of a transaction are with the broker.

        Args:
          open_s: seconds from its begin to its last record.
          flush_s: seconds from there until everything was delivered.
        """
        if open_s <= _SMALL_S and open_s + flush_s >= _ASKED_TWICE_S:
            self.seconds = min(self.seconds + _LONGER_S, _LONGEST_S)
        else:
            self.seconds = max(self.seconds - _SHORTER_S, 0.0)
