"""The application floor: the product's verbs as functions that return values; no parsing, no printing."""
