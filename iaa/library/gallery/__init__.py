"""A data set while people look at it: its list, its thumbnails, its vectors, and who makes them meanwhile."""
