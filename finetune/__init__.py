"""Fine-tuning (the paper's section 4.3): a backbone trained end to end on vote distributions; what it
predicts goes back into the store."""
