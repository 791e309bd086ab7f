"""What several test files need: real servers, certificates, topics read back, databases made and dropped."""
