"""Room 4: cut the stream of parts into batches."""
