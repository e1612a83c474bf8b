"""The demo: a synthetic world with ratings, and the two tiny backbones trained on it."""
