"""A ledger under load, and the judgement of what became of it. Imports nothing of the product but its test servers.

The load
  rows           the tables, random rows, and the one form in which rows are compared
  turn           one transaction under way; private, money, shapes: what it does to which tables; prepared: two phases
  writer         makes up transactions from a seed; workload: several writers in threads
  outcomes       what the writers did, and what a consumer must therefore see
  pipeline       the pipeline file for it

The judgement
  verdict        the invariants, the kinds of trouble that break them, and the counts
  judge          a topic's records against the outcomes: histories (I1 to I4), order (I3, I5), transactions (I5),
                 replay (I6)
  evidence       all that is known of a run, and its judgement: besides, tapes (I7, I10), checkpoints (I8, I9), the ends
                 of partitions (I11); homes tells in which Kafka transaction a record lies
  witness        watches a run (sampler, java_reader) and brings the evidence
  footprint      I12 and I13, for whoever has the process
"""
