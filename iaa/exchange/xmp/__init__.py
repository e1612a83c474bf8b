"""XMP: what photo programs write beside photographs, and into them."""
