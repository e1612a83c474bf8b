"""Style or content: what altered photographs do to features, scores and directions."""
