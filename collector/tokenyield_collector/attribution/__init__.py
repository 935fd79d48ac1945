"""Who carries a cost: the rules, and the budgets of those who carry it."""
