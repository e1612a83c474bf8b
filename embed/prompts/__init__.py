"""Prompts: sets of texts, and their vectors."""
