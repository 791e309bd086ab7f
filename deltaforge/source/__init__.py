"""Where changes come from: a logical replication slot of PostgreSQL, and the catalog beside it."""
