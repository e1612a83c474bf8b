"""Trains a backbone end to end; predictions go back into the store."""
