"""Arrays in, results and figures out: prompting, probes, statistics (no torch, no image decoding)."""
