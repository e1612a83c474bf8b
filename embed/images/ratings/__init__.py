"""Tables of ratings as people write them: which column is what, votes or scores, which file a name means."""
