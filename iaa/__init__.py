"""The command line `iaa`: thin, and the only place that imports all of the others."""
