"""A ledger under load, and the judgement of what consumers saw of it. Imports nothing of the product.

rows           the tables, random rows, and the one form in which rows are compared
writer         one seeded writer; workload: several of them in threads
outcomes       what the writers did, and what a consumer must therefore see
debezium_rows  rows out of the records of a topic
judge          the verdict
"""
