"""A seeded storm of faults against one pipeline on real servers, and the verdict on what came out of it.

  schedule   which fault comes when, from a seed alone; pure
  stage      the servers behind their proxies, the process, writers and readers
  process, network, broker, postgres
             the faults: each does its harm, waits, and mends what it did
  storm      rounds of faults, each judged by tests.ledger

`python -m tests.fault --minutes 10` runs it; `python -m tests.nemesis` alone takes the same words.
"""
