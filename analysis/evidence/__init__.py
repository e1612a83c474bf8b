"""How sure a number is: metrics, intervals, paired tests, folds."""
