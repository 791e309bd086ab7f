"""The yardstick of `latency`: librdkafka and nothing else, one Kafka transaction behind the other. Run by latency.py.

    python -m tests.benchmarks.bare BOOTSTRAP TOPIC RATE COUNT FILE

Records fall due at a steady rate; whatever is due goes into the next transaction together with a record in a topic of
its own, as deltaforge's position does. FILE becomes COUNT signed 64-bit numbers: when record 1, 2, ... falls due, in
nanoseconds of the monotonic clock. There is no pause between two transactions, as deltaforge's `sinks/kafka/pause.py`
makes one.
"""

from __future__ import annotations

import sys
import time
from array import array
from itertools import cycle
from pathlib import Path

from confluent_kafka import Producer

from tests.benchmarks.drain import PARTITIONS
from tests.support.kafka_topics import create_topic
from tests.support.pipelines import kafka_config, local

_LEAD_S = 0.5
_LIMIT_S = 60.0
_SHORT_S = 0.0002
_VALUE = b"x" * 600
"""About as long as a row of seven columns in Debezium's envelope."""


def main() -> None:
    """Write the file, then send everything."""
    bootstrap, topic, rate, count, file = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    positions = f"{topic}.positions"
    create_topic(bootstrap, positions, 1)
    settings = kafka_config(local(topic, topic))["client_conf"]
    own = {
        "bootstrap.servers": bootstrap,
        "transactional.id": topic,
        "socket.nagle.disable": True,
        # May not be above transaction.timeout.ms.
        "delivery.timeout.ms": 60_000,
    }
    producer = Producer(settings | own)
    producer.init_transactions(_LIMIT_S)
    begin = time.monotonic() + _LEAD_S
    times = array("q", (int((begin + index / rate) * 1e9) for index in range(count)))
    # Its being there says that all is ready.
    Path(f"{file}.part").write_bytes(times.tobytes())
    Path(f"{file}.part").rename(file)
    partitions, sent = cycle(range(PARTITIONS)), 0
    while sent < count:
        due = min(int((time.monotonic() - begin) * rate) + 1, count)
        if due <= sent:
            time.sleep(max(begin + sent / rate - time.monotonic(), _SHORT_S))
            continue
        producer.begin_transaction()
        for number in range(sent + 1, due + 1):
            producer.produce(topic, _VALUE, b'{"id":%d}' % number, next(partitions))
        producer.produce(positions, b"x" * 300, b"position", 0)
        producer.flush(_LIMIT_S)
        producer.commit_transaction(_LIMIT_S)
        sent = due


if __name__ == "__main__":
    main()
