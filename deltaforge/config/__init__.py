"""The pipeline file: what may be written in it (schema), how it is read (load), and the values it turns into."""
