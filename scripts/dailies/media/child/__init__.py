"""What runs in the media child only: all that opens media (PyAV) and all that computes on pictures (numpy)."""
