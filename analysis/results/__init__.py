"""Results as data: metrics of methods, predictions, tables, published values."""
