"""Whom a cost belongs to: the rules, and the budgets of those who carry it."""
