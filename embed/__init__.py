"""Images and texts in, rows out: data sets, backbones, decoding, the embedding pipeline (needs torch)."""
