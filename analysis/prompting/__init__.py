"""Zero-shot prompting (section 4.1) on stored vectors."""
