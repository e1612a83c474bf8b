"""Linear probes (section 4.2) on stored features, and what they lean on."""
