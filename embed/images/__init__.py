"""The images of a data set: which there are, where they lie, how they become pixels."""
