"""Where `storage` puts files: one kind of place a file."""
