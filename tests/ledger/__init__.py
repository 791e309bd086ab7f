"""A ledger under load, and the judgement of what became of it. Imports nothing of the product but its test servers.

The load
  rows           the tables, random rows, and the one form in which rows are compared
  turn           one transaction under way; private, money, shapes: what it does to which tables; prepared: two phases
  writer         makes up transactions from a seed; workload: several writers in threads
  outcomes       what the writers did, and what a consumer must therefore see
  pipeline       the pipeline file for it

The judgement
  verdict        the invariants, the kinds of trouble that break them, and the counts
  judge          a topic's records against the outcomes: histories (I1 to I4), order (I3, I5), transactions (I5), replay (I6)
  witness        watches a whole run and asks for everything: tapes (I7, I10), checkpoints and sampler (I8, I9), its own
                 look at the ends of partitions (I11); footprint (I12, I13) for whoever has the process
  homes          in which Kafka transaction a record lies
"""
