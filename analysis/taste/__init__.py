"""A person's own taste from few ratings: learned, judged on what was held back, and asked for more."""
